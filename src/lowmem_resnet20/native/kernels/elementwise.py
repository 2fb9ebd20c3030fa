"""Sums of products of whole polynomials in evaluation form: all that is done with them but transforms.

Sums, linear combinations, tensor products, products with plaintexts, inner products with keys: one pass over memory
does any number of terms, whose sum stays in registers.  A job is a piece of a tower.

Plaintexts of n slots are polynomials in X^(N/2n): in evaluation form N/2n neighbouring positions of OpenFHE's order,
and as many neighbouring vectors of 16 in memory, are equal, and one is kept, if 2n is at least N/16.
Vector v of a polynomial meets vector v >> shift of such a factor.  A constant is one with a vector for each half.

An automorphism moves whole blocks of 256 positions and permutes within them, so results are permuted in cache."""

from __future__ import annotations

from .compilation import compiled, register_bytes
from .intrinsics import Value, at_address, minimum, repeated, take, vectorised
from .ntt import gather
from .order import BLOCK, ROWS
from .residues import TERMS, modulus

#: Elements of a job.
PIECE = 1024
#: Vectors that one call works on by bits of residues, so that products of several overlap: as many as registers hold.
_UNROLLED = {32: 4, 64: 2}
_SMALL_STEP, _LARGE_STEP = (_UNROLLED[bits] * 8 * register_bytes() // bits for bits in (32, 64))


@vectorised
def _sum(out, xs, ms, j0, shifts, s0, count, element, constants, i):
    """A sum of products at ``element`` of towers, of _UNROLLED vectors, in ``count`` terms.

    out: address of the result; xs, ms: addresses of factors' towers, from j0 on; shifts: of each m, from s0 on."""
    m, bits = modulus(constants, i), constants.bits
    places = [constants.lanes * v for v in range(_UNROLLED[bits])]
    totals = [m.sum() for _ in places]
    with repeated((count + (TERMS - 1)) >> (TERMS.bit_length() - 1)) as chunk:
        first = chunk * TERMS
        with repeated(minimum(count - first, count.like(TERMS))) as term:
            j = first + term
            x, factor = (at_address(addresses.scalar(j0 + j), bits) for addresses in (xs, ms))
            shift = shifts.scalar(s0 + j)
            for total, place in zip(totals, places, strict=True):
                total.add(x.load(element + place), factor.load(_kept(element, place, shift)))
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
def sums(counter, jobs, scratch, outs, xs, ms, shifts, counts, n, permutation, constants):
    """out[i] = sum_j xs[i, j] ms[i, j], canonical, permuted, for each polynomial i.

    outs: int64 (towers, polynomials), addresses of towers; xs, ms: int64 (towers, polynomials, terms), the same;
    shifts: int64 (polynomials, terms) of ms; counts: int64 (polynomials,) terms of each, modulo special primes at most
    MOST_LARGE_TERMS; permutation: uint32 (N,) of an automorphism, or empty; constants: of the towers' primes.  A
    result that is not permuted may lie where a factor does."""
    pieces, size = n // PIECE, constants.itemsize
    polynomials, terms = xs.shape[1], xs.shape[2]
    step = _SMALL_STEP if size == 4 else _LARGE_STEP
    buffer = scratch.ctypes.data
    job = take(counter)
    while job < jobs:
        tower, start = job // pieces, job % pieces * PIECE
        for block in range(start, start + PIECE, BLOCK):
            source = permutation[block] // BLOCK * BLOCK if len(permutation) else block
            for i in range(polynomials):
                out = outs[tower, i]
                target = buffer if len(permutation) else out + block * size
                for e in range(0, BLOCK, step):
                    j0 = (tower * polynomials + i) * terms
                    _sum(target + e * size, xs, ms, j0, shifts, i * terms, counts[i], source + e, constants, tower)
                if len(permutation):
                    gather(out + block * size, buffer - source * size, permutation, block, BLOCK, constants)
        job = take(counter)
