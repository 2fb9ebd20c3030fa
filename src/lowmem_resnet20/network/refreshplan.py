"""What is chosen of a refresh: how its transforms are grouped into matrices, and how those are applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..errors import PlanError

#: Levels that removing the multiples of the first modulus takes (:mod:`..native.refresh.exponential`).
MODULAR_LEVELS = 9


def series_levels(degree: int) -> int:
    """Levels that a series of ``degree`` takes (:mod:`..native.refresh.series`)."""
    return degree.bit_length()


class Steps(Enum):
    """How a matrix's rotations are done: hoisted, a key for each step; or by Horner's rule and one after the other, two
    keys a matrix."""

    HOISTED = "hoisted"
    HORNER = "Horner"


@dataclass(frozen=True)
class Grouping:
    """How the log2(slots / 2) layers of a transform become matrices, one level each.

    layers: of each matrix, by ascending stride, for the most slots; for fewer, the last ones shrink.  babies: baby
    steps of each.
    """

    layers: tuple[int, ...]
    babies: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.babies):
            raise PlanError(f"{len(self.layers)} matrices with baby steps for {len(self.babies)}")

    @property
    def levels(self) -> int:
        return len(self.layers)

    def for_slots(self, slots: int) -> Grouping:
        """The grouping for ``slots`` real slots; matrices without a layer are left out."""
        left, layers = slots.bit_length() - 2, []
        if left > sum(self.layers):
            raise PlanError(f"matrices of {list(self.layers)} layers do not reach {slots} slots")
        for size in self.layers:
            if left > 0:
                layers.append(min(size, left))
                left -= layers[-1]
        return Grouping(tuple(layers), self.babies[: len(layers)])


@dataclass(frozen=True)
class RefreshPlan:
    """The choices of a refresh."""

    slots_to_coefficients: Grouping
    coefficients_to_slots: Grouping
    steps: Steps

    @property
    def level_budget(self) -> tuple[int, int]:
        """Levels of coefficients-to-slots and of slots-to-coefficients."""
        return self.coefficients_to_slots.levels, self.slots_to_coefficients.levels

    @property
    def reserve(self) -> int:
        """Levels that a ciphertext must have left to be refreshed."""
        return self.slots_to_coefficients.levels

    def levels(self, degree: int) -> int:
        """Levels from the raised modulus to the result of a Fourier series of ``degree``."""
        return self.coefficients_to_slots.levels + MODULAR_LEVELS + series_levels(degree)


#: The least time at N = 2^16, where a giant step costs about four baby steps.  Coefficients to slots in three matrices
#: takes a fifth longer; in five it is as fast, and all else a level dearer.  At N = 2^15, with six digits, the same
#: plan has the least transforms and key sums, counted and weighted by their times.
LEAST_TIME = RefreshPlan(Grouping((4, 4, 5), (8, 8, 8)), Grouping((3, 3, 3, 4), (8, 8, 8, 8)), Steps.HOISTED)
#: The same for all the slots of that ring, which make one layer more.  It goes where it adds no diagonals that are as
#: long as the ring's slots, those of the first matrix and of the largest strides: encoded, they are what takes memory.
LEAST_TIME_ALL_SLOTS = RefreshPlan(Grouping((4, 5, 5), (8, 8, 8)), Grouping((3, 3, 4, 4), (8, 8, 8, 8)), Steps.HOISTED)
#: One key a matrix: its giant step is the next one's baby step.
FEWEST_KEYS = RefreshPlan(Grouping((4, 4, 5), (16, 16, 8)), Grouping((4, 4, 5), (16, 16, 8)), Steps.HORNER)
#: The same for all the slots of a ring of dimension 2^16.
FEWEST_KEYS_ALL_SLOTS = RefreshPlan(Grouping((4, 5, 5), (16, 16, 16)), Grouping((4, 5, 5), (16, 16, 16)), Steps.HORNER)
#: By the name that a parameter set's refresh gives.
PLANS = {
    "least time": LEAST_TIME,
    "least time, all slots": LEAST_TIME_ALL_SLOTS,
    "fewest keys": FEWEST_KEYS,
    "fewest keys, all slots": FEWEST_KEYS_ALL_SLOTS,
}
