"""Average pool and fully connected layer."""

from __future__ import annotations

from typing import TypeVar

from .evaluator import Evaluator, rotated_sum
from .packing import ClassifierPacking

X = TypeVar("X")


def classify(ev: Evaluator[X], x: X, packing: ClassifierPacking) -> X:
    """Logit k in slot k of each picture's, from the last stage's channels; others hold what is left of partial sums.

    1 level, which is all that is kept of ``x``.  Rotations: powers of two below a picture's slots of a channel, and
    from a block's slots up to half of all; and -1.
    """
    x = ev.lower(x, 1)
    step = 1
    while step < packing.picture_slots:  # the first slot of a picture gathers the sum of its pixels
        x = ev.add(x, ev.rotate(x, [step])[0])
        step *= 2
    terms = (_weighted(ev, x, packing, label) for label in reversed(range(len(packing.bias))))
    total = ev.lower(rotated_sum(ev, terms, -1), 0)  # weighted sums of class k in slot k of each picture in each block
    step = packing.block_slots
    while step < ev.slots(x):  # over the channels
        total = ev.add(total, ev.rotate(total, [step])[0])
        step *= 2
    return ev.add_vector(total, packing.bias_vector)


def _weighted(ev: Evaluator[X], x: X, packing: ClassifierPacking, label: int) -> X:
    return ev.products([x], lambda _: packing.vector(label))
