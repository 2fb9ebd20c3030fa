"""From one set of primes to another, in coefficient form.

A polynomial modulo D = d_1 ... d_n is known by y_i = [x (D/d_i)^-1] mod d_i in [0, d_i); sum_i y_i (D/d_i) is x plus
a small multiple of D, and modulo any other prime m it is sum_i y_i c_i, c_i = D/d_i mod m: the fast conversion of
Bajard, Eynard, Hasan and Zucca (SAC 2016), neither centred nor corrected, as in OpenFHE's ApproxSwitchCRTBasis and
ApproxModDown.  Where y is to be centred (rescaling, modulus raise), D is one prime and nothing is summed
(:func:`.ntt.to_evaluation`).

Residues modulo special primes come in halves of 30 bits, which are sources of their own: y_i = l + 2^30 h.  So all
sources are below 2^30, and sums of products with c_i are exact as in :mod:`.residues`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled, register_bytes
from .intrinsics import at_address, minimum, repeated, vectorised
from .jobs import next_job, take
from .memory import aligned
from .residues import MOST_LARGE_TERMS, TERMS, modulus

#: Of each polynomial: neighbouring pieces, as a processor foresees what is read.
JOBS = 8
#: Elements of a piece, at most: its sources fit in the first cache.
PIECE = 512
#: What a conversion needs of scratch: for as many sources as sums take, in halves.
SCRATCH_ELEMENTS = PIECE * MOST_LARGE_TERMS
#: Vectors that one call converts, so that additions overlap.
_UNROLLED = 4
_SMALL_STEP, _LARGE_STEP = (_UNROLLED * 8 * register_bytes() // bits for bits in (32, 64))
#: What halves of residues count, as powers of two.
HALVES = 0, 30


@vectorised
def _copy(dst, src, n):
    """n residues of 32 bits, at addresses."""
    source, target = at_address(src, 32), at_address(dst, 32)
    with repeated(n >> (source.lanes.bit_length() - 1)) as vector:
        target.store(vector * source.lanes, source.load(vector * source.lanes))


@vectorised
def _convert(out, sources, count, factors, f0, constants, i):
    """sum_j y_j c_j modulo prime i, below 3 p or 12 p, for _UNROLLED vectors.

    out: address of the result; sources: of y_1, PIECE elements before y_2; factors: c_1 .. from f0 on."""
    m, bits, y = modulus(constants, i), constants.bits, at_address(sources, 32)
    places = [constants.lanes * v for v in range(_UNROLLED)]
    totals = [m.sum() for _ in places]
    with repeated((count + (TERMS - 1)) >> (TERMS.bit_length() - 1)) as chunk:
        first = chunk * TERMS
        with repeated(minimum(count - first, count.like(TERMS))) as term:
            j = first + term
            factor = factors.scalar(f0 + j)
            for total, place in zip(totals, places, strict=True):
                total.add_short(y, j * PIECE + place, factor)
        for total in totals:
            total.settle()
    target = at_address(out, bits)
    for total, place in zip(totals, places, strict=True):
        target.store(out.like(place), total.lazy())


@compiled
def convert(counter, jobs, scratch, outs, sources, counts, factors, n, constants):
    """Polynomials modulo other primes, below ROOM p.

    outs: int64 (polynomials, towers), addresses of results modulo each prime, 0 for none; sources: int64 (polynomials,
    most), addresses of the y_i; counts: int64 (polynomials,) of them; factors: (polynomials, towers, most) of
    :func:`factors`."""
    share, towers, most, size = n // JOBS, factors.shape[1], factors.shape[2], constants.itemsize
    length = min(PIECE, share)
    step = _SMALL_STEP if size == 4 else _LARGE_STEP
    buffer = scratch.ctypes.data
    job = take(counter)
    while job < jobs:
        polynomial, first = job // JOBS, job % JOBS * share
        for start in range(first, first + share, length):
            for j in range(counts[polynomial]):
                _copy(buffer + 4 * j * PIECE, sources[polynomial, j] + 4 * start, length)
            for t in range(towers):
                out = outs[polynomial, t]
                if out:
                    for e in range(0, length, step):
                        _convert(out + (start + e) * size, buffer + 4 * e, counts[polynomial], factors,
                                 (polynomial * towers + t) * most, constants, t)  # fmt: skip
        job = next_job(counter)


# Constants --------------------------------------------------------------------------------------------------------


def _cofactors(sources: Sequence[int]) -> list[int]:
    product = prod(sources)
    return [product // source for source in sources]


def cofactor_inverses(sources: Sequence[int]) -> list[int]:
    """(D/d_i)^-1 modulo d_i: what makes y of x."""
    return [pow(c, -1, source) for c, source in zip(_cofactors(sources), sources, strict=True)]


def factors(
    groups: Sequence[Sequence[int]],
    targets: Sequence[int],
    dtype: Any,
    *,
    halves: bool = False,
    further: Sequence[int] = (),
) -> NDArray:
    """(groups, targets, sources) c_i of the conversions from each group's primes, the rest zero; halves: of sources
    that come so, each lower one before its upper one; further: those of sources that come after them.  Modulo small
    primes times 2^32, which sums are divided by."""
    most = max(map(len, groups)) * (2 if halves else 1) + len(further)
    table = aligned(len(groups), len(targets), most, dtype=dtype)
    table[...] = 0
    for group, sources in zip(table, groups, strict=True):
        cofactors = _cofactors(sources)
        if halves:
            cofactors = [c << shift for c in cofactors for shift in HALVES]
        cofactors += further
        for row, target in zip(group, targets, strict=True):
            row[: len(cofactors)] = [(c << 32 if dtype == np.uint32 else c) % target for c in cofactors]
    return table
