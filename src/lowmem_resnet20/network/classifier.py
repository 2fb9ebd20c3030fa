"""Average pool and fully connected layer."""

from __future__ import annotations

from typing import TypeVar

from .evaluator import Evaluator, rotated_sum
from .packing import ClassifierPacking

X = TypeVar("X")


def classify(ev: Evaluator[X], x: X, packing: ClassifierPacking) -> X:
    """Logit k in slot k of each picture's, from the last stage's channels, and so in every block.
    Where a picture has fewer slots than there are classes, :class:`.ClassifierPacking` says where the others are, and
    further blocks hold sums over a part of the channels.

    1 level, which is all that is kept of ``x``.  Rotations: powers of two below a picture's slots of a channel, and
    from a block's slots up to half of all; and -1.
    """
    x = ev.lower(x, 1)
    step = 1
    while step < packing.picture_slots:  # the first slot of a picture gathers the sum of its pixels
        x = ev.add(x, ev.rotate(x, [step])[0])
        step *= 2
    # Under each shift, weighted sums of a part's class k in slot k of each picture in each block.
    shifts = (_sums(ev, x, packing, shift) for shift in reversed(range(packing.parts)))
    total = rotated_sum(ev, shifts, packing.part_slots)
    step = packing.block_slots
    while step < packing.part_slots:  # over the channels
        total = ev.add(total, ev.rotate(total, [step])[0])
        step *= 2
    return ev.add_vector(total, packing.bias_vector)


def _sums(ev: Evaluator[X], x: X, packing: ClassifierPacking, shift: int) -> X:
    terms = (_weighted(ev, x, packing, label, shift) for label in reversed(range(packing.labels)))
    return ev.lower(rotated_sum(ev, terms, -1), 0)


def _weighted(ev: Evaluator[X], x: X, packing: ClassifierPacking, label: int, shift: int) -> X:
    return ev.products([x], lambda _: packing.vector(label, shift))
