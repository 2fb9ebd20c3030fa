"""Convolutions on packed vectors by Optimized Vector Encoding."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from .evaluator import Evaluator
from .packing import ConvolutionPacking, Tap
from .parameters import CONVOLUTION_LEVELS

X = TypeVar("X")


class Packing(Protocol):
    """What :func:`convolve` needs to know of a convolution."""

    taps: tuple[Tap, ...]
    width: int
    shifts: int

    def vector(self, shift: int, tap: Tap) -> np.ndarray: ...

    def bias_vector(self) -> np.ndarray: ...


def make_taps(ev: Evaluator[X], x: X, packing: Packing) -> list[X]:
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


def convolve(ev: Evaluator[X], x: X, packing: Packing) -> X:
    """The convolution a packing describes, with its bias.

    Slots: those of ``x`` (blocks of width * width).  1 level, which is all that is kept of ``x``.  Rotations
    {1, -1, width, -width, -width * width}: the last moves the sums of shift s on to their place together with those
    of every higher shift, so that one key serves all of them.
    Source: Rovida and Leporati (2024), section 4, "Optimized Vector Encoding".
    """
    taps = make_taps(ev, ev.lower(x, CONVOLUTION_LEVELS), packing)
    total = None
    for shift in reversed(range(packing.shifts)):
        partial = ev.products(taps, lambda i, shift=shift: packing.vector(shift, packing.taps[i]))
        if total is not None:
            (moved,) = ev.rotate(total, [-packing.width * packing.width])
            partial = ev.add(moved, partial)
        total = partial
    return ev.add_vector(ev.lower(total, 0), packing.bias_vector)


def convolution(ev: Evaluator[X], x: X, kernel: np.ndarray, bias: np.ndarray, width: int) -> X:
    """A 3x3 convolution with stride 1: kernel (outputs, inputs, 3, 3), bias (outputs,); 1 level.

    ``x`` has ``outputs`` blocks; they repeat with period ``inputs``.
    """
    return convolve(ev, x, ConvolutionPacking(kernel, bias, width))
