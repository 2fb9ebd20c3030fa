"""The ring, its primes, and all that is computed from them once: tables, orders of residues, automorphisms.

Z[X]/(X^N + 1) modulo Q = q_0 .. q_L, and modulo P = p_0 .. p_(k-1) inside key switching.  ``order`` is how evaluation
form lies in memory: the value that OpenFHE keeps at position i is at order[i].  ``tile_order`` is how coefficients
do: the one of X^i is at tile_order[i], tiles tile_stride apart.

The automorphism X -> X^g of a polynomial in evaluation form is a permutation: the result at k is the argument at
automorphism(g)[k].  Rotations of the slots by s have g = 5^s, complex conjugation 2N - 1 (Halevi and Shoup, Crypto
2014, section 4; Cheon, Han, Kim, Kim and Song, Eurocrypt 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..machine.memory import cached_method
from . import bases, elementwise, ntt
from .chain import Chain
from .memory import aligned, aligned_copy
from .order import memory_order, permutation, shape
from .residues import LARGE_LIMIT, SMALL_LIMIT
from .threads import Workers, available_processors


class Raising(NamedTuple):
    """What raising the digits of a polynomial of so many towers needs.

    digits: of digit_towers each, the last one perhaps fewer; inverse: the inverse transform's tables with the factors
    that make y of x (:mod:`.bases`); parts, large_parts: the conversions' constants."""

    towers: int
    digits: int
    inverse: ntt.Tables
    parts: NDArray[np.float64]
    large_parts: NDArray[np.float64]


class Lowering(NamedTuple):
    """What lowering from QP to Q needs.

    inverse: the inverse transform's tables modulo P with the factors that make y of x; parts: (L + 1, k, 4) of the
    conversion; inverse_p, p: (L + 1,) 1/P and P modulo each prime of Q."""

    inverse: ntt.Tables
    parts: NDArray[np.float64]
    inverse_p: NDArray[np.float64]
    p: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ring:
    """dimension: N = 2^10 .. 2^16; q, p: primes of Q and P; q_roots, p_roots: OpenFHE's roots of unity of order 2N
    modulo each; digit_towers: towers of a digit of key switching; threads: of all operations; columns: of
    the transform, 0 for as many as rows or half.

    Errors: ValueError for primes beyond :mod:`.residues`' bounds.
    """

    dimension: int
    q: tuple[int, ...]
    q_roots: tuple[int, ...]
    p: tuple[int, ...]
    p_roots: tuple[int, ...]
    digit_towers: int
    threads: int = 0
    columns: int = 0

    def __post_init__(self) -> None:
        shape(self.dimension)
        if not all(q < SMALL_LIMIT for q in self.q):
            raise ValueError(f"primes of Q must have at most 37 bits, not {max(self.q).bit_length()}")
        if wrong := [p for p in self.p if not 1 << 59 < p < LARGE_LIMIT]:
            raise ValueError(f"special primes must have 60 bits, not {wrong[0].bit_length()}")
        if self.digits_at(len(self.q)) > elementwise.MOST_LARGE_TERMS:
            raise ValueError(f"{self.digits_at(len(self.q))} digits of key switching are too many for exact sums")

    @classmethod
    def of(cls, chain: Chain, threads: int = 0) -> Ring:
        """The ring of a chain; threads: 0 for as many as the process may use."""
        (q, q_roots), (p, p_roots) = zip(*chain.q, strict=True), zip(*chain.p, strict=True)
        return cls(chain.dimension, q, q_roots, p, p_roots, chain.digit_towers, threads)

    @classmethod
    def of_sparse_key(cls, chain: Chain, threads: int = 0) -> Ring:
        """That of the key into the sparse secret: modulo q_0 and special primes of its own, which are no longer than
        it."""
        q, q_roots = zip(chain.q[0], *chain.sparse, strict=True)
        return cls(chain.dimension, q, q_roots, (), (), 1, threads)

    # Order ----------------------------------------------------------------------------------------------------------

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(N,) where in memory OpenFHE's position i is."""
        return memory_order(self.dimension, self.columns)

    @cached_property
    def tile_order(self) -> NDArray[np.int64]:
        """(N,) where in tiles the coefficient of X^i is."""
        rows, columns = self.shape
        row, column = np.divmod(np.arange(self.dimension), columns)
        in_tile = (row % ntt.RADIX * (rows // ntt.RADIX) + row // ntt.RADIX) * ntt.LANES
        return column // ntt.LANES * self.tile_stride + in_tile + column % ntt.LANES

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the transform."""
        if self.columns:
            return self.dimension // self.columns, self.columns
        return shape(self.dimension)

    @property
    def tiles(self) -> int:
        return self.shape[1] // ntt.LANES

    @property
    def tile_size(self) -> int:
        return self.dimension // self.tiles

    @property
    def tile_stride(self) -> int:
        """From one tile of a tower to that of the next."""
        return self.tile_size + ntt.PADDING

    def coefficients(self, *shape: int, dtype: type = np.float64) -> NDArray:
        """Room for polynomials in tiles: (polynomials ..., tiles, towers, tile_stride) for ``shape`` (polynomials
        ..., towers)."""
        return aligned(*shape[:-1], self.tiles, shape[-1], self.tile_stride, dtype=dtype)

    def from_openfhe(self, residues: NDArray[np.uint64], dtype: type = np.float64) -> NDArray:
        """(..., N) of OpenFHE's order in this one's, as small (float64) or large (uint64) residues."""
        result = aligned(*residues.shape, dtype=dtype)
        result[..., self.order] = residues
        return result

    def to_openfhe(self, residues: NDArray) -> NDArray[np.uint64]:
        """The reverse."""
        return residues[..., self.order].astype(np.uint64)

    def rotation(self, step: int) -> int:
        """The automorphism that brings slot i + step to slot i."""
        return pow(5, step % (self.dimension // 2), 2 * self.dimension)

    def permutation(self, index: int) -> NDArray[np.uint32]:
        """The same for kernels: empty for X -> X, which permutes nothing."""
        return self.automorphism(index) if index != 1 else np.empty(0, np.uint32)

    @cached_method(128)
    def automorphism(self, index: int) -> NDArray[np.uint32]:
        """(N,) the permutation of evaluation form that X -> X^index, odd, does."""
        permuted = aligned(self.dimension, dtype=np.uint32)
        permuted[self.order] = self.order[permutation(index, self.dimension)]
        return permuted

    # Tables ---------------------------------------------------------------------------------------------------------

    @cached_property
    def workers(self) -> Workers:
        """With scratch for a transform, what goes into it and what comes out, and padding."""
        elements = 2 * self.dimension + ntt.scratch_elements(self.dimension) + (1 << 14)
        return Workers(self.threads or available_processors(), elements)

    @cached_property
    def forward_q(self) -> ntt.Tables:
        """Tables of the transform modulo the primes of Q."""
        return ntt.make_tables(*self.shape, self.q, self.q_roots, np.float64)

    @cached_property
    def inverse_q(self) -> ntt.Tables:
        """Tables of its inverse."""
        return ntt.make_tables(*self.shape, self.q, _inverses(self.q_roots, self.q), np.float64)

    @cached_property
    def forward_p(self) -> ntt.Tables:
        """Tables of the transform modulo the special primes."""
        return ntt.make_tables(*self.shape, self.p, self.p_roots, np.uint64)

    @cached_property
    def inverse_p(self) -> ntt.Tables:
        """Tables of its inverse."""
        return ntt.make_tables(*self.shape, self.p, _inverses(self.p_roots, self.p), np.uint64)

    @cached_property
    def half_shift(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """(k,) 2^30 modulo each special prime, and its quotient."""
        shift = np.full(len(self.p), 1 << 30, np.uint64)
        return shift, np.array([(1 << 94) // p for p in self.p], np.uint64)

    def digits_at(self, towers: int) -> int:
        """Digits of a polynomial of so many towers."""
        return -(-towers // self.digit_towers)

    @cached_method(64)
    def raising(self, towers: int) -> Raising:
        q, alpha = self.q[:towers], self.digit_towers
        factors = [f for d in range(0, towers, alpha) for f in bases.cofactor_inverses(q[d : d + alpha])]
        inverse = ntt.with_scales(self.inverse_q, q, factors)
        return Raising(towers, self.digits_at(towers), inverse, *bases.digit_parts(q, self.p, alpha))

    @cached_property
    def lowering(self) -> Lowering:
        product = prod(self.p)
        inverse = ntt.with_scales(self.inverse_p, self.p, bases.cofactor_inverses(self.p))
        parts = np.stack([bases.large_to_small_parts(self.p, q) for q in self.q])
        inverses, residues = [pow(product, -1, q) for q in self.q], [product % q for q in self.q]
        return Lowering(inverse, aligned_copy(parts), np.array(inverses, np.float64), np.array(residues, np.float64))

    @cached_method(64)
    def inverses_of(self, prime: int) -> NDArray[np.float64]:
        """(L + 1,) 1/prime modulo each prime of Q, 0 modulo itself."""
        return np.array([pow(prime, -1, q) if q != prime else 0 for q in self.q], np.float64)

    @cached_property
    def imaginary_units(self) -> NDArray[np.float64]:
        """(L + 1,) the value of X^(N/2), a root of -1, in the first half of evaluation form; in the second it is the
        negative."""
        return np.array(
            [pow(root, self.dimension // 2, q) for q, root in zip(self.q, self.q_roots, strict=True)], np.float64
        )


def _inverses(roots: Sequence[int], primes: Sequence[int]) -> list[int]:
    return [pow(root, -1, p) for root, p in zip(roots, primes, strict=True)]
