"""The operations that the network asks of an evaluator.

A layer knows slots, levels and these operations; it does not know whether they happen in numpy or, for planning, not
at all (:mod:`.clear`), or under encryption (:mod:`..openfhe.evaluator`, :mod:`..native.evaluator`).  All evaluators
count levels the same way: ``levels(x)`` multiplications are possible before ``x`` must be refreshed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

X = TypeVar("X")
#: Gives the plaintext vector (slots,) of the i-th product; called when, and only if, it is needed.
VectorOf = Callable[[int], np.ndarray]


class Incomputable(Exception):
    """An evaluator's library refuses to compute: of a ciphertext that is not what it claims to be."""


class Evaluator(Protocol, Generic[X]):
    """Operations on a handle ``X``: a vector of slots, encrypted or not, that repeats with period slots(x).

    Errors: PlanError; Incomputable.
    """

    def enter_stage(self, stage: int) -> None:
        """Make ready what a stage needs: rotation keys and bootstrapping of its slots; free the last one's."""

    def slots(self, x: X) -> int: ...

    def levels(self, x: X) -> int: ...

    def with_slots(self, x: X, slots: int) -> X:
        """Return the same vector seen with more slots (copies), or with fewer where it repeats.  0 levels."""

    def rotate(self, x: X, steps: Sequence[int]) -> list[X]:
        """Return a rotation for each step: slot i + step comes to slot i.  0 levels."""

    def add(self, x: X, y: X) -> X: ...

    def add_vector(self, x: X, vector: Callable[[], np.ndarray]) -> X: ...

    def products(self, xs: Sequence[X], vector_of: VectorOf) -> X:
        """Return sum_i xs[i] * vector_of(i), slot by slot.  1 level."""

    def lower(self, x: X, levels: int) -> X:
        """Drop primes until ``levels`` levels are left: all that follows gets cheaper."""

    def bootstrap(self, x: X) -> X:
        """Return the same values, all usable levels again.  Values must lie in about [-1, 1]."""

    def bootstrap_function(self, x: X, coefficients: tuple[complex, ...]) -> X:
        """Return the Fourier series of the values, which must lie in [-1, 1).

        All usable levels again, and for a series shorter than the set's ReLU some more.
        """

    def chebyshev(self, x: X, coefficients: tuple[float, ...]) -> X:
        """Return the Chebyshev series on [-1, 1] in every slot."""


def rotated_sum(ev: Evaluator[X], furthest_first: Iterator[X], step: int) -> X:
    """Sum rotate(x_n, n * step) over n, by one rotation key (Horner's rule).  0 levels.

    furthest_first: the terms from the last to x_0, each made when it is added.
    """
    total = next(furthest_first)
    for term in furthest_first:
        (moved,) = ev.rotate(total, [step])
        total = ev.add(moved, term)
    return total
