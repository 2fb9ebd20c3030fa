"""The evaluators that need no encryption: one that only plans, and one on numpy vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import PlanError
from .evaluator import VectorOf
from .parameters import ParameterSet
from .refresh import series_levels
from .relu import evaluate_fourier, evaluate_series


@dataclass(frozen=True)
class Clear:
    """A vector in the clear, with the levels its encryption would have left.

    values: (slots,).
    """

    values: np.ndarray
    levels: int


class _Counting:
    """Level arithmetic and the record of rotations that the unencrypted evaluators share."""

    def __init__(self, set_: ParameterSet) -> None:
        self.set = set_
        self.stage = 0
        self.rotations: dict[int, set[int]] = {}
        self.refreshes: dict[int, int] = {}

    def enter_stage(self, stage: int) -> None:
        self.stage = stage
        self.rotations.setdefault(stage, set())
        self.refreshes.setdefault(stage, 0)

    def _spend(self, levels: int, cost: int) -> int:
        if levels < cost:
            raise PlanError(f"an operation of {cost} levels has only {levels} left, in stage {self.stage}")
        return levels - cost

    def _refreshed(self, slots: int) -> int:
        """Levels after bootstrapping ``slots`` slots, which is counted."""
        expected = self.set.stage_slots(self.stage)
        if slots != expected:
            raise PlanError(f"stage {self.stage} bootstraps {expected} slots, not {slots}")
        self.refreshes[self.stage] += 1
        return self.set.usable_levels

    def _refreshed_function(self, slots: int, degree: int) -> int:
        """Levels after a functional bootstrapping with a series of ``degree``."""
        refresh = self.set.refresh
        return self._refreshed(slots) + refresh.series_levels(refresh.degree) - refresh.series_levels(degree)


@dataclass(frozen=True)
class Planned:
    """A vector of which only size and levels are known."""

    slots: int
    levels: int


class PlanningEvaluator(_Counting):
    """Evaluates nothing: records the rotations and refreshes of each stage and checks every level.

    levels_of: by stage and step, the most levels left where it is rotated.
    """

    def __init__(self, set_: ParameterSet) -> None:
        super().__init__(set_)
        self.levels_of: dict[int, dict[int, int]] = {}

    def slots(self, x: Planned) -> int:
        return x.slots

    def levels(self, x: Planned) -> int:
        return x.levels

    def with_slots(self, x: Planned, slots: int) -> Planned:
        return Planned(slots, x.levels)

    def rotate(self, x: Planned, steps: Sequence[int]) -> list[Planned]:
        levels_of = self.levels_of.setdefault(self.stage, {})
        for step in (signed(step, self.set.full_slots) for step in steps):
            self.rotations[self.stage].add(step)
            levels_of[step] = max(x.levels, levels_of.get(step, 0))
        return [x] * len(steps)

    def add(self, x: Planned, y: Planned) -> Planned:
        if x.slots != y.slots:
            raise PlanError(f"a sum of {x.slots} and {y.slots} slots")
        return Planned(x.slots, min(x.levels, y.levels))

    def add_vector(self, x: Planned, vector: Callable[[], np.ndarray]) -> Planned:
        return x

    def products(self, xs: Sequence[Planned], vector_of: VectorOf) -> Planned:
        return Planned(xs[0].slots, self._spend(min(x.levels for x in xs), 1))

    def lower(self, x: Planned, levels: int) -> Planned:
        self._spend(x.levels, levels)
        return Planned(x.slots, levels)

    def bootstrap(self, x: Planned) -> Planned:
        return Planned(x.slots, self._refreshed(x.slots))

    def bootstrap_function(self, x: Planned, coefficients: tuple[complex, ...]) -> Planned:
        return Planned(x.slots, self._refreshed_function(x.slots, len(coefficients) - 1))

    def chebyshev(self, x: Planned, coefficients: tuple[float, ...]) -> Planned:
        return Planned(x.slots, self._spend(x.levels, series_levels(len(coefficients) - 1)))


class ClearEvaluator(_Counting):
    """The network on numpy vectors: what the encrypted one computes, but for noise.

    ``noise`` is the standard deviation added at each refresh (in the unit of the scaled values), to see what
    an encrypted run would give; 0 for exact arithmetic.
    """

    def __init__(self, set_: ParameterSet, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__(set_)
        self.noise = noise
        self.random = np.random.default_rng(seed)

    def slots(self, x: Clear) -> int:
        return len(x.values)

    def levels(self, x: Clear) -> int:
        return x.levels

    def with_slots(self, x: Clear, slots: int) -> Clear:
        if slots >= len(x.values):
            return Clear(np.tile(x.values, slots // len(x.values)), x.levels)
        copies = x.values.reshape(-1, slots)
        largest = np.abs(copies).max()  # of values out of range, which may be huge: rounding grows with them
        if largest < np.inf and not np.allclose(copies, copies[0], rtol=0, atol=1e-9 * max(1.0, largest)):
            raise PlanError(f"{len(x.values)} slots do not repeat with period {slots}")
        return Clear(copies[0].copy(), x.levels)

    def rotate(self, x: Clear, steps: Sequence[int]) -> list[Clear]:
        self.rotations[self.stage].update(signed(step, self.set.full_slots) for step in steps)
        return [Clear(np.roll(x.values, -step), x.levels) for step in steps]

    def add(self, x: Clear, y: Clear) -> Clear:
        return Clear(x.values + y.values, min(x.levels, y.levels))

    def add_vector(self, x: Clear, vector: Callable[[], np.ndarray]) -> Clear:
        return Clear(x.values + vector(), x.levels)

    def products(self, xs: Sequence[Clear], vector_of: VectorOf) -> Clear:
        levels = self._spend(min(x.levels for x in xs), 1)
        total = np.zeros_like(xs[0].values)
        for i, x in enumerate(xs):
            total += x.values * vector_of(i)
        return Clear(total, levels)

    def lower(self, x: Clear, levels: int) -> Clear:
        self._spend(x.levels, levels)
        return Clear(x.values, levels)

    def bootstrap(self, x: Clear) -> Clear:
        return Clear(self._noisy(x.values), self._refreshed(len(x.values)))

    def bootstrap_function(self, x: Clear, coefficients: tuple[complex, ...]) -> Clear:
        levels = self._refreshed_function(len(x.values), len(coefficients) - 1)
        return Clear(self._noisy(evaluate_fourier(coefficients, x.values)), levels)

    def chebyshev(self, x: Clear, coefficients: tuple[float, ...]) -> Clear:
        levels = self._spend(x.levels, series_levels(len(coefficients) - 1))
        return Clear(evaluate_series(coefficients, x.values), levels)

    def _noisy(self, values: np.ndarray) -> np.ndarray:
        return values + self.random.normal(0, self.noise, len(values)) if self.noise else values


def signed(step: int, full_slots: int) -> int:
    """Return a rotation as the least absolute step that does the same on all slots of the ring."""
    step %= full_slots
    return step - full_slots if step > full_slots // 2 else step
