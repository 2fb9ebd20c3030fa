"""Average pool and fully connected layer."""

from __future__ import annotations

from typing import TypeVar

from .evaluator import Evaluator
from .packing import ClassifierPacking

X = TypeVar("X")


def classify(ev: Evaluator[X], x: X, packing: ClassifierPacking) -> X:
    """Logit k in slot k, from the last stage's channels; other slots hold what is left of partial sums.

    1 level, which is all that is kept of ``x``.  Rotations: powers of two below the number of slots, and -1.
    """
    x = ev.lower(x, 1)
    step = 1
    while step < packing.width * packing.width:  # the first slot of a block gathers the sum of its pixels
        x = ev.add(x, ev.rotate(x, [step])[0])
        step *= 2
    total = None
    for label in reversed(range(len(packing.bias))):  # weighted sums of class k to slot k of each block
        term = ev.products([x], lambda _, label=label: packing.vector(label))
        total = term if total is None else ev.add(ev.rotate(total, [-1])[0], term)
    total = ev.lower(total, 0)
    while step < ev.slots(x):  # over the channels
        total = ev.add(total, ev.rotate(total, [step])[0])
        step *= 2
    return ev.add_vector(total, packing.bias_vector)
