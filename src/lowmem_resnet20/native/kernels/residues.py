"""Arithmetic modulo one prime, on symbolic vectors (:mod:`.intrinsics`).

Primes of Q lie below 2^30 and their residues are uint32; the special primes of P lie between 2^59 and 2^60 and theirs
are uint64.  Residues are canonical, in [0, p), unless said to be lazy: a word has room for 4 p, and for 16 p.

Products with a stored factor w have its quotient floor(2^32 w / p), or floor(2^64 w / p), stored beside it (Shoup's
NTL, as in Harvey, "Faster arithmetic for number-theoretic transforms", 2014).  Sums of products are exact and reduced
once: in 64 bits by Montgomery's method ("Modular multiplication without trial division", 1985), or in three sums of
30-bit parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .intrinsics import Accumulator, Array, Value, lower_halves, minimum, upper_halves
from .memory import aligned

#: Primes of Q lie below, special primes between the others.
SMALL_LIMIT = 1 << 30
LARGE_RANGE = 1 << 59, 1 << 60
#: Numbers that are kept of each prime: see :func:`constants`.
CONSTANTS = 8
#: Products that a sum takes before it is settled.
TERMS = 8
#: Products modulo a special prime that a sum takes in all.
MOST_LARGE_TERMS = 15

_HALF = 30
_LOW_HALF = (1 << _HALF) - 1
_LOW_WORD = (1 << 32) - 1

#: A factor taken apart for the products of sums.
Shared = tuple[Value, Value]


class Small(NamedTuple):
    """A stored factor modulo a small prime, and the quotients of its even lanes and of its odd ones."""

    factor: Value
    even: Value
    odd: Value


class _Modulus:
    """What residues of both sizes share.

    p: the prime, in all lanes; ROOM: multiples of it that a word holds; PRODUCT: those that products are below."""

    ROOM: int
    PRODUCT: int
    p: Value

    def lower(self, y: Value, k: int) -> Value:
        """y in [0, 2 k p): congruent, in [0, k p).  k: a power of two below ROOM."""
        return minimum(y, y - self.multiple(k))

    def multiple(self, k: int) -> Value:
        """k p, k a power of two."""
        return self.p << (k.bit_length() - 1) if k > 1 else self.p

    def canonical(self, y: Value, below: int) -> Value:
        """y in [0, below * p): congruent, in [0, p).  below: at most ROOM."""
        for k in (8, 4, 2, 1):
            if below > k:
                y = self.lower(y, k)
        return y


class SmallModulus(_Modulus):
    """p < 2^30, residues in lanes of 32 bits."""

    ROOM, PRODUCT = 4, 2

    def __init__(self, constants: Array, k: Value) -> None:
        self._at = lambda i: constants.scalar(k * CONSTANTS + i)
        lanes = constants.lanes
        self.p, self._constants, self._place = self._at(0).spread(lanes), constants, k * CONSTANTS

    def factor(self, table: Array, at: Value) -> Small:
        """A factor for all lanes, its quotient one element further."""
        lanes, quotient = table.lanes, table.scalar(at + 1).extended().spread(table.lanes // 2)
        return Small(table.scalar(at).spread(lanes), quotient, quotient)

    def factors(self, table: Array, at: Value, gap: int) -> Small:
        """A factor for each lane, their quotients ``gap`` elements further."""
        quotients = table.load(at + gap)
        return Small(table.load(at), quotients.even(), quotients.odd())

    def multiply(self, y: Value, w: Small) -> Value:
        """y w modulo p in [0, 2p), for any y of 32 bits: the quotient is at most 1 too small."""
        high = upper_halves(y.even() * w.even, y.odd() * w.odd)
        return y * w.factor - high * self.p

    def sum(self) -> SmallSum:
        return SmallSum(self)

    def shared(self, m: Value) -> Shared:
        """A factor of several products in sums: its even lanes and its odd ones."""
        return m.even(), m.odd()

    def reduced(self, even: Value, odd: Value) -> Value:
        """2^-32 times sums below 2 p 2^32 in lanes of 64 bits, in (0, 3p).

        With m = sum p^-1 modulo 2^32, sum - m p is a multiple of 2^32 in (-p 2^32, 2 p 2^32): the lower words are
        equal, and the upper ones are subtracted."""
        m = lower_halves(even, odd) * self._at(1).spread(2 * even.lanes)
        p = self._at(0).extended().spread(even.lanes)
        return upper_halves(even, odd) - upper_halves(m.even() * p, m.odd() * p) + self.p

    def of_integers(self, v: Value) -> Value:
        """Of integers below 2^62 in absolute value, in lanes of 64 bits, residues in [0, 4p).

        The multiple of p that makes them positive is below 2^62 + 2^30, so the upper words fit in 32 bits; they count
        2^32 each."""
        offset = self._at(4).extended() | self._at(5).extended() << 32
        unit, quotient, one, p = (self._at(i).extended().spread(v.lanes) for i in (2, 3, 6, 0))
        v = v + offset
        low, high = v & _LOW_WORD, v >> 32
        return high * unit - (high * quotient >> 32) * p + low - (low * one >> 32) * p

    def restored(self, y: Value) -> Value:
        """2^32 y in [0, 2p), for any y."""
        return self.multiply(y, self.factor(self._constants, self._place + 2))


class SmallSum:
    """sum_j x_j m_j of residues in lanes of 32 bits, exact in lanes of 64.

    Factors x lie below 2^30, m below p: TERMS = 8 products add at most 8 2^30 p = 2 p 2^32, to what is below that.  So
    sums of more are settled after each 8, and shorter ones need not be."""

    def __init__(self, modulus: SmallModulus) -> None:
        self.modulus = modulus
        self._cells = [Accumulator(modulus._constants.constant(0, 64)) for _ in range(2)]

    def add(self, x: Value, m: Shared) -> None:
        self._add(x, m[0], m[1])

    def add_short(self, y: Array, at: Value, m: Value) -> None:
        """The product of y's vector at a place and the scalar m."""
        x, factor = y.load(at), m.extended().spread(self._cells[0].value.lanes)
        self._add(x, factor, factor)

    def _add(self, x: Value, even: Value, odd: Value) -> None:
        for cell, part, factor in zip(self._cells, (x.even(), x.odd()), (even, odd), strict=True):
            cell.value = cell.value + part * factor

    def settle(self) -> None:
        """From below 4 p 2^32 < 2^64 to below 2 p 2^32."""
        bound = self.modulus._at(0).extended() << 33
        for cell in self._cells:
            cell.value = minimum(cell.value, cell.value - bound.spread(cell.value.lanes))

    def lazy(self) -> Value:
        """2^-32 times the sum, in (0, 3p)."""
        return self.modulus.reduced(*(cell.value for cell in self._cells))

    def canonical(self) -> Value:
        """The sum in [0, p)."""
        return self.modulus.lower(self.modulus.restored(self.lazy()), 1)


class Large(NamedTuple):
    """A stored factor modulo a special prime and its quotient."""

    factor: Value
    quotient: Value


class LargeModulus(_Modulus):
    """2^59 < p < 2^60, residues in lanes of 64 bits."""

    ROOM, PRODUCT = 16, 4

    def __init__(self, constants: Array, k: Value) -> None:
        self._constants, self._place = constants, k * CONSTANTS
        self.p = constants.scalar(self._place).spread(constants.lanes)

    def factor(self, table: Array, at: Value) -> Large:
        return Large(table.scalar(at).spread(table.lanes), table.scalar(at + 1).spread(table.lanes))

    def factors(self, table: Array, at: Value, gap: int) -> Large:
        return Large(table.load(at), table.load(at + gap))

    def multiply(self, y: Value, w: Large) -> Value:
        """y w modulo p in [0, 4p), for any y of 64 bits.

        The exact high half of y quotient would leave a remainder in [0, 2p).  Of the four products of 32 bits that it
        consists of the lowest is left out and two are cut off, each less than 1 in it: 0 to 2 multiples of p more.
        """
        w_low, w_high = w.quotient & _LOW_WORD, w.quotient >> 32
        y_low, y_high = y & _LOW_WORD, y >> 32
        high = y_high * w_high + ((y_low * w_high) >> 32) + ((y_high * w_low) >> 32)
        return y * w.factor - high * self.p

    def of_integers(self, v: Value) -> Value:
        """Of integers below 2^62 in absolute value residues in [0, 16 p): 2^62 <= 8 p."""
        return v + self.multiple(8)

    def sum(self) -> LargeSum:
        return LargeSum(self)

    def shared(self, m: Value) -> Shared:
        """A factor of several products in sums: its halves of 30 bits."""
        return m & _LOW_HALF, m >> _HALF

    def unit(self, parts: int) -> Large:
        """2^(30 parts) modulo p."""
        if parts == 0:
            return Large(self.p.like(1), self._constants.scalar(self._place + 1).spread(self.p.lanes))
        return self.factor(self._constants, self._place + 2 * parts)


class LargeSum:
    """sum_j x_j m_j of residues below 2^60 in lanes of 64 bits, exact in three sums of products of 30-bit halves.

    low + 2^30 middle + 2^60 high.  TERMS = 8 products add at most 8 (2^30 - 1)^2 to low and high, and twice that, 2^64
    - 2^35 + 16, to middle; settled, as sums of more must be after each 8, low and middle are below 2^30, but for the
    2^34 that low carries to middle before it is settled itself.  high takes what 15 products add, and 2^34 carries each
    time."""

    def __init__(self, modulus: LargeModulus) -> None:
        self.modulus = modulus
        self._cells = [Accumulator(modulus._constants.constant(0, 64)) for _ in range(3)]

    def add(self, x: Value, m: Shared) -> None:
        x_low, x_high = x & _LOW_HALF, x >> _HALF
        m_low, m_high = m
        self._add(0, x_low * m_low)
        self._add(1, x_low * m_high + x_high * m_low)
        self._add(2, x_high * m_high)

    def add_short(self, y: Array, at: Value, m: Value) -> None:
        """The product of elements of y below 2^30, of 32 bits, from a place on, and the scalar m."""
        x = y.load_extended(at)
        self._add(0, x * (m & _LOW_HALF))
        self._add(1, x * (m >> _HALF))

    def _add(self, i: int, product: Value) -> None:
        self._cells[i].value = self._cells[i].value + product

    def settle(self) -> None:
        """Carries from each sum to the next."""
        for low, high in zip(self._cells, self._cells[1:], strict=False):
            high.value = high.value + (low.value >> _HALF)
            low.value = low.value & _LOW_HALF

    def lazy(self) -> Value:
        """In [0, 12 p)."""
        products = [self.modulus.multiply(cell.value, self.modulus.unit(i)) for i, cell in enumerate(self._cells)]
        return products[0] + products[1] + products[2]

    def canonical(self) -> Value:
        return self.modulus.canonical(self.lazy(), 12)


def modulus(constants: Array, k: Value) -> Any:
    """Prime k of those whose constants these are."""
    return (SmallModulus if constants.bits == 32 else LargeModulus)(constants, k)


def constants(primes: Sequence[int], dtype: Any) -> NDArray:
    """(primes, CONSTANTS).  Small: p, 1/p modulo 2^32, 2^32 modulo p with its quotient, the least multiple of p from
    2^62 on in two words, floor(2^32 / p); large: p, floor(2^64 / p), 2^30 and 2^60 modulo p with their quotients."""
    table = aligned(len(primes), CONSTANTS, dtype=dtype)
    table[...] = 0
    for row, p in zip(table, primes, strict=True):
        if dtype == np.uint32:
            multiple = -(-(1 << 62) // p) * p
            row[:4] = p, pow(p, -1, 1 << 32), *with_quotient(1 << 32, p, dtype)
            row[4:7] = multiple & _LOW_WORD, multiple >> 32, (1 << 32) // p
        else:
            row[:6] = p, (1 << 64) // p, *with_quotient(1 << 30, p, dtype), *with_quotient(1 << 60, p, dtype)
    return table


def with_quotient(factor: int, p: int, dtype: Any) -> tuple[int, int]:
    """A factor modulo p and its quotient, as they are stored."""
    return factor % p, (factor % p << 8 * np.dtype(dtype).itemsize) // p
