"""From one set of primes to another, in coefficient form.

A polynomial modulo D = d_1 ... d_n is known by y_i = [x (D/d_i)^-1] mod d_i in [0, d_i); sum_i y_i (D/d_i) is x plus
a small multiple of D, and modulo any other prime m it is sum_i y_i c_i, c_i = D/d_i mod m: the fast conversion of
Bajard, Eynard, Hasan and Zucca (SAC 2016), neither centred nor corrected, as in OpenFHE's ApproxSwitchCRTBasis and
ApproxModDown.  Where y is to be centred (rescaling, modulus raise), D is one prime and nothing is summed: see
:func:`centre`.

Sums of products are exact in float64 because one factor or both are cut into parts; they are reduced once, at the
end.  Three kinds:

* small to small: y whole (37 bits), c centred and in three signed parts of 12 bits; sums below 2^53;
* small to large: y in two parts (18 bits and the rest), c and 2^18 c mod m in two of 30 bits each; sums below 2^52, so
  that they become integers;
* large to small: y in two parts of 30 bits, c and 2^30 c mod m centred and in two signed parts of 18 bits; sums below
  2^53.

The functions that make the parts check the bounds for the primes at hand, whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled
from .intrinsics import LANES, Accumulator, floor, fma, repeated, take, vectorised
from .memory import aligned_copy
from .residues import LargeModulus, SmallModulus, float_to_integer, halves, integer_to_float

_PART = 12
_LOW = 18
_HALF = 30
#: Elements of each source that are converted at once: 13 sources of them, cut in two, stay in the first cache.
PIECE = 128
#: Vectors that one call converts, so that additions overlap.
_UNROLLED = 4


# Kernels ----------------------------------------------------------------------------------------------------------


@vectorised
def _cut_small(dst, d0, gap, src, s0):
    """Eight small residues as y = low + 2^18 high, low at d0 and high ``gap`` further."""
    y = src.load(s0)
    high = floor(y * 2.0**-_LOW)
    dst.store(d0, fma(high, high.like(-(2.0**_LOW)), y))
    dst.store(d0 + gap, high)


@vectorised
def _cut_large(dst, d0, gap, src, s0):
    """Eight large residues as y = low + 2^30 high, as floats, low at d0 and high ``gap`` further."""
    low, high = halves(src.load(s0))
    dst.store(d0, integer_to_float(low))
    dst.store(d0 + gap, integer_to_float(high))


def _sums(y, y0, gap, count, parts, c0, operands, pattern):
    """Sums over ``count`` sources of products of operands and parts of c; pattern: which operand and sum belong to
    each part.

    Source i's operands stand ``gap`` apart from y0 + i operands gap on, its parts of c at c0 + i len(pattern).
    """
    sums = max(accumulator for _, accumulator in pattern) + 1
    zero = y.constant(0.0)
    cells = [[Accumulator(zero) for _ in range(_UNROLLED)] for _ in range(sums)]
    with repeated(count) as i:
        factors = [parts.scalar(c0 + i * len(pattern) + j).spread() for j in range(len(pattern))]
        for v in range(_UNROLLED):
            loaded = [y.load(y0 + (i * operands + k) * gap + LANES * v) for k in range(operands)]
            for factor, (operand, accumulator) in zip(factors, pattern, strict=True):
                cell = cells[accumulator][v]
                cell.value = fma(loaded[operand], factor, cell.value)
    return [[cells[s][v].value for s in range(sums)] for v in range(_UNROLLED)]


@vectorised
def _small_to_small(dst, d0, y, y0, gap, count, parts, c0, p, inverse):
    """32 elements: |result| <= p/2 + 1."""
    modulus = SmallModulus(p, inverse)
    sums = _sums(y, y0, gap, count, parts, c0, 1, [(0, 0), (0, 1), (0, 2)])
    for v, (s0, s1, s2) in enumerate(sums):
        s1 = fma(modulus.reduce(s2), s2.like(2.0**_PART), s1)
        s0 = fma(modulus.reduce(s1), s1.like(2.0**_PART), s0)
        dst.store(d0 + LANES * v, modulus.reduce(s0))


@vectorised
def _small_to_large(dst, d0, y, y0, gap, count, parts, c0, shift, shift_quotient, k, p, inverse):
    """32 elements: results below 5 p.  shift[k]: 2^30 modulo p, with its quotient."""
    modulus = LargeModulus(p, inverse)
    factor = shift.scalar(k).spread(), shift_quotient.scalar(k).spread()
    sums = _sums(y, y0, gap, count, parts, c0, 2, [(0, 0), (0, 1), (1, 2), (1, 3)])
    for v, parts_of in enumerate(sums):
        low, high, shifted_low, shifted_high = (float_to_integer(part) for part in parts_of)
        dst.store(d0 + LANES * v, low + shifted_low + modulus.multiply(high + shifted_high, *factor))


@vectorised
def _large_to_small(dst, d0, y, y0, gap, count, parts, c0, p, inverse):
    """32 elements: |result| < 2 p."""
    modulus = SmallModulus(p, inverse)
    sums = _sums(y, y0, gap, count, parts, c0, 2, [(0, 0), (0, 1), (1, 0), (1, 1)])
    for v, (low, high) in enumerate(sums):
        shifted = modulus.multiply(modulus.reduce(high), high.like(2.0**_LOW))
        dst.store(d0 + LANES * v, modulus.reduce(low) + shifted)


@compiled
def mod_up(counter, jobs, scratch, small, large, y, layout, parts, large_parts, shift, shift_quotient, q, p):
    """Digits of one polynomial, modulo all primes of Q outside each digit, and modulo all of P.  A job: a tile of a
    digit.

    y: coefficient tiles, towers of a tile one after the other; layout: (digits, towers, alpha, k, tiles, stride,
    elements of a tile). small: (digits, tiles, towers, stride), |.| <= q/2 + 1; large: (digits, tiles, k, stride),
    below 5 p.  parts: (digits, towers, alpha, 3); large_parts: (digits, k, alpha, 4).  q, p: tables of both sets."""
    _, towers, alpha, k, tiles, stride, size = layout
    job = take(counter)
    while job < jobs:
        digit, tile = job // tiles, job % tiles
        first = digit * alpha
        count = min(alpha, towers - first)
        for start in range(0, size, PIECE):
            source = (tile * towers + first) * stride + start
            for i in range(count):
                for e in range(0, PIECE, LANES):
                    _cut_small(scratch, 2 * i * PIECE + e, PIECE, y, source + i * stride + e)
            for t in range(towers):
                if first <= t < first + count:
                    continue
                target = ((digit * tiles + tile) * towers + t) * stride + start
                for e in range(0, PIECE, LANES * _UNROLLED):
                    _small_to_small(small, target + e, y, source + e, stride, count, parts,
                                    (digit * towers + t) * alpha * 3, q.modulus[t], q.inverse[t])  # fmt: skip
            for j in range(k):
                target = ((digit * tiles + tile) * k + j) * stride + start
                for e in range(0, PIECE, LANES * _UNROLLED):
                    _small_to_large(large, target + e, scratch, e, PIECE, count, large_parts,
                                    (digit * k + j) * alpha * 4, shift, shift_quotient, j, p.modulus[j],
                                    p.inverse[j])  # fmt: skip
        job = take(counter)


@compiled
def mod_down(counter, jobs, scratch, small, y, layout, parts, q):
    """Polynomials modulo P, modulo the primes of Q.  A job: a tile of a polynomial.

    y: (polynomials, tiles, k, stride); small: (polynomials, tiles, towers, stride), |.| < 2 q; layout: (towers, k,
    stride, elements of a tile); parts: (towers, k, 4)."""
    towers, k, stride, size = layout
    job = take(counter)
    while job < jobs:
        for start in range(0, size, PIECE):
            for i in range(k):
                for e in range(0, PIECE, LANES):
                    _cut_large(scratch, 2 * i * PIECE + e, PIECE, y, (job * k + i) * stride + start + e)
            for t in range(towers):
                target = (job * towers + t) * stride + start
                for e in range(0, PIECE, LANES * _UNROLLED):
                    _large_to_small(
                        small, target + e, scratch, e, PIECE, k, parts, t * k * 4, q.modulus[t], q.inverse[t]
                    )
        job = take(counter)


@vectorised
def _centre(x, at, p, inverse):
    x.store(at, SmallModulus(p, inverse).reduce(x.load(at)))


@compiled
def centre(counter, jobs, scratch, x, size, modulus, inverse):
    """Canonical residues modulo one small prime, in place in [-p/2, p/2]: what the transform takes modulo any.  A
    job: ``size`` elements."""
    job = take(counter)
    while job < jobs:
        for e in range(job * size, (job + 1) * size, LANES):
            _centre(x, e, modulus, inverse)
        job = take(counter)


# Constants --------------------------------------------------------------------------------------------------------


def _signed_parts(value: int, bits: int, count: int) -> list[int]:
    """value = sum_j parts[j] 2^(bits j), all parts but the last in [-2^(bits - 1), 2^(bits - 1))."""
    parts = []
    for _ in range(count - 1):
        part = (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
        parts.append(part)
        value = (value - part) >> bits
    return [*parts, value]


def _centred(value: int, p: int) -> int:
    value %= p
    return value - p if value > p // 2 else value


def _cofactors(sources: Sequence[int]) -> list[int]:
    product = prod(sources)
    return [product // source for source in sources]


def _check(bounds: Sequence[int], limit: int) -> None:
    """Sums of products stay where float64 counts in ones."""
    if max(bounds) >= limit:
        raise ValueError(
            f"sums of products reach 2^{max(bounds).bit_length()}: too many primes in a digit, or too long ones"
        )


def small_to_small_parts(sources: Sequence[int], target: int) -> NDArray[np.float64]:
    """(sources, 3) parts of D/d_i modulo a small prime."""
    parts = [_signed_parts(_centred(c, target), _PART, 3) for c in _cofactors(sources)]
    _check([sum(q * abs(part[j]) for q, part in zip(sources, parts, strict=True)) for j in range(3)], 1 << 53)
    return np.array(parts, np.float64)


def small_to_large_parts(sources: Sequence[int], target: int) -> NDArray[np.float64]:
    """(sources, 4) parts of D/d_i and 2^18 D/d_i modulo a large prime."""
    parts = []
    for c in _cofactors(sources):
        whole, shifted = c % target, (c << _LOW) % target
        parts.append([whole % (1 << _HALF), whole >> _HALF, shifted % (1 << _HALF), shifted >> _HALF])
    lows, highs = [1 << _LOW] * len(sources), [(q >> _LOW) + 1 for q in sources]
    bounds = [sum(y * part[j] for y, part in zip(highs if j > 1 else lows, parts, strict=True)) for j in range(4)]
    _check(bounds, 1 << 52)
    return np.array(parts, np.float64)


def large_to_small_parts(sources: Sequence[int], target: int) -> NDArray[np.float64]:
    """(sources, 4) parts of D/d_i and 2^30 D/d_i modulo a small prime."""
    parts = []
    for c in _cofactors(sources):
        parts.append([p for value in (c, c << _HALF) for p in _signed_parts(_centred(value, target), _LOW, 2)])
    _check([sum((1 << _HALF) * (abs(part[j]) + abs(part[j + 2])) for part in parts) for j in range(2)], 1 << 53)
    return np.array(parts, np.float64)


def cofactor_inverses(sources: Sequence[int]) -> list[int]:
    """(D/d_i)^-1 modulo d_i: what makes y of x."""
    return [pow(c, -1, source) for c, source in zip(_cofactors(sources), sources, strict=True)]


def digit_parts(q: Sequence[int], p: Sequence[int], alpha: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """mod_up's ``parts`` and ``large_parts`` for a polynomial modulo ``q``; what is not used is zero."""
    digits = -(-len(q) // alpha)
    small = np.zeros((digits, len(q), alpha, 3))
    large = np.zeros((digits, len(p), alpha, 4))
    for digit in range(digits):
        sources = q[digit * alpha : (digit + 1) * alpha]
        for t, target in enumerate(q):
            if t // alpha != digit:
                small[digit, t, : len(sources)] = small_to_small_parts(sources, target)
        for j, target in enumerate(p):
            large[digit, j, : len(sources)] = small_to_large_parts(sources, target)
    return aligned_copy(small), aligned_copy(large)
