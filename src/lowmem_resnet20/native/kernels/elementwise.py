"""Sums of products of whole polynomials in evaluation form: all that is done with them but transforms.

Sums, linear combinations, tensor products, products with plaintexts, inner products with keys: one pass over memory
does any number of terms, whose sum stays in registers.  A job is a piece of a tower.

Plaintexts of n slots are polynomials in X^(N/2n): in evaluation form N/2n neighbouring positions of OpenFHE's order,
and as many neighbouring vectors of 16 in memory, are equal, and one is kept, if 2n is at least N/16.
Vector v of a polynomial meets vector v >> shift of such a factor.  A constant is one with a vector for each half.

An automorphism moves whole blocks of 256 positions and permutes within them, so results are permuted in cache.  There
sums also stay that are parts of further sums."""

from __future__ import annotations

from .compilation import compiled, register_bytes
from .intrinsics import Value, at_address, minimum, repeated, vectorised
from .jobs import next_job, take
from .ntt import gather
from .order import BLOCK, ROWS
from .residues import MOST_LARGE_TERMS, TERMS, modulus

#: Elements of a job.
PIECE = 1024
#: Parts that sums may have which are sums themselves, and what they need of scratch.
MOST_PARTS = 2 * MOST_LARGE_TERMS
SCRATCH_ELEMENTS = (1 + MOST_PARTS) * BLOCK
#: Vectors that one call works on by bits of residues, so that products of several overlap: as many as registers hold.
_UNROLLED = {32: 4, 64: 2}
_SMALL_STEP, _LARGE_STEP = (_UNROLLED[bits] * 8 * register_bytes() // bits for bits in (32, 64))


@vectorised
def _sum(out, base, xs, x0, ms, m0, ahead, j0, shifts, s0, count, constants, i):
    """A sum of products, of _UNROLLED vectors, in ``count`` terms.

    out: address of the result; xs, ms: addresses of factors' towers, from j0 on, those of xs counted from ``base``; x0,
    m0: the first element of each; shifts: of each m, from s0 on; ahead: how many elements further ms are read next.
    That is said beforehand, for of a key each line is read once, in no order that a processor foresees."""
    m, bits = modulus(constants, i), constants.bits
    places = [constants.lanes * v for v in range(_UNROLLED[bits])]
    totals = [m.sum() for _ in places]
    with repeated((count + (TERMS - 1)) >> (TERMS.bit_length() - 1)) as chunk:
        first = chunk * TERMS
        with repeated(minimum(count - first, count.like(TERMS))) as term:
            j = first + term
            x, factor = at_address(base + xs.scalar(j0 + j), bits), at_address(ms.scalar(j0 + j), bits)
            shift = shifts.scalar(s0 + j)
            for total, place in zip(totals, places, strict=True):
                total.add(x.load(x0 + place), factor.load(_kept(m0, place, shift)))
                factor.prefetch(_kept(m0 + ahead, place, shift))
        for total in totals:
            total.settle()
    target = at_address(out, bits)
    for total, place in zip(totals, places, strict=True):
        target.store(out.like(place), total.canonical())


def _kept(element: Value, place: int, shift: Value) -> Value:
    """Where a factor keeps what meets the vector at ``element`` + ``place``."""
    at = element + place
    return (((at >> 4) >> shift) << 4) + (at & (ROWS - 1))


@compiled
def sums(counter, jobs, scratch, outs, xs, ms, shifts, counts, n, permutations, parts, constants):
    """sum_j xs[i, j] ms[i, j], canonical, permuted, for each polynomial i.

    outs: int64 (towers, polynomials), addresses of towers; xs, ms: int64 (towers, polynomials, terms), the same;
    shifts: int64 (polynomials, terms) of ms; counts: int64 (polynomials,) terms of each, modulo special primes at most
    MOST_LARGE_TERMS; permutations: uint32 (1, N) of an automorphism, or (0, N); constants: of the towers' primes.  A
    result that is not permuted may lie where a factor does.
    parts: of the first polynomials, which are kept for a block alone; the others' xs are then places among them, in
    bytes, and are not permuted.  permutations: (parts, N)."""
    pieces, size = n // PIECE, constants.itemsize
    polynomials, terms = xs.shape[1], xs.shape[2]
    step = _SMALL_STEP if size == 4 else _LARGE_STEP
    buffer = scratch.ctypes.data
    kept = buffer + BLOCK * size
    job = take(counter)
    while job < jobs:
        tower, start = job // pieces, job % pieces * PIECE
        for block in range(start, start + PIECE, BLOCK):
            following = min(block + BLOCK, n - BLOCK)
            for i in range(polynomials):
                out = kept + i * BLOCK * size if i < parts else outs[tower, i] + block * size
                of_parts = parts > 0 and i >= parts
                permuted = len(permutations) > 0 and not of_parts
                row = min(i, len(permutations) - 1)
                source = permutations[row, block] // BLOCK * BLOCK if permuted else block
                ahead = (permutations[row, following] // BLOCK * BLOCK if permuted else following) - source
                base, x0 = (kept, 0) if of_parts else (0, source)
                target = buffer if permuted else out
                for e in range(0, BLOCK, step):
                    _sum(target + e * size, base, xs, x0 + e, ms, source + e, ahead, (tower * polynomials + i) * terms,
                         shifts, i * terms, counts[i], constants, tower)  # fmt: skip
                if permuted:
                    gather(out, buffer - source * size, permutations, row * n + block, BLOCK, constants)
        job = next_job(counter)
