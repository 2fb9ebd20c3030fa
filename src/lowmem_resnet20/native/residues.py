"""Arithmetic modulo one prime, on symbolic vectors (:mod:`.intrinsics`).

Primes of Q have at most 37 bits and a little (``SMALL_LIMIT``); their residues are float64 that hold integers,
canonical in [0, p) unless said to be lazy.  The special primes of P have at most 60 bits; their residues are uint64.

Sources: products modulo p by fused multiply-add: van der Hoeven, Lecerf, Quintin, "Modular SIMD arithmetic in
Mathemagix" (ACM TOMS 2016), section 3; products with a stored quotient: Shoup's NTL, as in Harvey, "Faster arithmetic
for number-theoretic transforms" (2014)."""

from __future__ import annotations

from .intrinsics import (
    Value,
    float_bits,
    float_of_bits,
    fma,
    minimum,
    rint,
    select,
    signed_to_float,
)

#: Primes of Q lie below; all bounds of lazy ranges count on it.
SMALL_LIMIT = (1 << 37) + (1 << 32)
#: Special primes lie below, so that 16 of them fit in 64 bits.
LARGE_LIMIT = 1 << 60

_MAGIC = float(1 << 52)
_MAGIC_BITS = 0x4330000000000000  # the representation of 2^52, whose last bits count in ones
_ROUNDING = 1.5 * (1 << 52)
_HALF = 30
_LOW_HALF = (1 << _HALF) - 1
_WORD = 32
_LOW_WORD = (1 << _WORD) - 1


def integer_to_float(a: Value) -> Value:
    """Exact, for integers in [0, 2^52)."""
    return float_of_bits(a | _MAGIC_BITS) - _MAGIC


def float_to_integer(a: Value) -> Value:
    """Exact, for floats that hold integers in [0, 2^52)."""
    return float_bits(a + _MAGIC) & ((1 << 52) - 1)


def rounded_to_integer(a: Value) -> Value:
    """The nearest integer of a float in (-2^51, 2^51), as 64 bits in two's complement."""
    return float_bits(a + _ROUNDING) - float_bits(a.like(_ROUNDING))


class SmallModulus:
    """p < SMALL_LIMIT, and 1/p rounded.

    A product x w, |x| <= 2^49, 0 <= w < p, rounded to h, has an error l = x w - h of at most 2^-53 |x| p <= p/16,
    which one fma gives exactly.  q = rint(h fl(1/p)) is at most 2^49, so two roundings move it from h/p by less than
    1/2 + 2^-3.  Then h - q p is an integer of at most (1/2 + 2^-3) p, which the second fma gives exactly as well, and
    |x w - q p| < 0.7 p.  For |x| <= 2^44 it is below p/2 + p/128."""

    def __init__(self, p: Value, inverse: Value) -> None:
        self.p, self.inverse = p, inverse

    def multiply(self, x: Value, w: Value, _quotient: Value | None = None) -> Value:
        """x w modulo p, lazy: see above."""
        high = x * w
        quotient = rint(high * self.inverse)
        return fma(-quotient, self.p, high) + fma(x, w, -high)

    def reduce(self, x: Value) -> Value:
        """|x| <= 2^53: congruent, at most p/2 + 2 in absolute value: the quotient is below 2^18, its rounding moves
        it by less than 2^-34."""
        return fma(-rint(x * self.inverse), self.p, x)

    def canonical(self, x: Value) -> Value:
        """|x| <= 2^53: congruent, in [0, p).  Subtracting p floor(x / p) instead could give p itself."""
        reduced = self.reduce(x)
        return select(reduced < 0.0, reduced + self.p, reduced)


class LargeModulus:
    """p < LARGE_LIMIT: 16 p fits in 64 bits."""

    def __init__(self, p: Value, inverse: Value) -> None:
        self.p, self.inverse = p.spread(), inverse
        self.multiple = {k: self.p << (k.bit_length() - 1) for k in (1, 2, 4, 8)}

    def multiply(self, y: Value, w: Value, quotient: Value) -> Value:
        """y w modulo p in [0, 4p), for any y of 64 bits and w < p with quotient = floor(2^64 w / p).

        The exact high half of y quotient would leave a remainder in [0, 2p).  Of the four products of 32 bits that it
        consists of the lowest is left out and two are cut off, each less than 1 in it: 0 to 2 multiples of p more.
        """
        w_low, w_high = quotient & _LOW_WORD, quotient >> _WORD
        y_low, y_high = y & _LOW_WORD, y >> _WORD
        high = y_high * w_high + ((y_low * w_high) >> _WORD) + ((y_high * w_low) >> _WORD)
        return y * w - high * self.p

    def lower(self, y: Value, k: int) -> Value:
        """y in [0, 2 k p): congruent, in [0, k p).  k: 1, 2, 4 or 8."""
        return minimum(y, y - self.multiple[k])

    def canonical(self, y: Value, below: int) -> Value:
        """y in [0, below * p): congruent, in [0, p).  below: at most 16."""
        for k in (8, 4, 2, 1):
            if below > k:
                y = self.lower(y, k)
        return y

    def add(self, a: Value, b: Value) -> Value:
        """Canonical residues' sum, canonical."""
        return self.lower(a + b, 1)

    def dot_halves(self, low: Value, high: Value, low_estimate: Value, high_estimate: Value) -> Value:
        """sum_i y_i k_i modulo p, canonical, from the sums with both halves of the k_i = k_i' + 2^30 k_i''.

        low, high: sum_i y_i k_i' and sum_i y_i k_i'' modulo 2^64; the estimates: the same sums, of rounded float64.
        With a sum of the y_i below 16 p and p > 2^50 the quotients are below 2^36, so that rounding moves the
        estimates of quotients by less than 2^-14: reduced sums are at most p/2 + 2^-14 p in absolute value, and exact
        modulo 2^64.  Needs no stored quotient, so a key takes half the memory of Shoup's form, and one pair of
        reductions serves any number of digits."""
        reduced = high - rounded_to_integer(high_estimate * self.inverse) * self.p
        estimate = fma(signed_to_float(reduced), low_estimate.like(float(1 << _HALF)), low_estimate)
        total = (reduced << _HALF) + low
        total = total - rounded_to_integer(estimate * self.inverse) * self.p
        return select(total.is_negative(), total + self.p, total)


def halves(k: Value) -> tuple[Value, Value]:
    """A residue of 60 bits as two of 30, low and high."""
    return k & _LOW_HALF, k >> _HALF
