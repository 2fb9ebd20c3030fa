"""The downsampling block's two stride-2 convolutions, and the way into the next stage's packing.

Four times fewer pixels and twice the channels, for the main branch and the shortcut: together they fill
exactly the slots the input had.  One convolution computes both, each result where its own even pixels'
neighbourhood is; one refresh serves both; a gather of three levels then moves every pixel to its slot.
"""

from __future__ import annotations

from typing import TypeVar

from .evaluator import Evaluator
from .packing import GatherPacking
from .parameters import GATHER_LEVELS

X = TypeVar("X")


def gather(ev: Evaluator[X], y: X, packing: GatherPacking) -> tuple[X, X]:
    """Main branch and shortcut, (2C, half, half) each, from the strided layout of DownsamplePacking.

    3 levels, which is all that is kept of ``y``.  Rotations, with h = width / 2: {1, -1} (columns),
    {3h, -h(h - 1)} (rows), {-2hh, 2hh} (channels) and C * hh * 2 (the two halves of the blocks onto each other).
    """
    y = _gather_columns(ev, ev.lower(y, GATHER_LEVELS), packing)
    y = _gather_rows(ev, ev.lower(y, GATHER_LEVELS - 1), packing)
    return _gather_channels(ev, ev.lower(y, GATHER_LEVELS - 2), packing)


def _gather_columns(ev: Evaluator[X], y: X, packing: GatherPacking) -> X:
    """Columns 2c + j -> j * h + c, a move by c - (h - 1) j: each column is added on the way of the furthest."""
    half = packing.half
    left = _travel(ev, [(y, lambda c=c: packing.column(c, 0)) for c in range(half)], 1)
    right = _travel(ev, [(y, lambda c=c: packing.column(half - 1 - c, 1)) for c in range(half)], -1)
    return ev.add(left, right)


def _gather_rows(ev: Evaluator[X], y: X, packing: GatherPacking) -> X:
    """Rows 2r + i, halves j -> (i, j, r): a move by 3h r - h(h - 1)(2i + j)."""
    half = packing.half
    total = None
    for i, j in ((1, 1), (1, 0), (0, 1), (0, 0)):
        rows = [(y, lambda r=r, i=i, j=j: packing.row(r, i, j)) for r in range(half)]
        picture = _travel(ev, rows, 3 * half)
        if total is not None:
            (moved,) = ev.rotate(total, [-half * (half - 1)])
            picture = ev.add(moved, picture)
        total = picture
    return total


def _gather_channels(ev: Evaluator[X], y: X, packing: GatherPacking) -> tuple[X, X]:
    """Quarters to channels; the lower half of the blocks holds every other pair of channels, the upper the rest."""
    step = 2 * packing.quarter
    slots = packing.channels * step  # of the next stage
    kept, moved = (ev.products([y], lambda _, u=u: packing.branch(u, 0)) for u in (0, 1))
    main = ev.add(kept, ev.rotate(moved, [-step])[0])
    moved, kept = (ev.products([y], lambda _, u=u: packing.branch(u, 1)) for u in (0, 1))
    shortcut = ev.add(kept, ev.rotate(moved, [step])[0])
    return tuple(ev.with_slots(ev.add(x, ev.rotate(x, [slots])[0]), slots) for x in (main, shortcut))


def _travel(ev: Evaluator[X], terms: list, step: int) -> X:
    """sum_n rotate(x_n * mask_n, n * step), by one rotation key; terms: (x_n, mask_n). 1 level."""
    total = None
    for x, mask in reversed(terms):
        term = ev.products([x], lambda _, mask=mask: mask())
        if total is not None:
            (moved,) = ev.rotate(total, [step])
            term = ev.add(moved, term)
        total = term
    return total
