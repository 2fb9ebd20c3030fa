"""Convolutions on packed vectors by Optimized Vector Encoding."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from .evaluator import Evaluator, rotated_sum
from .packing import Blocks, Tap

X = TypeVar("X")


class Packing(Protocol):
    """A convolution, as :func:`convolve` needs to know it."""

    @property
    def taps(self) -> tuple[Tap, ...]: ...

    @property
    def width(self) -> int: ...

    @property
    def block_slots(self) -> int: ...

    @property
    def channels(self) -> tuple[int, int]: ...

    def vector(self, inputs: np.ndarray, outputs: np.ndarray, tap: Tap) -> np.ndarray: ...

    def bias_vector(self) -> np.ndarray: ...


def convolve(ev: Evaluator[X], x: X, packing: Packing, copies: int = 1) -> X:
    """Apply the convolution that a packing describes, with its bias.

    Slots: those of ``x``, of which the ring must hold ``copies`` copies.  1 level for one copy, 2 for more, which is
    all that is kept of ``x``.  Rotations {1, -1, width, -width, -(slots of a block)}, the last to move the sums of
    shift s on to their place together with those of every higher shift, so that one key serves all of them; with P
    copies of n slots also n / P and n, 2n, .. Pn / 2.
    Source: Rovida and Leporati (2024), section 4, "Optimized Vector Encoding"; the copies are this project's.
    """
    slots, blocks = ev.slots(x), Blocks(*packing.channels, copies)
    if copies > 1:
        x = _spread(ev, ev.lower(x, 2), blocks, packing.block_slots)
    taps = _make_taps(ev, ev.lower(x, 1), packing)
    sums = (_products(ev, taps, packing, blocks, shift) for shift in reversed(range(blocks.shifts)))
    total = rotated_sum(ev, sums, -packing.block_slots)
    total = _sum_copies(ev, ev.lower(total, 0), slots, copies)
    return ev.add_vector(total, packing.bias_vector)


def _make_taps(ev: Evaluator[X], x: X, packing: Packing) -> list[X]:
    """``x`` moved so that the neighbour at each of the packing's taps lies over its pixel.

    Only steps of one row or one column are taken, each on the result of another, so that rotations by
    {1, -1, width, -width} reach every tap; those from one vector are hoisted.  0 levels.
    """
    width = packing.width
    above, below = ev.rotate(x, [-width, width])
    moved = {}
    for dy, row in ((-1, above), (0, x), (1, below)):
        moved[dy, 0] = row
        moved[dy, -1], moved[dy, 1] = ev.rotate(row, [-1, 1])
        if (dy, -2) in packing.taps:
            (moved[dy, -2],) = ev.rotate(moved[dy, -1], [-1])
    return [moved[tap] for tap in packing.taps]


def _products(ev: Evaluator[X], taps: list[X], packing: Packing, blocks: Blocks, shift: int) -> X:
    """Return what every input block gives to the output block ``shift`` further, where the input is.  1 level."""
    inputs, outputs = blocks.input_channels(), blocks.output_blocks(shift)
    return ev.products(taps, lambda i: packing.vector(inputs, outputs, packing.taps[i]))


def _spread(ev: Evaluator[X], x: X, blocks: Blocks, size: int) -> X:
    """Copy c moved back by ``c * blocks.shifts`` blocks within itself; slots of all copies.  1 level."""
    slots = ev.slots(x)
    moved = [ev.with_slots(x, slots * blocks.copies)]
    for _ in range(blocks.copies - 1):
        moved += ev.rotate(moved[-1], [blocks.shifts * size])
    return ev.products(moved, lambda copy: blocks.copy_mask(copy, size))


def _sum_copies(ev: Evaluator[X], x: X, slots: int, copies: int) -> X:
    """Sum over the copies, once in ``slots`` slots.  0 levels."""
    step = slots
    while step < slots * copies:
        x = ev.add(x, ev.rotate(x, [step])[0])
        step *= 2
    return ev.with_slots(x, slots)
