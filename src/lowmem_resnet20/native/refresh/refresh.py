"""The functional refresh: a ciphertext's towers back, and a real function applied to its slots, in one pass.

1. Slots to coefficients, at the bottom of the modulus chain: the polynomial's coefficients are the slots m.
2. Raising the modulus: a coefficient, m / 2 in units of q_0, becomes m / 2 + I.
3. Coefficients to slots, and their real part: x = (m / 2 + I) / UNIT.
4. E = exp(2 pi i UNIT x) = exp(i pi m), in which the integers I are gone: see :mod:`.exponential`.
5. The function as a Fourier series of period 2 in m: 2 Re(sum_j c_j E^j).

Traces and conjugations come before the rescale that follows them, at the square of the scale, where what a key switch
adds is far below what the rescale adds.
Source: ePrint 2026/367.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from ...network.refreshplan import RefreshPlan, Steps
from ..ring.arithmetic import Arithmetic, X
from ..ring.slottransform import SlotTransform
from . import series
from .exponential import UNIT, exponential
from .transforms import apply_by_horner, coefficients_to_slots, slots_to_coefficients, split


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
    """The transforms for ``slots`` real slots, at most N/2, with all constant factors: x is (m + 2 I) / (2 UNIT),
    the trace adds up N/slots times as much, the real part twice."""
    factor = 1 / (2 * UNIT * (ring_dimension // slots) * 2)
    down, up = plan.slots_to_coefficients.for_slots(slots), plan.coefficients_to_slots.for_slots(slots)
    first = slots_to_coefficients(slots, down.layers, 1.0)
    second = coefficients_to_slots(slots, up.layers, factor)
    to_coefficients, before = split(first, down.babies, 0)
    _, moved = split(second, up.babies[::-1], 0)
    to_slots, _ = split(second, up.babies[::-1], -moved)
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
        x = self.ev.raise_modulus(x)
        x = self.coefficients_to_slots(x)
        return self.fourier(exponential(self.ev, x), coefficients)

    def slots_to_coefficients(self, x: X) -> X:
        """1 tower, scale q_0 / 2: coefficient m becomes m q_0 / 2."""
        ev = self.ev
        x = ev.drop(x, len(self.transforms.to_coefficients) + 1)
        for transform in self.transforms.to_coefficients:
            scale = ev.moduli[0] / 2 if ev.towers(x) == 2 else ev.scale_at(ev.towers(x) - 1)
            x = self._applied(x, transform, scale)
        return self._add_rotated(ev.rotate(x, [self.transforms.turn])[0], self.transforms.slots // 2)

    def coefficients_to_slots(self, x: X) -> X:
        """(m / 2 + I) / UNIT in each slot, real, at the chain's scale."""
        ev, slots = self.ev, self.transforms.slots
        *first, last = self.transforms.to_slots
        x = self._add_rotated(x, slots // 2)
        for transform in first:
            x = self._applied(x, transform, ev.scale_at(ev.towers(x) - 1))
        x = self._applied(x, last, ev.scale_at(ev.towers(x) - 1), rescaled=False)
        while slots < ev.ring_dimension // 2:  # before rescaling, where key switches add no noise to speak of
            x = self._add_rotated(x, slots)
            slots *= 2
        return ev.add_conjugate(x, rescaled=True)

    def fourier(self, x: X, coefficients: Sequence[complex]) -> X:
        """2 Re(sum_j coefficients[j] x^j)."""
        ev = self.ev
        towers = ev.towers(x) - series.levels(len(coefficients) - 1)
        x = series.evaluate(ev, series.Powers(), x, coefficients, ev.scale_at(towers), rescaled=False)
        return ev.add_conjugate(x, rescaled=True)

    def _applied(self, x: X, transform: SlotTransform, scale: float, *, rescaled: bool = True) -> X:
        """At ``scale``, when it is rescaled."""
        scale *= self.ev.moduli[self.ev.towers(x) - 1]
        if self.plan.steps is Steps.HOISTED:
            return self.ev.transform(x, transform, scale, rescaled=rescaled)
        return apply_by_horner(self.ev, x, transform, scale, rescaled=rescaled)

    def _add_rotated(self, x: X, step: int) -> X:
        return self.ev.add_rotated(x, x, step)
