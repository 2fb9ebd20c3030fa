"""Slots to plaintext residues, as OpenFHE's MakeCKKSPackedPlaintext gives them.

n slots z become the polynomial in Y = X^(N/2n) of 2n integers round(scale * (inverse of the special Fourier transform
of z)): real parts first, then imaginary ones (Cheon, Han, Kim, Kim and Song, Eurocrypt 2018, section 3).  The Fourier
transform is done in OpenFHE's order of operations, so that rounding agrees; its roots come from the same libm.

The polynomial in Y is transformed as a ring element of dimension 2n, with psi^(N/2n) for psi.  In the ring of
dimension N its value at position i of OpenFHE's order is the one at position i >> shift, 2^shift = N/2n: equal
vectors are neighbours in memory, and one of them is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from . import ntt
from .compilation import compiled
from .intrinsics import LANES, fma, rint, take, vectorised
from .memory import aligned
from .order import bit_reversed
from .residues import LargeModulus, SmallModulus, float_to_integer, rounded_to_integer
from .ring import Ring

#: The transform's smallest ring; fewer slots are spread out in it.
_SMALLEST = 1 << 10
#: Scaled coefficients stay below, as in OpenFHE.
_LIMIT = float(1 << 62)
_CUT = 26


class Plaintexts(NamedTuple):
    """Encoded vectors.  low, high: (vectors, towers, N >> shift) the low 32 bits and the rest of the residues modulo
    q_0 .., as in keys; large: (vectors, k, N >> shift) modulo P, or None."""

    low: NDArray[np.uint32]
    high: NDArray[np.uint8]
    large: NDArray[np.uint64] | None
    shift: int

    @property
    def large_part(self) -> NDArray[np.uint64]:
        """``large`` of what was encoded modulo P as well."""
        if self.large is None:
            raise ValueError("a plaintext modulo Q alone")
        return self.large


@compiled
def slots_to_coefficients(counter, jobs, scratch, out, real, imaginary, roots, reversed_order, scales, places, stride):
    """Rounded coefficients of vectors of n slots.

    real, imaginary: (vectors, n); roots: (2, n) of the layers of n, n/2, .. 2 slots one after the other, real parts
    and imaginary ones; reversed_order: (n,); scales: (vectors,); out: vectors ``stride`` apart, the coefficient of
    Y^i at places[i]."""
    n = len(reversed_order)
    re, im = scratch[:n], scratch[n : 2 * n]
    job = take(counter)
    while job < jobs:
        re[:] = real[job]
        im[:] = imaginary[job]
        length, root = n, 0
        while length > 1:
            half = length // 2
            for start in range(0, n, length):
                for j in range(half):
                    a, b = start + j, start + j + half
                    u, v = re[a] - re[b], im[a] - im[b]
                    re[a], im[a] = re[a] + re[b], im[a] + im[b]
                    c, s = roots[0, root + j], roots[1, root + j]
                    re[b], im[b] = u * c - v * s, u * s + v * c
            length, root = half, root + half
        for i in range(n):
            at = reversed_order[i]
            out[job * stride + places[i]] = _rounded(re[at] / n * scales[job])
            out[job * stride + places[n + i]] = _rounded(im[at] / n * scales[job])
        job = take(counter)


@compiled
def _rounded(x):
    """The nearest integer, halves away from zero."""
    whole = np.trunc(x)
    return whole + np.copysign(1.0, x) if abs(x - whole) >= 0.5 else whole


@vectorised
def _reduce(dst, d0, src, s0, p, inverse):
    """Integers of less than 2^62, modulo a prime as the transform takes it: |.| < 2^39 modulo small, below 16 p
    modulo large."""
    value = src.load(s0)
    high = rint(value * 2.0**-_CUT)
    low = fma(high, high.like(-(2.0**_CUT)), value)
    if dst.is_float:
        dst.store(d0, SmallModulus(p, inverse).multiply(high, high.like(2.0**_CUT)) + low)
    else:
        integer = (rounded_to_integer(high) << _CUT) + rounded_to_integer(low)
        dst.store(d0, integer + LargeModulus(p, inverse).multiple[8])


@compiled
def _transformed(tiles, coefficients, c0, stride, tile_stride, gather, t, tower):
    """One vector's coefficients modulo one prime, in evaluation form: where in ``tiles``, which is scratch, they
    begin."""
    size = t.rows * t.columns
    for e in range(0, stride, LANES):
        _reduce(tiles, e, coefficients, c0 + e, t.modulus[tower], t.inverse[tower])
    ntt.forward(tiles, stride, tiles, 0, tile_stride, tiles[stride + size :], t, tower)
    if not len(gather):
        return stride
    for e in range(size):
        tiles[stride + size + e] = tiles[stride + gather[e]]
    return stride + size


@vectorised
def _store_planes(low, high, o0, residues, r0):
    integer = float_to_integer(residues.load(r0))
    low.store(o0, integer)
    high.store(o0, integer >> 32)


@compiled
def small_residues(counter, jobs, scratch, low, high, coefficients, stride, tile_stride, gather, towers, t):
    """Evaluation form of vectors' coefficients modulo ``towers`` small primes.  A job: a tower of a vector.

    low, high: planes (vectors, towers, 2n); coefficients: integers in tiles, vectors ``stride`` apart; element i is
    from place gather[i] of the transform, or i where gather is empty."""
    size = t.rows * t.columns
    job = take(counter)
    while job < jobs:
        vector, tower = job // towers, job % towers
        at = _transformed(scratch, coefficients, vector * stride, stride, tile_stride, gather, t, tower)
        for e in range(0, size, LANES):
            _store_planes(low, high, job * size + e, scratch, at + e)
        job = take(counter)


@compiled
def large_residues(counter, jobs, scratch, out, coefficients, stride, tile_stride, gather, towers, t):
    """The same modulo the special primes.  out: (vectors, towers, 2n)."""
    size = t.rows * t.columns
    tiles = scratch.view(out.dtype)
    job = take(counter)
    while job < jobs:
        vector, tower = job // towers, job % towers
        at = _transformed(tiles, coefficients, vector * stride, stride, tile_stride, gather, t, tower)
        out[job * size : (job + 1) * size] = tiles[at : at + size]
        job = take(counter)


@cache
def _fourier_roots(n: int) -> NDArray[np.float64]:
    """(2, n) roots of the inverse transform's layers of n, n/2, .. 2 slots: exp(2 pi i k / (4 length)), k = 4 length
    - 5^j, and a zero.

    By libm's functions of single numbers, as OpenFHE: numpy's may differ in the last bit.
    """
    roots, length = [], n
    while length > 1:
        power = 1
        for _ in range(length // 2):
            angle = 2.0 * math.pi * (4 * length - power) / (4 * length)
            roots.append((math.cos(angle), math.sin(angle)))
            power = power * 5 % (4 * length)
        length //= 2
    return np.ascontiguousarray(np.array([*roots, (0.0, 0.0)]).T)


@dataclass(frozen=True, eq=False)
class _Subring:
    """Polynomials in Y, of 2n or more coefficients.

    ring: of that dimension, with as many rows as the whole ring's where it can: then its order is the one wanted, and
    gather is empty; places: (2n,) of coefficients in its tiles; gather: (2n,), see small_residues."""

    ring: Ring
    places: NDArray[np.int64]
    gather: NDArray[np.uint32]
    shift: int


class Encoder:
    """Encodes for a ring; keeps the tables for each number of slots."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._subrings: dict[int, _Subring] = {}

    def encode(
        self, vectors: Sequence[NDArray], scales: Sequence[float], towers: int, *, extended: bool = False
    ) -> Plaintexts:
        """Vectors (n,) real or complex, each at its scale, modulo ``towers`` primes, and P as well for ``extended``.

        n: a power of two up to N/2; vectors that are shorter than the longest one repeat.  Errors: PlanError for
        values that scales make too large."""
        n = max(map(len, vectors))
        subring = self._subring(n)
        coefficients = self._coefficients(
            np.stack([np.resize(vector, n) for vector in vectors]), np.array(scales), subring
        )
        low, high = self._residues(coefficients, subring, small_residues, towers, np.uint32, np.uint8)
        large = None
        if extended:
            (large,) = self._residues(coefficients, subring, large_residues, len(self.ring.p), np.uint64)
        return Plaintexts(low, high, large, subring.shift)

    def coefficients(self, vector: NDArray, scale: float) -> NDArray[np.int64]:
        """(2n,) the integers that residues are of."""
        subring = self._subring(len(vector))
        return self._coefficients(vector[None], np.array([scale]), subring)[0, subring.places].astype(np.int64)

    def _coefficients(self, vectors: NDArray, scales: NDArray[np.float64], subring: _Subring) -> NDArray[np.float64]:
        """(vectors, stride) in the subring's tiles, zero elsewhere."""
        count, n = vectors.shape
        stride = subring.ring.tiles * subring.ring.tile_stride
        out = aligned(count, stride)
        out[...] = 0
        # Copied: the imaginary part of real numbers is an array that kernels are not compiled for, a read-only one.
        real, imaginary = (np.array(part, np.float64, order="C") for part in (vectors.real, vectors.imag))
        self.ring.workers.run(slots_to_coefficients, count, out.reshape(-1), real, imaginary, _fourier_roots(n),
                              bit_reversed(n), scales, subring.places, stride)  # fmt: skip
        if not np.abs(out).max() < _LIMIT:  # NaN as well
            raise PlanError("a plaintext's values are too large for its scale")
        return out

    def _residues(
        self, coefficients: NDArray, subring: _Subring, kernel: Callable[..., None], towers: int, *dtypes: type
    ) -> list[NDArray]:
        """Of each type the array, or plane, that the kernel writes."""
        count, stride = coefficients.shape
        ring = subring.ring
        tables = ring.forward_p if kernel is large_residues else ring.forward_q
        planes = [aligned(count, towers, ring.dimension, dtype=dtype) for dtype in dtypes]
        self.ring.workers.run(kernel, count * towers, *(plane.reshape(-1) for plane in planes),
                              coefficients.reshape(-1), stride, ring.tile_stride, subring.gather,
                              towers, tables)  # fmt: skip
        return planes

    def _subring(self, n: int) -> _Subring:
        if n not in self._subrings:
            self._subrings[n] = self._make_subring(n)
        return self._subrings[n]

    def _make_subring(self, n: int) -> _Subring:
        ring = self.ring
        dimension = max(2 * n, _SMALLEST)
        if n & (n - 1) or dimension > ring.dimension:
            raise PlanError(f"{n} slots cannot be encoded in a ring of dimension {ring.dimension}")
        shift = (ring.dimension // dimension).bit_length() - 1
        q_roots = tuple(pow(root, 1 << shift, q) for root, q in zip(ring.q_roots, ring.q, strict=True))
        p_roots = tuple(pow(root, 1 << shift, p) for root, p in zip(ring.p_roots, ring.p, strict=True))
        columns = ring.shape[1] >> shift if ring.shape[1] >> shift >= ntt.FEWEST_COLUMNS else 0
        smaller = Ring(dimension, ring.q, q_roots, ring.p, p_roots, ring.digit_towers, columns=columns)
        position = np.empty(ring.dimension, np.int64)  # by place in memory
        position[ring.order] = np.arange(ring.dimension)
        kept = position.reshape(-1, LANES)[:: 1 << shift].reshape(-1)
        gather = smaller.order[kept >> shift].astype(np.uint32)
        if (gather == np.arange(dimension)).all():
            gather = gather[:0]
        return _Subring(smaller, smaller.tile_order[:: dimension // (2 * n)].copy(), gather, shift)
