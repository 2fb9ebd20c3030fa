"""Sums and products of whole polynomials in evaluation form, and their inner products with keys.

All that is sums of products takes addresses of its operands: one pass over memory does any number of terms, whose sum
stays in registers.  A job is a piece of a tower.

Plaintexts of n slots are polynomials in X^(N/2n): in evaluation form N/2n neighbouring positions of OpenFHE's order,
vectors in memory, are equal, and one is kept (:mod:`.encoding`).  Vector v of a polynomial meets vector v >> shift of
such a plaintext.

Keys and plaintexts modulo small primes lie in two planes, the low 32 bits and the rest: 5 bytes a residue.
"""

from __future__ import annotations

from .compilation import compiled
from .intrinsics import LANES, Accumulator, at_address, fma, repeated, take, unsigned_to_float, vectorised
from .ntt import forward
from .residues import LargeModulus, SmallModulus, halves, integer_to_float

#: Elements of a job, and of what a kernel gathers into cache at once.
PIECE = 1024
#: Vectors that one call works on, so that products of several overlap.
_UNROLLED = 4
_STEP = _UNROLLED * LANES
#: Terms that one exact sum modulo large primes takes: values below 16 p.
MOST_LARGE_TERMS = 15


# Modulo small primes ------------------------------------------------------------------------------------------------


def _each() -> range:
    """Offsets of the vectors that one call works on."""
    return range(0, _STEP, LANES)


def _kept(element, offset, shift):
    """Where a plaintext keeps the vector that stands at ``element`` + ``offset`` (a multiple of eight)."""
    return (((element + offset) >> 3) >> shift) << 3


def _small_sum(out, o0, xs, j0, count, x0, factors_of, p, inverse):
    """sum_j x_j m_j, canonical.  xs: addresses (count,) from j0 on; factors_of: of j, what gives m_j's vectors by
    offset."""
    modulus = SmallModulus(p, inverse)
    totals = [Accumulator(out.constant(0.0)) for _ in _each()]
    with repeated(count) as j:
        x, factor = at_address(xs.scalar(j0 + j), "float64"), factors_of(j0 + j)
        for total, v in zip(totals, _each(), strict=True):
            total.value = total.value + modulus.multiply(x.load(x0 + v), factor(v))
    for total, v in zip(totals, _each(), strict=True):
        out.store(o0 + v, modulus.canonical(total.value))


def _planes(low, high, at):
    """Residues that lie in two planes."""
    return integer_to_float(low.load(at) | (high.load(at) << 32))


@vectorised
def _small_terms(out, o0, xs, ms, j0, count, x0, p, inverse):
    def factors_of(j):
        m = at_address(ms.scalar(j), "float64")
        return lambda v: m.load(x0 + v)

    _small_sum(out, o0, xs, j0, count, x0, factors_of, p, inverse)


@vectorised
def _small_plaintext_terms(out, o0, xs, lows, highs, j0, count, element, tower, n, shift, p, inverse):
    def factors_of(j):
        low, high = at_address(lows.scalar(j), "uint32"), at_address(highs.scalar(j), "uint8")
        return lambda v: _planes(low, high, tower * (n >> shift) + _kept(element, v, shift))

    _small_sum(out, o0, xs, j0, count, tower * n + element, factors_of, p, inverse)


@compiled
def small_sums(counter, jobs, scratch, out, xs, ms, counts, n, modulus, inverse):
    """out[i] = sum_j xs[i, j] ms[i, j], canonical, for each polynomial i; a job does a piece of all polynomials,
    which may share operands.

    out: (polynomials, towers, N); xs, ms: int64 (polynomials, terms), addresses of first towers; counts:
    (polynomials,) terms of each, at most 2^12; modulus, inverse: (towers,)."""
    pieces, polynomials, terms = n // PIECE, len(counts), xs.shape[1]
    towers, places, factors = len(modulus), xs.reshape(-1), ms.reshape(-1)
    job = take(counter)
    while job < jobs:
        t, start = job // pieces, job % pieces * PIECE
        for i in range(polynomials):
            for e in range(start, start + PIECE, _STEP):
                _small_terms(out, (i * towers + t) * n + e, places, factors, i * terms, counts[i], t * n + e,
                             modulus[t], inverse[t])  # fmt: skip
        job = take(counter)


@compiled
def small_plaintext_sums(counter, jobs, scratch, out, xs, lows, highs, counts, n, shift, modulus, inverse):
    """The same with plaintexts for ms.  lows, highs: int64 (polynomials, terms), addresses of their planes' first
    towers, of N >> shift elements each."""
    pieces, polynomials, terms = n // PIECE, len(counts), xs.shape[1]
    towers, places, lows, highs = len(modulus), xs.reshape(-1), lows.reshape(-1), highs.reshape(-1)
    job = take(counter)
    while job < jobs:
        t, start = job // pieces, job % pieces * PIECE
        for i in range(polynomials):
            for e in range(start, start + PIECE, _STEP):
                _small_plaintext_terms(out, (i * towers + t) * n + e, places, lows, highs, i * terms, counts[i],
                                       e, t, n, shift, modulus[t], inverse[t])  # fmt: skip
        job = take(counter)


@vectorised
def _small_linear(out, o0, xs, factors, j0, f0, count, x0, p, inverse):
    """sum_j x_j factors[f0 + 2 j], canonical."""
    modulus = SmallModulus(p, inverse)
    totals = [Accumulator(out.constant(0.0)) for _ in _each()]
    with repeated(count) as j:
        x, factor = at_address(xs.scalar(j0 + j), "float64"), factors.scalar(f0 + j * 2).spread()
        for total, v in zip(totals, _each(), strict=True):
            total.value = total.value + modulus.multiply(x.load(x0 + v), factor)
    for total, v in zip(totals, _each(), strict=True):
        out.store(o0 + v, modulus.canonical(total.value))


@compiled
def small_combinations(counter, jobs, scratch, out, xs, factors, n, modulus, inverse):
    """out[i] = sum_j xs[i, j] factors[t, j, h], modulo prime t, h the half that a position is in, canonical.

    out: (polynomials, towers, N); xs: int64 (polynomials, terms), addresses of first towers; factors: (towers, terms,
    2) in [0, p)."""
    pieces, polynomials, terms = n // PIECE, xs.shape[0], xs.shape[1]
    towers, places, constants = len(modulus), xs.reshape(-1), factors.reshape(-1)
    job = take(counter)
    while job < jobs:
        t, start = job // pieces, job % pieces * PIECE
        for i in range(polynomials):
            for e in range(start, start + PIECE, _STEP):
                half = 1 if 2 * e >= n else 0
                _small_linear(out, (i * towers + t) * n + e, places, constants, i * terms,
                              t * terms * 2 + half, terms, t * n + e, modulus[t], inverse[t])  # fmt: skip
        job = take(counter)


@vectorised
def _add_constant(out, o0, x, x0, constant, c0, p, inverse):
    out.store(o0, SmallModulus(p, inverse).canonical(x.load(x0) + constant.scalar(c0)))


@compiled
def add_constants(counter, jobs, scratch, out, x, constants, n, modulus, inverse):
    """out[i] = x[i] + constants[i, h], h the half that a position is in.  out, x: (towers, N); constants: (towers, 2)
    in [0, p)."""
    pieces = n // PIECE
    job = take(counter)
    while job < jobs:
        row, start = job // pieces, job % pieces * PIECE
        for e in range(start, start + PIECE, LANES):
            half = 1 if 2 * e >= n else 0
            _add_constant(out, row * n + e, x, row * n + e, constants, 2 * row + half, modulus[row], inverse[row])
        job = take(counter)


@vectorised
def _add_element(out, o0, x, x0, low, high, m0, p, inverse):
    out.store(o0, SmallModulus(p, inverse).canonical(x.load(x0) + _planes(low, high, m0)))


@compiled
def add_plaintext(counter, jobs, scratch, out, x, low, high, shift, n, modulus, inverse):
    """out[i] = x[i] + m[i].  out, x: (towers, N); low, high: planes of m, (towers, N >> shift)."""
    pieces = n // PIECE
    job = take(counter)
    while job < jobs:
        row, start = job // pieces, job % pieces * PIECE
        for e in range(start, start + PIECE, LANES):
            kept = row * (n >> shift) + (e // LANES >> shift) * LANES
            _add_element(out, row * n + e, x, row * n + e, low, high, kept, modulus[row], inverse[row])
        job = take(counter)


# Keys ---------------------------------------------------------------------------------------------------------------


@vectorised
def _small_key_terms(out, o0, gap, digits, d0, count, low, high, k0, digit_gap, half_gap, p, inverse):
    """Both halves' sum_g d_g k_g, lazy, at o0 and ``gap`` further; digits PIECE apart, a key's ``digit_gap``, its
    halves ``half_gap``."""
    modulus = SmallModulus(p, inverse)
    totals = {(half, v): Accumulator(out.constant(0.0)) for half in range(2) for v in _each()}
    with repeated(count) as g:
        for (half, v), total in totals.items():
            at = k0 + g * digit_gap + half_gap * half + v
            total.value = total.value + modulus.multiply(digits.load(d0 + g * PIECE + v), _planes(low, high, at))
    for (half, v), total in totals.items():
        out.store(o0 + gap * half + v, total.value)


@vectorised
def _add_multiple(out, o0, x, x0, factor, p, inverse):
    for v in _each():
        out.store(o0 + v, out.load(o0 + v) + SmallModulus(p, inverse).multiply(x.load(x0 + v), factor))


@compiled
def _move(buffer, b0, source, s0, permutation, start):
    """A piece of a permuted polynomial into cache; an empty permutation is none."""
    piece = buffer[b0 : b0 + PIECE]
    if len(permutation):
        row, places = source[s0:], permutation[start : start + PIECE]
        for e in range(PIECE):
            piece[e] = row[places[e]]
    else:
        row = source[s0 + start : s0 + start + PIECE]
        for e in range(PIECE):
            piece[e] = row[e]


@compiled
def small_key_sums(counter, jobs, scratch, out, own, digits, alpha, n, towers, count, low, high, key_shape,
                   added, factor, permutation, modulus, inverse):  # fmt: skip
    """Inner products of a polynomial's raised digits with a key, modulo the primes of Q, both permuted, and additions
    to them.

    out: (2, towers, N), |.| < (count + 1) (p/2 + p/128); own: (towers, N) the polynomial; digits: (count, towers, N)
    raised digits, of which towers inside each digit are not read; low, high: the key's planes (2, key_shape[0]
    digits, key_shape[1] towers, N), permuted already; added: (0, 1 or 2, towers, N) times factor (towers,) is added
    to the halves."""
    pieces = n // PIECE
    digit_gap, half_gap = key_shape[1] * n, key_shape[0] * key_shape[1] * n
    job = take(counter)
    while job < jobs:
        t, start = job // pieces, job % pieces * PIECE
        p, inv = modulus[t], inverse[t]
        for g in range(count):
            if t // alpha == g:
                _move(scratch, g * PIECE, own, t * n, permutation, start)
            else:
                _move(scratch, g * PIECE, digits, (g * towers + t) * n, permutation, start)
        for e in range(0, PIECE, _STEP):
            _small_key_terms(out, t * n + start + e, towers * n, scratch, e, count, low, high, t * n + start + e,
                             digit_gap, half_gap, p, inv)  # fmt: skip
        for half in range(len(added) // (towers * n)):
            _move(scratch, 0, added, (half * towers + t) * n, permutation, start)
            for e in range(0, PIECE, _STEP):
                _add_multiple(out, (half * towers + t) * n + start + e, scratch, e, factor[t], p, inv)
        job = take(counter)


# Modulo large primes --------------------------------------------------------------------------------------------------


class _LargeSum:
    """sum_j y_j k_j modulo a large prime, by halves of the k_j; see LargeModulus.dot_halves."""

    def __init__(self, zero, float_zero):
        self.exact = [Accumulator(zero) for _ in range(2)]
        self.estimates = [Accumulator(float_zero) for _ in range(2)]

    def add(self, y, k):
        rounded = unsigned_to_float(y)
        for half, exact, estimate in zip(halves(k), self.exact, self.estimates, strict=True):
            exact.value = exact.value + y * half
            estimate.value = fma(rounded, integer_to_float(half), estimate.value)

    def reduced(self, modulus):
        return modulus.dot_halves(*(cell.value for cell in (*self.exact, *self.estimates)))


@vectorised
def _large_terms(out, o0, added, xs, ms, j0, count, element, tower, n, shift, p, inverse):
    """added + sum_j x_j m_j, canonical, for at most MOST_LARGE_TERMS; as _small_plaintext_terms; added: 1 to add
    to what is there, else 0."""
    modulus = LargeModulus(p, inverse)
    totals = [_LargeSum(out.constant(0), (inverse * 0.0).spread()) for _ in _each()]
    with repeated(count) as j:
        x, m = (at_address(addresses.scalar(j0 + j), "uint64") for addresses in (xs, ms))
        for total, v in zip(totals, _each(), strict=True):
            total.add(x.load(tower * n + element + v), m.load(tower * (n >> shift) + _kept(element, v, shift)))
    for total, v in zip(totals, _each(), strict=True):
        out.store(o0 + v, modulus.add(out.load(o0 + v) * added, total.reduced(modulus)))


@compiled
def large_sums(counter, jobs, scratch, out, xs, ms, counts, n, shift, modulus, inverse):
    """The same as small_plaintext_sums, modulo large primes: plaintexts are uint64; any number of terms."""
    pieces, polynomials, terms = n // PIECE, len(counts), xs.shape[1]
    towers, places, factors = len(modulus), xs.reshape(-1), ms.reshape(-1)
    job = take(counter)
    while job < jobs:
        t, start = job // pieces, job % pieces * PIECE
        for i in range(polynomials):
            for first in range(0, counts[i], MOST_LARGE_TERMS):
                count = min(MOST_LARGE_TERMS, counts[i] - first)
                for e in range(start, start + PIECE, _STEP):
                    _large_terms(out, (i * towers + t) * n + e, min(first, 1), places, factors,
                                 i * terms + first, count, e, t, n, shift, modulus[t], inverse[t])  # fmt: skip
        job = take(counter)


@vectorised
def _large_addition(out, o0, xs, j0, count, x0, p, inverse):
    modulus = LargeModulus(p, inverse)
    total = Accumulator(out.constant(0))
    with repeated(count) as j:
        total.value = modulus.add(total.value, at_address(xs.scalar(j0 + j), "uint64").load(x0))
    out.store(o0, total.value)


@compiled
def large_additions(counter, jobs, scratch, out, xs, n, modulus, inverse):
    """out[i] = sum_j xs[i, j], canonical.  out: (polynomials, k, N); xs: int64 (polynomials, terms), addresses of
    canonical residues, of out's own as well."""
    pieces, polynomials, terms = n // PIECE, xs.shape[0], xs.shape[1]
    places, towers = xs.reshape(-1), len(modulus)
    job = take(counter)
    while job < jobs:
        t, start = job // pieces, job % pieces * PIECE
        for i in range(polynomials):
            for e in range(start, start + PIECE, LANES):
                _large_addition(
                    out, (i * towers + t) * n + e, places, i * terms, terms, t * n + e, modulus[t], inverse[t]
                )
        job = take(counter)


@vectorised
def _large_key_terms(out, o0, gap, digits, d0, count, key, k0, digit_gap, half_gap, p, inverse):
    """Both halves' sum_g d_g k_g, canonical; as _small_key_terms."""
    modulus = LargeModulus(p, inverse)
    totals = {(half, v): _LargeSum(out.constant(0), (inverse * 0.0).spread()) for half in range(2) for v in _each()[:2]}
    with repeated(count) as g:
        for (half, v), total in totals.items():
            total.add(digits.load(d0 + g * PIECE + v), key.load(k0 + g * digit_gap + half_gap * half + v))
    for (half, v), total in totals.items():
        out.store(o0 + gap * half + v, total.reduced(modulus))


@vectorised
def _add_large(out, o0, x, x0, p, inverse):
    for v in _each():
        out.store(o0 + v, LargeModulus(p, inverse).add(out.load(o0 + v), x.load(x0 + v)))


@compiled
def large_key_sums(
    counter, jobs, scratch, out, digits, n, k, count, key, key_shape, added, permutation, modulus, inverse
):
    """The same as small_key_sums, modulo the special primes.  out: (2, k, N), canonical; digits: (count, k, N); key:
    (2, key_shape[0] digits, k, N); added: (0 or 1, k, N), canonical, to the first half, permuted."""
    pieces = n // PIECE
    digit_gap, half_gap = k * n, key_shape[0] * k * n
    buffer = scratch.view(out.dtype)
    job = take(counter)
    while job < jobs:
        j, start = job // pieces, job % pieces * PIECE
        p, inv, place = modulus[j], inverse[j], j * n + start
        for g in range(count):
            _move(buffer, g * PIECE, digits, (g * k + j) * n, permutation, start)
        for e in range(0, PIECE, _STEP // 2):
            at = place + e
            _large_key_terms(out, at, k * n, buffer, e, count, key, at, digit_gap, half_gap, p, inv)
        if len(added):
            _move(buffer, 0, added, j * n, permutation, start)
            for e in range(0, PIECE, _STEP):
                _add_large(out, place + e, buffer, e, p, inv)
        job = take(counter)


# Transform and difference ---------------------------------------------------------------------------------------------


@vectorised
def _scaled_difference(out, o0, x, x0, y, y0, factor, p, inverse):
    modulus = SmallModulus(p, inverse)
    out.store(o0, modulus.canonical(modulus.multiply(x.load(x0) - y.load(y0), factor)))


@compiled
def divide(counter, jobs, scratch, out, x, x_gap, z, z_gaps, tile_stride, n, towers, factors, t):
    """out = (x - z) factors, canonical, x in evaluation form, z in coefficients, |z| <= 2^40.  A job: a tower of a
    polynomial.

    out: (polynomials, towers, N); x: polynomials x_gap apart, |x| <= 2^47; z: tiles of polynomials z_gaps[0], of
    towers z_gaps[1] apart; factors: (towers,); t: the transform's tables.  scratch: N more than the transform's."""
    job = take(counter)
    while job < jobs:
        i, tower = job // towers, job % towers
        forward(scratch, 0, z, i * z_gaps[0] + tower * z_gaps[1], tile_stride, scratch[n:], t, tower)
        for e in range(0, n, LANES):
            _scaled_difference(out, job * n + e, x, i * x_gap + tower * n + e, scratch, e, factors[tower],
                               t.modulus[tower], t.inverse[tower])  # fmt: skip
        job = take(counter)
