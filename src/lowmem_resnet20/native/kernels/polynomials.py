"""Operations on polynomials modulo primes of one kind: kernels, with the tables, addresses and threads they need.

Arrays of polynomials are (polynomials, towers, N), or (towers, N) for one, the first towers modulo the first primes;
rows are contiguous and begin on cache lines.  Methods write into their first argument, all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import bases, elementwise, ntt
from .memory import address, aligned
from .order import BLOCK, ROWS
from .residues import MOST_LARGE_TERMS, constants
from .workers import Workers

#: The permutation that does nothing.
UNPERMUTED: NDArray[np.uint32] = np.empty(0, np.uint32)
#: For :meth:`Polynomials.to_evaluation`, beside a prime modulo which coefficients are residues to be centred.
RESIDUES, INTEGERS = ntt.RESIDUES, ntt.INTEGERS


class Factor(NamedTuple):
    """The towers of a polynomial in memory, wherever each lies, of which 2^shift neighbouring vectors are equal and one
    is kept.  rows: int64 (towers,), addresses; held: what they are in."""

    rows: NDArray[np.int64]
    shift: int
    held: Any


class Group(NamedTuple):
    """One or two polynomials that a factor multiplies at once, wherever their towers lie.  rows: int64 (polynomials,
    towers), addresses; held: what they are in."""

    rows: NDArray[np.int64]
    held: Any


Operand = NDArray[Any] | Factor
Operands = NDArray[Any] | Group
#: Each a factor, (towers, N), and a group, (polynomials, towers, N): a sum of them is a group.
Products = Sequence[tuple[Operand, Operands]]


def rows(array: NDArray) -> NDArray[np.int64]:
    """Addresses of an array's rows: of its shape without the last axis."""
    assert array.strides[-1] == array.itemsize, "rows are not contiguous"
    return _offsets(array.shape[:-1], array.strides[:-1]) + address(array)


@lru_cache(1024)
def _offsets(shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[np.int64]:
    return sum(np.indices(shape) * np.reshape(strides, (-1, *[1] * len(shape))), np.zeros(shape, np.int64))


def factors(polynomials: NDArray, shift: int = 0) -> list[Factor]:
    """Of an array (polynomials, towers, N >> shift) each polynomial as a factor."""
    return [Factor(towers, shift, polynomials) for towers in rows(polynomials)]


def groups(polynomials: NDArray) -> list[Group]:
    """Of an array (polynomials, groups, towers, N)."""
    return [Group(towers, polynomials) for towers in rows(polynomials).swapaxes(0, 1)]


def group(*polynomials: Operand) -> Group:
    """Polynomials, as far as all have towers; of factors those of which all is kept."""
    parts = [_factor(polynomial) for polynomial in polynomials]
    towers = min(len(part.rows) for part in parts)
    return Group(np.stack([part.rows[:towers] for part in parts]), parts)


def _factor(operand: Operand) -> Factor:
    return operand if isinstance(operand, Factor) else Factor(rows(operand), 0, operand)


def _group(operand: Operands) -> Group:
    return operand if isinstance(operand, Group) else Group(rows(operand), operand)


@dataclass(frozen=True, eq=False)
class Polynomials:
    """dimension: N; primes, roots: and OpenFHE's roots of unity of order 2N; dtype: of residues, uint32 or uint64."""

    dimension: int
    primes: tuple[int, ...]
    roots: tuple[int, ...]
    dtype: type
    workers: Workers

    @cached_property
    def forward(self) -> ntt.Tables:
        """Tables of the transform."""
        return ntt.make_tables(self.dimension, self.primes, self.roots, self.dtype)

    @cached_property
    def inverse(self) -> ntt.Tables:
        """Tables of its inverse."""
        inverses = [pow(root, -1, p) for root, p in zip(self.roots, self.primes, strict=True)]
        return ntt.make_tables(self.dimension, self.primes, inverses, self.dtype)

    @cached_property
    def constants(self) -> NDArray:
        return constants(self.primes, self.dtype)

    def subring(self, dimension: int) -> Polynomials:
        """The same for polynomials in X^(N / dimension)."""
        power = self.dimension // dimension
        roots = tuple(pow(root, power, p) for root, p in zip(self.roots, self.primes, strict=True))
        return replace(self, dimension=dimension, roots=roots)

    def modulo(self, tower: int) -> Polynomials:
        """The same modulo one of the primes alone."""
        return replace(self, primes=self.primes[tower : tower + 1], roots=self.roots[tower : tower + 1])

    def inverse_times(self, scales: Sequence[int]) -> ntt.Tables:
        """Tables of the inverse that multiplies by a scale modulo each of the first primes."""
        return ntt.with_scales(self.inverse, self.primes, scales)

    def stored(self, factors: Sequence[int]) -> NDArray:
        """(towers, 2) a factor for each of the first primes, and its quotient."""
        return ntt.with_quotients(factors, self.primes, self.dtype)

    def constant(self, values: Sequence[Sequence[int]]) -> Factor:
        """A polynomial whose evaluation form has one value in its first half and one in its second.

        values: (towers, 2), in [0, p).
        """
        vectors = aligned(len(values), 2, ROWS, dtype=self.dtype)
        vectors[...] = np.array(values, self.dtype)[:, :, None]
        shift = (self.dimension // ROWS // 2).bit_length() - 1
        return factors(vectors.reshape(1, len(values), 2 * ROWS), shift)[0]

    def whole(self, value: int, towers: int) -> Factor:
        """The constant of an integer."""
        return self.constant([[value % p] * 2 for p in self.primes[:towers]])

    @cached_property
    def ones(self) -> Factor:
        """The constant 1, all of it kept."""
        return self._filled(1)

    @cached_property
    def zeros(self) -> Factor:
        """The constant 0, all of it kept."""
        return self._filled(0)

    def _filled(self, value: int) -> Factor:
        row = aligned(self.dimension, dtype=self.dtype)
        row[...] = value
        return Factor(np.repeat(rows(row[None]), len(self.primes)), 0, row)

    # Transforms -----------------------------------------------------------------------------------------------------

    def to_evaluation(
        self,
        out: NDArray,
        coefficients: NDArray,
        *,
        kind: int = RESIDUES,
        omitted: NDArray[np.bool_] | None = None,
        minuend: NDArray | None = None,
        factors: NDArray | None = None,
        order: NDArray[np.uint32] = UNPERMUTED,
    ) -> None:
        """Evaluation form, canonical, of coefficients that are lazy residues, INTEGERS below 2^62 (int64), or residues
        modulo the prime ``kind``, to be centred.

        coefficients: as ``out``, which they may be, or with one tower for all; omitted: (polynomials, towers) of what
        is left out; minuend: as out: (minuend - result) times ``factors`` (:meth:`stored`) is the result; order: where
        in the transform's order a result stands.
        """
        polynomials, towers, _ = out.shape
        places = np.zeros((polynomials, towers, 5), np.int64)
        places[..., 0], places[..., 1] = rows(out), rows(coefficients)
        places[..., 2], places[..., 3] = np.arange(towers), kind
        if minuend is not None:
            places[..., 4] = rows(minuend)
        jobs = np.ascontiguousarray(places.reshape(-1, 5) if omitted is None else places[~omitted])
        if factors is None:
            factors = self.forward.scales[:, 0]
        if len(jobs):
            factors, held = np.ascontiguousarray(factors), (out, coefficients, minuend)
            self.workers.run(
                ntt.to_evaluation, len(jobs), jobs, order, factors, self.dimension, self.forward, held=held
            )

    def to_coefficients(self, out: NDArray, x: NDArray, tables: ntt.Tables | None = None, first: int = 0) -> None:
        """Coefficients of x, canonical, times the scale of ``tables`` (:meth:`inverse_times`).

        first: of the primes that towers belong to.  Modulo special primes out has (polynomials, 2 towers, N), uint32:
        of each tower the lower 30 bits, then the upper ones.
        """
        polynomials, towers, _ = x.shape
        places = np.empty((polynomials, towers, 3), np.int64)
        places[..., 0] = rows(out)[:, :: out.shape[1] // towers]
        places[..., 1], places[..., 2] = rows(x), first + np.arange(towers)
        tables = tables or self.inverse
        jobs = places.reshape(-1, 3)
        self.workers.run(ntt.to_coefficients, len(jobs), jobs, self.dimension, tables, held=(out, x))

    # Other primes ---------------------------------------------------------------------------------------------------

    def convert(
        self, out: NDArray, sources: Sequence[NDArray], factors: NDArray, omitted: NDArray[np.bool_] | None = None
    ) -> None:
        """Polynomials' coefficients modulo other primes, lazy.

        sources: uint32 (primes, N) of each, as :mod:`.bases` has them, with their ``factors``; omitted: as of
        :meth:`to_evaluation`.
        """
        outs = rows(out)
        if omitted is not None:
            outs[omitted] = 0
        addresses = np.zeros((len(out), factors.shape[2]), np.int64)
        for row, source in zip(addresses, sources, strict=True):
            row[: len(source)] = rows(source)
        counts = np.array([len(source) for source in sources])
        jobs, held = len(out) * bases.JOBS, (out, sources)
        self.workers.run(
            bases.convert, jobs, outs, addresses, counts, factors, self.dimension, self.constants, held=held
        )

    # Sums of products -----------------------------------------------------------------------------------------------

    def sum_of_products(
        self, out: NDArray, products: Sequence[Products], permutation: NDArray[np.uint32] = UNPERMUTED
    ) -> None:
        """out = the sums, one group after the other, canonical, permuted.

        Factors and groups are canonical, of out's towers at least; factors may have a shift, groups modulo small primes
        any integers below 2^30.  Without permutation, out may be among them.
        """
        if self.dtype is np.uint64 and max(map(len, products)) > MOST_LARGE_TERMS:
            if self.workers.are_together:
                raise ValueError(f"more than {MOST_LARGE_TERMS} products are summed step by step")
            self.sum_of_products(out, [terms[:MOST_LARGE_TERMS] for terms in products])
            one, done = self.whole(1, out.shape[1]), out.reshape(len(products), -1, *out.shape[1:])
            rest = [[(one, sums), *terms[MOST_LARGE_TERMS:]] for sums, terms in zip(done, products, strict=True)]
            self.sum_of_products(out, rest, permutation)
            return
        self._sum(out, _sums(out, len(products)), products, permutation.reshape(-1, self.dimension))

    def sum_of_sums(
        self,
        out: NDArray,
        parts: Sequence[Products],
        permutations: NDArray[np.uint32],
        products: Sequence[Sequence[tuple[Operand, int]]],
    ) -> None:
        """The same of factors and parts, by number.

        A part is the sum of its own products, under its row of ``permutations``; it never goes to memory.  Errors:
        ValueError for more than MOST_PARTS parts, or, modulo special primes, MOST_LARGE_TERMS products.
        """
        longest = max(map(len, (*parts, *products)))
        if len(parts) > elementwise.MOST_PARTS or (self.dtype is np.uint64 and longest > MOST_LARGE_TERMS):
            raise ValueError(f"{longest} products, and {len(parts)} parts, are too many to sum")
        outs = _sums(out, len(products))
        together, towers = outs.shape[1:]
        places = np.arange(len(parts) * together).reshape(-1, together, 1) * (BLOCK * out.itemsize)
        kept = [Group(np.repeat(place, towers, axis=1), None) for place in places]
        of_parts = [[(factor, kept[part]) for factor, part in row] for row in products]
        nowhere = np.zeros((len(parts), together, towers), np.int64)
        self._sum(out, np.concatenate([nowhere, outs]), [*parts, *of_parts], permutations, len(parts))

    def _sum(
        self,
        out: NDArray,
        outs: NDArray[np.int64],
        products: Sequence[Products],
        permutations: NDArray[np.uint32],
        parts: int = 0,
    ) -> None:
        """outs: (sums, polynomials of a group, towers)."""
        sums, together, towers = outs.shape
        terms = max(map(len, products))
        xs, ms = np.zeros((towers, sums, terms, together), np.int64), np.zeros((towers, sums, terms), np.int64)
        shifts = np.zeros((sums, terms), np.int64)
        for i, row in enumerate(products):
            for j, (operand, operands) in enumerate(row):
                factor, x = _factor(operand), _group(operands)
                ms[:, i, j], shifts[i, j] = factor.rows[:towers], factor.shift
                xs[:, i, j] = x.rows[:, :towers].T
        counts = np.array([len(row) for row in products])
        self.workers.run(
            elementwise.sums,
            towers * elementwise.JOBS,
            np.ascontiguousarray(outs.transpose(2, 0, 1)),
            xs,
            ms,
            shifts,
            counts,
            self.dimension,
            permutations,
            parts,
            self.constants,
            held=(out, products),
        )


def _sums(out: NDArray, sums: int) -> NDArray[np.int64]:
    """(sums, polynomials of each, towers) addresses of results."""
    addresses = rows(out)
    return addresses.reshape(sums, -1, addresses.shape[1])
