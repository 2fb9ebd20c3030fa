"""The downsampling block's two stride-2 convolutions, and the way into the next stage's packing.

Four times fewer pixels and twice the channels, for the main branch and the shortcut: together they fill
exactly the slots the input had.  One convolution computes both, each result where its own even pixels'
neighbourhood is; one refresh serves both; a gather of three levels then moves every pixel to its slot, and, where the
ring holds more pictures of the next stage, joins two ciphertexts (see :mod:`.regrouping`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from .evaluator import Evaluator, rotated_sum
from .packing import GatherPacking
from .parameters import GATHER_LEVELS

X = TypeVar("X")
#: Makes a plaintext vector (slots,) of ones and zeros, or of factors and zeros, when it is needed.
Mask = Callable[[], np.ndarray]


def gather(ev: Evaluator[X], ys: Sequence[X], packing: GatherPacking) -> tuple[X, X]:
    """Main branch and shortcut, (2C, half, half) of each picture, from the strided layout of DownsamplePacking.

    ys: two ciphertexts where the packing joins them, else one.  3 levels, which is all that is kept of them.
    Rotations, with h = width / 2: {1, -1} (columns), {3h, -h(h - 1)} (rows), {-2hh, 2hh} and hh times those of
    :meth:`.Regrouping.moves` (channels and pictures), and the result's slots (the two halves of the blocks onto each
    other).
    """
    gathered = []
    for y in ys:
        y = _gather_columns(ev, ev.lower(y, GATHER_LEVELS), packing)
        y = _gather_rows(ev, ev.lower(y, GATHER_LEVELS - 1), packing)
        gathered.append(ev.lower(y, GATHER_LEVELS - 2))
    return _gather_channels(ev, gathered, packing)


def _gather_columns(ev: Evaluator[X], y: X, packing: GatherPacking) -> X:
    """Columns 2c + j -> j * h + c, a move by c - (h - 1) j: each column is added on the way of the furthest."""
    half = packing.half
    left = _travel(ev, y, [partial(packing.column, c, 0) for c in range(half)], 1)
    right = _travel(ev, y, [partial(packing.column, half - 1 - c, 1) for c in range(half)], -1)
    return ev.add(left, right)


def _gather_rows(ev: Evaluator[X], y: X, packing: GatherPacking) -> X:
    """Rows 2r + i, halves j -> (i, j, r): a move by 3h r - h(h - 1)(2i + j)."""
    half = packing.half
    pictures = (
        _travel(ev, y, [partial(packing.row, r, i, j) for r in range(half)], 3 * half)
        for i, j in ((1, 1), (1, 0), (0, 1), (0, 0))
    )
    return rotated_sum(ev, pictures, -half * (half - 1))


def _gather_channels(ev: Evaluator[X], ys: Sequence[X], packing: GatherPacking) -> tuple[X, X]:
    """Quarters to channels and pictures: of each branch, what the second source has between what the first has."""
    step = 2 * packing.quarter
    kept, moved = (_source(ev, ys, packing, source, 0) for source in (0, 1))
    main = ev.add(kept, ev.rotate(moved, [-step])[0])
    moved, kept = (_source(ev, ys, packing, source, 1) for source in (0, 1))
    shortcut = ev.add(kept, ev.rotate(moved, [step])[0])
    return _halves_joined(ev, main, packing.slots), _halves_joined(ev, shortcut, packing.slots)


def _source(ev: Evaluator[X], ys: Sequence[X], packing: GatherPacking, source: int, branch: int) -> X:
    """Return a branch of a source alone, its bits in their order after."""
    y, total = ys[source if packing.regrouping.joined else 0], None
    for quarters, chosen in packing.regrouping.moves(source).items():
        part = _masked(ev, y, partial(packing.branch, source, branch, chosen))
        part = ev.rotate(part, [quarters * packing.quarter])[0] if quarters else part
        total = part if total is None else ev.add(total, part)
    assert total is not None
    return total


def _halves_joined(ev: Evaluator[X], x: X, slots: int) -> X:
    """Sum both halves, where there are two, in ``slots`` slots."""
    if ev.slots(x) == slots:
        return x
    return ev.with_slots(ev.add(x, ev.rotate(x, [slots])[0]), slots)


def _travel(ev: Evaluator[X], y: X, masks: Sequence[Mask], step: int) -> X:
    """sum_n rotate(y * masks[n], n * step), by one rotation key. 1 level."""
    return rotated_sum(ev, (_masked(ev, y, mask) for mask in reversed(masks)), step)


def _masked(ev: Evaluator[X], y: X, mask: Mask) -> X:
    return ev.products([y], lambda _: mask())
