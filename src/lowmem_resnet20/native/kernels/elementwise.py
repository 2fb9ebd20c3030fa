"""Sums of products of whole polynomials in evaluation form: all that is done with them but transforms.

Sums, linear combinations, tensor products, products with plaintexts, inner products with keys: one pass over memory
does any number of terms, whose sum stays in registers.  What multiplies both polynomials of a ciphertext or both halves
of a key is loaded once for the two.  A job is a part of a tower.

Plaintexts of n slots are polynomials in X^(N/2n): in evaluation form N/2n neighbouring positions of OpenFHE's order,
and as many neighbouring vectors of 16 in memory, are equal, and one is kept, if 2n is at least N/16.
Vector v of a polynomial meets vector v >> shift of such a factor.  A constant is one with a vector for each half.

An automorphism moves whole blocks of 256 positions and permutes within them, so results are permuted in cache.  There
sums also stay that are parts of further sums."""

from __future__ import annotations

from typing import Any

from .compilation import compiled, register_bytes
from .intrinsics import Value, at_address, minimum, repeated, vectorised
from .jobs import next_job, take
from .ntt import gather
from .order import BLOCK, ROWS
from .residues import MOST_LARGE_TERMS, TERMS, modulus

#: Of each tower: neighbouring blocks, so that a thread goes on where it has prefetched.
JOBS = 4
#: Polynomials that a factor multiplies at once, at most.
MOST_TOGETHER = 2
#: Parts that sums may have which are sums themselves, and what they need of scratch.
MOST_PARTS = MOST_LARGE_TERMS
SCRATCH_ELEMENTS = MOST_TOGETHER * (1 + MOST_PARTS) * BLOCK


def _unrolled(bits: int, together: int) -> int:
    """Vectors of each polynomial that one call works on, so that products of several overlap: as many as registers
    hold the sums of."""
    return {32: 4, 64: 2}[bits] * (register_bytes() // 32) // together


def _step(bits: int, together: int) -> int:
    return _unrolled(bits, together) * 8 * register_bytes() // bits


_SMALL_STEPS, _LARGE_STEPS = (tuple(_step(bits, k) for k in range(1, MOST_TOGETHER + 1)) for bits in (32, 64))


def _summing(together: int) -> Any:
    """The function for ``together`` polynomials that each factor multiplies."""

    @vectorised
    def sums(out, gap, xs, base, x0, ms, m0, ahead, j0, shifts, s0, count, constants, i):
        """Sums of products, of some vectors, in ``count`` terms.

        out: address of the first result, ``gap`` bytes before the next; ms: addresses of factors' towers, from j0 on;
        xs: of what they multiply, ``together`` for each, counted from ``base``; x0, m0: the first element of each;
        shifts: of each m, from s0 on; ahead: how many elements further xs are read next.  That is said beforehand, for
        of a key each line is read once, in no order that a processor foresees."""
        m, bits = modulus(constants, i), constants.bits
        places = [constants.lanes * v for v in range(_unrolled(bits, together))]
        totals = [[m.sum() for _ in places] for _ in range(together)]
        chunks = (count + (TERMS - 1)) >> (TERMS.bit_length() - 1)
        with repeated(chunks) as chunk:
            first = chunk * TERMS
            with repeated(minimum(count - first, count.like(TERMS))) as term:
                j = first + term
                factor, shift = at_address(ms.scalar(j0 + j), bits), shifts.scalar(s0 + j)
                factors = [m.shared(factor.load(_kept(m0, place, shift))) for place in places]
                for place in places:
                    factor.prefetch(_kept(m0 + ahead, place, shift))
                for h, row in enumerate(totals):
                    x = at_address(base + xs.scalar((j0 + j) * together + h), bits)
                    for total, place, shared in zip(row, places, factors, strict=True):
                        total.add(x.load(x0 + place), shared)
                        x.prefetch(x0 + ahead + place)
            with repeated(minimum(chunks - 1, count.like(1))):
                for row in totals:
                    for total in row:
                        total.settle()
        for h, row in enumerate(totals):
            target = at_address(out + gap * h, bits)
            for total, place in zip(row, places, strict=True):
                target.store(out.like(place), total.canonical())

    return sums


_single, _double = (_summing(k) for k in range(1, MOST_TOGETHER + 1))


def _kept(element: Value, place: int, shift: Value) -> Value:
    """Where a factor keeps what meets the vector at ``element`` + ``place``."""
    at = element + place
    return (((at >> 4) >> shift) << 4) + (at & (ROWS - 1))


@compiled
def sums(counter, jobs, scratch, outs, xs, ms, shifts, counts, n, permutations, parts, constants):
    """sum_j ms[i, j] xs[i, j, k], canonical, permuted, for each sum i and k = 0, 1.

    outs: int64 (towers, sums, 1 or 2), addresses of towers; ms: int64 (towers, sums, terms), the same; xs: int64
    (towers, sums, terms, 1 or 2); shifts: int64 (sums, terms) of ms; counts: int64 (sums,) terms of each, modulo
    special primes at most MOST_LARGE_TERMS; permutations: uint32 (1, N) of an automorphism, or (0, N); constants: of
    the towers' primes.  A result that is not permuted may lie where a factor does.
    parts: of the first sums, which are kept for a block alone; the others' xs are then places among them, in bytes,
    and are not permuted.  permutations: (parts, N)."""
    share, size, together = n // JOBS, constants.itemsize, outs.shape[2]
    rows, terms = ms.shape[1], ms.shape[2]
    step = _SMALL_STEPS[together - 1] if size == 4 else _LARGE_STEPS[together - 1]
    length = BLOCK * size
    buffer = scratch.ctypes.data
    kept = buffer + together * length
    job = take(counter)
    while job < jobs:
        tower, start = job // JOBS, job % JOBS * share
        for block in range(start, start + share, BLOCK):
            following = min(block + BLOCK, n - BLOCK)
            for i in range(rows):
                out, gap = outs[tower, i, 0] + block * size, outs[tower, i, together - 1] - outs[tower, i, 0]
                if i < parts:
                    out, gap = kept + i * together * length, length
                of_parts = parts > 0 and i >= parts
                permuted = len(permutations) > 0 and not of_parts
                row = min(i, len(permutations) - 1)
                source = permutations[row, block] // BLOCK * BLOCK if permuted else block
                ahead = (permutations[row, following] // BLOCK * BLOCK if permuted else following) - source
                base, x0 = (kept, 0) if of_parts else (0, source)
                target, between = (buffer, length) if permuted else (out, gap)
                j0 = (tower * rows + i) * terms
                for e in range(0, BLOCK, step):
                    if together == 2:
                        _double(target + e * size, between, xs, base, x0 + e, ms, source + e, ahead, j0,
                                shifts, i * terms, counts[i], constants, tower)  # fmt: skip
                    else:
                        _single(target + e * size, between, xs, base, x0 + e, ms, source + e, ahead, j0,
                                shifts, i * terms, counts[i], constants, tower)  # fmt: skip
                if permuted:
                    for k in range(together):
                        gather(out + k * gap, buffer + k * length - source * size, permutations, row * n + block, BLOCK,
                               constants)  # fmt: skip
        job = next_job(counter)
