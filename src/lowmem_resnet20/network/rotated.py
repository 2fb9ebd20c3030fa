"""A sum of vectors, each moved further than the one before, by one rotation key (Horner's rule)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from .evaluator import Evaluator

X = TypeVar("X")


def rotated_sum(ev: Evaluator[X], furthest_first: Iterator[X], step: int) -> X:
    """sum_n rotate(x_n, n * step); the terms come from the last to x_0, each made when it is added.  0 levels."""
    total = next(furthest_first)
    for term in furthest_first:
        (moved,) = ev.rotate(total, [step])
        total = ev.add(moved, term)
    return total
