"""The functional refresh: a ciphertext's towers back, and a real function applied to its slots, in one pass.

1. Slots to coefficients, at the bottom of the modulus chain: the polynomial's coefficients are the slots.
2. Raising the modulus, under the sparse secret: to each coefficient m q_0 / 2 is added q_0 I, |m / 2 + I| <= OVERFLOW.
3. Coefficients to slots, and their real part: x = (m / 2 + I) / OVERFLOW.
4. E = exp(i pi m) = exp(2 pi i (m / 2 + I)): a Chebyshev series of exp(2 pi i OVERFLOW x / 2^DOUBLINGS) and so many
   squarings.  The multiples of q_0 are gone: E has period 2 in m.
5. The function as a Fourier series, 2 Re(sum_j c_j E^j).

The exponential stays complex throughout, cosine and sine in one ciphertext.  A series of degree 28 takes 5 levels and
three squarings 3; its error, 2 J_29(4 pi) 2^3 < 4e-7, is far below the noise.
Source: ePrint 2026/367; sparse secret, Bossuat, Troncoso-Pastoriza and Hubaux (ACNS 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Generic

import numpy as np
from numpy.polynomial import chebyshev

from . import series
from .arithmetic import Arithmetic, X
from .transforms import (
    SlotTransform,
    apply_by_horner,
    coefficients_to_slots,
    slots_to_coefficients,
    split,
)

#: Bound on a coefficient after raising, in units of q_0.  Under 32 nonzero coefficients of the sparse secret it is a sum of
#: 33 uniforms in [-1/2, 1/2]; one of 2^16 goes beyond 16 with a probability of 2^16 * 2 * 0.5^33 / 33! < 2^-137.
OVERFLOW = 16
#: Squarings of the exponential, and the degree of its Chebyshev series.
DOUBLINGS, EXPONENTIAL_DEGREE = 3, 28
EXPONENTIAL_LEVELS = DOUBLINGS + series.levels(EXPONENTIAL_DEGREE)


@dataclass(frozen=True)
class Grouping:
    """How the log2(slots / 2) layers of a transform become matrices.

    layers: of each matrix, by ascending stride, for the most slots; for fewer, the last ones shrink.  babies: baby steps of
    each.
    """

    layers: tuple[int, ...]
    babies: tuple[int, ...]

    @property
    def levels(self) -> int:
        return len(self.layers)

    def for_slots(self, slots: int) -> tuple[int, ...]:
        """The layers of each matrix for ``slots`` real slots; a matrix that shrinks to none is left out."""
        left, layers = slots.bit_length() - 2, []
        for size in self.layers:
            layers.append(min(size, left))
            left -= layers[-1]
        return tuple(size for size in layers if size)


class Steps(Enum):
    """How a matrix's rotations are done: hoisted, a key for each step; or one after the other, two keys a matrix."""

    HOISTED = "hoisted"
    HORNER = "Horner"


@dataclass(frozen=True)
class RefreshPlan:
    """The choices of a refresh: the matrices of its two transforms, and how they are applied."""

    slots_to_coefficients: Grouping
    coefficients_to_slots: Grouping
    steps: Steps

    @property
    def reserve(self) -> int:
        """Levels that a ciphertext must have left to be refreshed."""
        return self.slots_to_coefficients.levels

    def levels(self, degree: int) -> int:
        """Levels from the raised modulus to the result of a Fourier series of ``degree``."""
        return self.coefficients_to_slots.levels + EXPONENTIAL_LEVELS + series.levels(degree)


@dataclass(frozen=True)
class Transforms:
    """The matrices of a refresh of ``slots`` slots, in baby and giant steps.

    turn: the rotation between the two that makes up for what both move the slots by.
    """

    slots: int
    to_coefficients: list[SlotTransform]
    turn: int
    to_slots: list[SlotTransform]


def prepare(plan: RefreshPlan, ring_dimension: int, slots: int) -> Transforms:
    """The transforms for ``slots`` real slots, at most N/2, with all constant factors: x is 1 / (2 OVERFLOW) of m + 2 I,
    the trace adds up N/slots times as much, the real part twice."""
    factor = 1 / (2 * OVERFLOW * (ring_dimension // slots) * 2)
    down, up = plan.slots_to_coefficients, plan.coefficients_to_slots
    first = slots_to_coefficients(slots, down.for_slots(slots), 1.0)
    second = coefficients_to_slots(slots, up.for_slots(slots), factor)
    first_babies, second_babies = down.babies[: len(first)], up.babies[: len(second)][::-1]
    to_coefficients, before = split(first, first_babies, 0)
    _, moved = split(second, second_babies, 0)
    to_slots, _ = split(second, second_babies, -moved)
    return Transforms(slots, to_coefficients, (-moved - before) % (slots // 2), to_slots)


@dataclass
class Refresh(Generic[X]):
    """Refreshes of ciphertexts of one number of slots."""

    ev: Arithmetic[X]
    plan: RefreshPlan
    transforms: Transforms

    def __call__(self, x: X, coefficients: Sequence[complex]) -> X:
        """2 Re(sum_j c_j exp(i pi j m)) of the slots m, real and in (-1, 1), at the chain's scale.

        ``x`` has ``plan.reserve`` + 1 towers at least, the result L + 1 - ``plan.levels(degree)``.
        """
        x = self.slots_to_coefficients(x)
        x = self.raised(x)
        x = self.coefficients_to_slots(x)
        return self.fourier(self.exponential(x), coefficients)

    def slots_to_coefficients(self, x: X) -> X:
        """1 tower, scale q_0 / 2: coefficient m becomes m q_0 / 2."""
        ev = self.ev
        x = ev.drop(x, len(self.transforms.to_coefficients) + 1)
        for transform in self.transforms.to_coefficients:
            scale = ev.moduli[0] / 2 if ev.towers(x) == 2 else ev.scale_at(ev.towers(x) - 1)
            x = self._applied(x, transform, scale)
        return self._add_rotated(ev.rotate(x, [self.transforms.turn])[0], self.transforms.slots // 2)

    def raised(self, x: X) -> X:
        """All towers; the coefficients plus multiples of q_0, which the sparse secret keeps small."""
        return self.ev.to_dense(self.ev.raise_modulus(self.ev.to_sparse(x)))

    def coefficients_to_slots(self, x: X) -> X:
        """(m / 2 + I) / OVERFLOW in each slot, real, at the chain's scale."""
        ev, slots = self.ev, self.transforms.slots
        *first, last = self.transforms.to_slots
        x = self._add_rotated(x, slots // 2)
        for transform in first:
            x = self._applied(x, transform, ev.scale_at(ev.towers(x) - 1))
        x = self._apply(x, last, ev.scale_at(ev.towers(x) - 1))
        while slots < ev.ring_dimension // 2:  # before rescaling, where key switches add no noise to speak of
            x = self._add_rotated(x, slots)
            slots *= 2
        return ev.rescale(ev.add(x, ev.conjugate(x)))

    def exponential(self, x: X) -> X:
        """exp(2 pi i OVERFLOW x).  EXPONENTIAL_LEVELS levels."""
        ev = self.ev
        towers = ev.towers(x) - series.levels(EXPONENTIAL_DEGREE)
        coefficients = exponential_coefficients()
        x = ev.rescale(series.evaluate(ev, series.Chebyshev(), x, coefficients, ev.scale_at(towers)))
        for _ in range(DOUBLINGS):
            x = ev.rescale(ev.sum_of_products([(x, x)]))
        return x

    def fourier(self, x: X, coefficients: Sequence[complex]) -> X:
        """2 Re(sum_j coefficients[j] x^j)."""
        ev = self.ev
        towers = ev.towers(x) - series.levels(len(coefficients) - 1)
        x = series.evaluate(ev, series.Powers(), x, coefficients, ev.scale_at(towers))
        return ev.rescale(ev.add(x, ev.conjugate(x)))

    def _apply(self, x: X, transform: SlotTransform, scale: float) -> X:
        """Not rescaled: when it is, it has ``scale``."""
        scale *= self.ev.moduli[self.ev.towers(x) - 1]
        if self.plan.steps is Steps.HOISTED:
            return self.ev.transform(x, transform, scale)
        return apply_by_horner(self.ev, x, transform, scale)

    def _applied(self, x: X, transform: SlotTransform, scale: float) -> X:
        return self.ev.rescale(self._apply(x, transform, scale))

    def _add_rotated(self, x: X, step: int) -> X:
        return self.ev.add(x, self.ev.rotate(x, [step])[0])


@cache
def exponential_coefficients() -> tuple[complex, ...]:
    """Chebyshev coefficients of exp(2 pi i OVERFLOW x / 2^DOUBLINGS) on [-1, 1]."""
    turn = 2 * np.pi * OVERFLOW / 2**DOUBLINGS
    real = chebyshev.chebinterpolate(lambda x: np.cos(turn * x), EXPONENTIAL_DEGREE)
    imaginary = chebyshev.chebinterpolate(lambda x: np.sin(turn * x), EXPONENTIAL_DEGREE)
    even = np.arange(EXPONENTIAL_DEGREE + 1) % 2 == 0
    return tuple(np.where(even, real, 1j * imaginary))
