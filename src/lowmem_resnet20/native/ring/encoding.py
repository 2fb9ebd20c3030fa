"""Slots to plaintext residues, as OpenFHE's MakeCKKSPackedPlaintext gives them.

n slots z become the polynomial in Y = X^(N/2n) of 2n integers round(scale * (inverse of the special Fourier transform
of z)): real parts first, then imaginary ones (Cheon, Han, Kim, Kim and Song, Eurocrypt 2018, section 3;
:mod:`..kernels.fourier`).

The polynomial in Y is transformed as a ring element of dimension 2n, with psi^(N/2n) for psi.  In the ring of
dimension N its value at position i of OpenFHE's order is the one at position i >> shift, 2^shift = N/2n: equal
vectors are neighbours in memory, and one of them is kept (:mod:`..kernels.elementwise`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError
from ..kernels.fourier import LIMIT, fourier_roots, slots_to_coefficients
from ..kernels.memory import aligned
from ..kernels.order import ROWS, SMALLEST, bit_reversed, memory_order
from ..kernels.polynomials import INTEGERS, UNPERMUTED, Factor, Polynomials, factors
from .ring import Ring

#: Of the positions in a vector all are different in a ring of this part of the whole, and no smaller.
_SMALLEST_PART = 16


class Plaintexts(NamedTuple):
    """Encoded vectors.  small: (vectors, towers, N >> shift) residues modulo q_0 ..; large: (vectors, k, N >> shift)
    modulo P, or None."""

    small: NDArray[np.uint32]
    large: NDArray[np.uint64] | None
    shift: int

    @property
    def factors(self) -> list[Factor]:
        """Of each vector, modulo Q."""
        return factors(self.small, self.shift)

    @property
    def large_factors(self) -> list[Factor]:
        """Modulo P, of what was encoded so as well."""
        if self.large is None:
            raise ValueError("a plaintext modulo Q alone")
        return factors(self.large, self.shift)


@dataclass(frozen=True, eq=False)
class _Subring:
    """Polynomials in Y, of 2n or more coefficients.

    mod_q, mod_p: operations on them; order: (their dimension,) where in their evaluation form what is kept stands."""

    mod_q: Polynomials
    mod_p: Polynomials
    order: NDArray[np.uint32]
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
        dimension = subring.mod_q.dimension
        stacked = np.stack([np.resize(vector, n) for vector in vectors])
        coefficients = self._coefficients(stacked, np.array(scales, np.float64), dimension)[:, None]
        small, large = aligned(len(vectors), towers, dimension, dtype=np.uint32), None
        with self.ring.workers.together():
            if extended:
                large = aligned(len(vectors), len(self.ring.special(towers)), dimension, dtype=np.uint64)
                subring.mod_p.to_evaluation(large, coefficients, kind=INTEGERS, order=subring.order)
            subring.mod_q.to_evaluation(small, coefficients, kind=INTEGERS, order=subring.order)
        return Plaintexts(small, large, subring.shift)

    def coefficients(self, vector: NDArray, scale: float) -> NDArray[np.int64]:
        """(2n,) the integers that residues are of."""
        coefficients = self._coefficients(np.asarray(vector)[None], np.array([scale]), 2 * len(vector))[0]
        self.ring.workers.wait()
        return coefficients

    def _coefficients(self, vectors: NDArray, scales: NDArray[np.float64], dimension: int) -> NDArray[np.int64]:
        """(vectors, dimension), zero but for every ``dimension`` / 2n-th."""
        count, n = vectors.shape
        out = aligned(count, dimension, dtype=np.int64)
        out[...] = 0
        # Copied: the imaginary part of real numbers is an array that kernels are not compiled for, a read-only one.
        real, imaginary = (np.array(part, np.float64, order="C") for part in (vectors.real, vectors.imag))
        largest = scales * (np.abs(real).max(1) + np.abs(imaginary).max(1))  # the transform's mean is not above them
        if not (largest < LIMIT / 2).all():
            raise PlanError("a plaintext's values are too large for its scale")
        self.ring.workers.run(
            slots_to_coefficients, count, out, real, imaginary, fourier_roots(n), bit_reversed(n), scales
        )
        return out

    def _subring(self, n: int) -> _Subring:
        if n not in self._subrings:
            self._subrings[n] = self._make_subring(n)
        return self._subrings[n]

    def _make_subring(self, n: int) -> _Subring:
        ring = self.ring
        dimension = max(2 * n, ring.dimension // _SMALLEST_PART, SMALLEST)
        if n & (n - 1) or dimension > ring.dimension:
            raise PlanError(f"{n} slots cannot be encoded in a ring of dimension {ring.dimension}")
        shift = (ring.dimension // dimension).bit_length() - 1
        if not shift:
            return _Subring(ring.mod_q, ring.mod_p, UNPERMUTED, 0)
        mod_q, mod_p = (whole.subring(dimension) for whole in (ring.mod_q, ring.mod_p))
        position = np.empty(ring.dimension, np.int64)  # by place in memory
        position[ring.order] = np.arange(ring.dimension)
        kept = position.reshape(-1, ROWS)[:: 1 << shift].reshape(-1)
        return _Subring(mod_q, mod_p, memory_order(dimension)[kept >> shift].astype(np.uint32), shift)
