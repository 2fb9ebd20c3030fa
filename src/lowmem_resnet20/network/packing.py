"""Optimized Vector Encoding: where pixels lie in a ciphertext, and the plaintext vectors that multiply it.

Slot ``((b * P + p) * width + row) * width + column`` holds pixel ``(row, column)`` of block ``b`` of picture ``p``, of
the P that share a ciphertext, one by default; between layers block ``b`` is channel ``b``.  ``rotate(x, k)`` moves slot
``i + k`` to slot ``i``, indices modulo the number of slots.

A convolution multiplies *taps*, copies of its input rotated so that every neighbour of a pixel comes to lie
over it, by plaintext vectors, and sums over all *channel shifts*: under shift ``s`` input block ``b``
contributes to output block ``b + s``, so each vector holds one weight a block, the same for all pictures, and a
rotation by ``-s * P * width * width`` brings the sums to their place (Rovida and Leporati, "Encrypted Image
Classification with Low Memory Footprint using FHE", section 4).  Nothing here touches encryption: arrays in, arrays
out.

A layer that fills only part of the ring's slots repeats in it, and the copies can share the shifts: see
:class:`Blocks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .regrouping import Regrouping

Tap = tuple[int, int]


def pack(pictures: np.ndarray) -> np.ndarray:
    """(pictures, channels, width, width) -> slots."""
    return np.asarray(pictures, dtype=np.float64).swapaxes(0, 1).reshape(-1)


def unpack(slots: np.ndarray, pictures: int, channels: int, width: int) -> np.ndarray:
    """Slots -> (pictures, channels, width, width); further slots, copies of the first, are left out."""
    shape = channels, pictures, width, width
    return np.asarray(slots)[: math.prod(shape)].reshape(shape).swapaxes(0, 1)


def per_channel(values: np.ndarray, size: int) -> np.ndarray:
    """Return the slots of one value a channel, each value over its whole block of ``size`` slots."""
    return np.repeat(np.asarray(values, dtype=np.float64), size)


def inside(width: int, tap: Tap) -> np.ndarray:
    """(width, width) mask of the pixels whose neighbour at ``tap`` = (rows down, columns right) exists."""
    rows, columns = np.arange(width) + tap[0], np.arange(width) + tap[1]
    row_inside, column_inside = (rows >= 0) & (rows < width), (columns >= 0) & (columns < width)
    return np.outer(row_inside, column_inside).astype(np.float64)


@dataclass(frozen=True)
class Blocks:
    """The channel in each block of a convolution's input, and how far its products have to be moved.

    outputs: blocks of a layer;
    inputs: its different channels, with which it repeats (fewer than outputs for the picture alone);
    copies: how many copies of the layer the convolution works on.

    Copy c is first moved back by ``c * inputs / copies`` blocks within itself, so that block q of all copies holds
    input channel ``(q + (q // outputs) * inputs / copies) % inputs``.  Then ``inputs / copies`` shifts let every
    input meet every output in one copy or another, also across the borders of copies, and the sum over the
    copies is the convolution: a layer repeated P times needs P times fewer products and rotations.
    """

    outputs: int
    inputs: int
    copies: int = 1

    @property
    def shifts(self) -> int:
        return self.inputs // self.copies

    def input_channels(self) -> np.ndarray:
        """(copies * outputs,) input channel in each block."""
        block = np.arange(self.copies * self.outputs)
        return (block + block // self.outputs * self.shifts) % self.inputs

    def output_blocks(self, shift: int) -> np.ndarray:
        """(copies * outputs,) block of the output that each block's products are summed into under ``shift``."""
        return (np.arange(self.copies * self.outputs) + shift) % self.outputs

    def copy_mask(self, copy: int, size: int) -> np.ndarray:
        """(slots of all copies,) 1 in one copy; size: slots of a block."""
        mask = np.zeros((self.copies, self.outputs * size))
        mask[copy] = 1
        return mask.reshape(-1)


@dataclass(frozen=True)
class ConvolutionPacking:
    """A 3x3 convolution with stride 1 and zero padding, of each of ``pictures``.

    kernel: (outputs, inputs, 3, 3);
    bias: (outputs,).

    The input's blocks repeat with period ``inputs``; the output has ``outputs`` blocks.
    """

    kernel: np.ndarray
    bias: np.ndarray
    width: int
    pictures: int = 1

    taps = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

    @property
    def channels(self) -> tuple[int, int]:
        """Blocks of the output, channels of the input."""
        return self.kernel.shape[:2]

    @property
    def block_slots(self) -> int:
        return self.pictures * self.width * self.width

    @cached_property
    def _masks(self) -> dict[Tap, np.ndarray]:
        """(block_slots,) by tap."""
        return {tap: np.tile(inside(self.width, tap).reshape(-1), self.pictures) for tap in self.taps}

    def vector(self, inputs: np.ndarray, outputs: np.ndarray, tap: Tap) -> np.ndarray:
        """Plaintext that multiplies ``tap``: each block's weight from its input channel to its output block."""
        weights = self.kernel[outputs, inputs, tap[0] + 1, tap[1] + 1]
        return np.multiply.outer(weights, self._masks[tap]).reshape(-1)

    def bias_vector(self) -> np.ndarray:
        return per_channel(self.bias, self.block_slots)


@dataclass(frozen=True)
class DownsamplePacking:
    """Both branches of a downsampling block at once, without a wasted slot.

    kernel, bias: (2C, C, 3, 3) and (2C,) of the 3x3 stride-2 convolution;
    shortcut, shortcut_bias: (2C, C) and (2C,) of the 1x1 stride-2 convolution;
    width: of the C channels.

    The result has C blocks of ``width``: pixel
    ``(2r + i, 2c + j)`` of block ``b`` holds pixel (r, c) of output channel ``regrouping.channel(b, j)``; of the main
    branch for i = 0, of the shortcut for i = 1.  :mod:`.downsample` gathers them.
    """

    kernel: np.ndarray
    bias: np.ndarray
    shortcut: np.ndarray
    shortcut_bias: np.ndarray
    width: int
    regrouping: Regrouping

    taps = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-2, -1, 0, 1))

    @property
    def channels(self) -> tuple[int, int]:
        """Blocks of the output, channels of the input."""
        return self.regrouping.channels, self.regrouping.channels

    @property
    def block_slots(self) -> int:
        return self.regrouping.pictures * self.width * self.width

    def vector(self, inputs: np.ndarray, outputs: np.ndarray, tap: Tap) -> np.ndarray:
        """Plaintext that multiplies ``tap``: each block's weights from its input channel to its output block."""
        dy, dx = tap
        result = np.zeros((len(inputs), self.width, self.width))
        for j in (0, 1):
            channel = self.regrouping.channel(outputs, j)
            if -1 <= dx + j <= 1:  # the tap, seen from the even column, is a neighbour under the kernel
                result[:, 0::2, j::2] = self.kernel[channel, inputs, dy + 1, dx + j + 1][:, None, None]
            if (dy, dx) == (-1, -j):  # the even row and column itself, seen from (1, j)
                result[:, 1::2, j::2] = self.shortcut[channel, inputs][:, None, None]
        return self._of_all_pictures(result * inside(self.width, tap))

    def bias_vector(self) -> np.ndarray:
        block = np.arange(self.regrouping.channels)
        result = np.zeros((len(block), self.width, self.width))
        for j in (0, 1):
            channel = self.regrouping.channel(block, j)
            result[:, 0::2, j::2] = self.bias[channel][:, None, None]
            result[:, 1::2, j::2] = self.shortcut_bias[channel][:, None, None]
        return self._of_all_pictures(result)

    def _of_all_pictures(self, blocks: np.ndarray) -> np.ndarray:
        return np.repeat(blocks[:, None], self.regrouping.pictures, axis=1).reshape(-1)


@dataclass(frozen=True)
class GatherPacking:
    """Masks that bring :class:`DownsamplePacking`'s result into the packing of the next stage.

    width: of the stage before;
    factors: (2, 2C) for the channels of main branch and shortcut.

    Three steps of one product each, on indices ``block | picture | row | column``: columns ``(2c + j)`` to ``(j, c)``,
    rows and column halves to quarter pictures ``(i, j, r, c)``, and quarters to channels and pictures, as
    ``regrouping`` says.
    """

    width: int
    factors: np.ndarray
    regrouping: Regrouping

    @property
    def half(self) -> int:
        return self.width // 2

    @property
    def quarter(self) -> int:
        """Return the pixels of one picture of the next stage."""
        return self.half * self.half

    @property
    def slots(self) -> int:
        """Return the number of slots of the next stage."""
        regrouping = self.regrouping
        return 2 * regrouping.channels * regrouping.pictures_after * self.quarter

    def _picture_mask(self, mask: np.ndarray) -> np.ndarray:
        return np.tile(mask.reshape(-1), self.regrouping.channels * self.regrouping.pictures)

    def column(self, c: int, j: int) -> np.ndarray:
        """(slots,) mask of column 2c + j."""
        mask = np.zeros((self.width, self.width))
        mask[:, 2 * c + j] = 1
        return self._picture_mask(mask)

    def row(self, r: int, i: int, j: int) -> np.ndarray:
        """(slots,) mask of row 2r + i, columns of half j."""
        mask = np.zeros((self.width, self.width))
        mask[2 * r + i, j * self.half : (j + 1) * self.half] = 1
        return self._picture_mask(mask)

    def branch(self, source: int, branch: int, chosen: np.ndarray) -> np.ndarray:
        """(slots,) mask of one branch (0 main, 1 shortcut) of a source of the regrouping, where ``chosen``, (P, 2) by
        picture and j."""
        regrouping = self.regrouping
        mask = np.zeros((regrouping.channels, regrouping.pictures, 2, 2, self.quarter))
        blocks = regrouping.blocks(source)
        for j in (0, 1):
            factors = self.factors[branch][regrouping.channel(blocks, j)]
            mask[blocks, :, branch, j] = np.multiply.outer(factors, chosen[:, j])[..., None]
        return mask.reshape(-1)


@dataclass(frozen=True)
class ClassifierPacking:
    """The fully connected layer after the average pool.

    weight: (classes, channels);
    bias: (classes,).

    The pool leaves the sum over channel c of a picture in the first slot of its part of the block; the pool's division
    is folded in.

    A part of a block has ``width * width`` slots, a logit in each.  For more classes the blocks are divided into
    ``parts`` of as many blocks each, and the first block of part g holds the logits of the g-th so many classes.
    """

    weight: np.ndarray
    bias: np.ndarray
    width: int
    pictures: int = 1

    @property
    def picture_slots(self) -> int:
        return self.width * self.width

    @property
    def block_slots(self) -> int:
        return self.pictures * self.picture_slots

    @property
    def parts(self) -> int:
        """Return the number of parts: a power of two."""
        return logit_parts(len(self.bias), self.width)

    @property
    def part_slots(self) -> int:
        return self.weight.shape[1] // self.parts * self.block_slots

    @property
    def labels(self) -> int:
        """Return the number of classes of each part; the last may have fewer."""
        return min(len(self.bias), self.picture_slots)

    def vector(self, label: int, shift: int) -> np.ndarray:
        """(slots,) plaintext with weights in the first slot of each picture in each block: in those of part s, of the
        ``label``-th class of part ``s - shift``, indices modulo the number of parts."""
        result = np.zeros((self.parts, self.weight.shape[1] // self.parts, self.pictures, self.picture_slots))
        weight = self.weight.reshape(len(self.bias), self.parts, -1) / self.picture_slots
        for part in range(self.parts):
            of_all = (part - shift) % self.parts * self.picture_slots + label
            if of_all < len(self.bias):
                result[part, :, :, 0] = weight[of_all, part][:, None]
        return result.reshape(-1)

    def bias_vector(self) -> np.ndarray:
        """(slots,) plaintext with the biases where the logits are, and in the other blocks of their part: where there
        is one part, those hold the same sums, and would show what the biases are."""
        result = np.zeros((self.parts, self.weight.shape[1] // self.parts, self.pictures, self.picture_slots))
        for part in range(self.parts):
            bias = self.bias[part * self.picture_slots : (part + 1) * self.picture_slots]
            result[part, :, :, : len(bias)] = bias
        return result.reshape(-1)


def logit_parts(classes: int, width: int) -> int:
    """Return how many parts of the last stage's blocks hold logits, pictures being ``width`` wide there."""
    return 1 << (-(-classes // width**2) - 1).bit_length()


def unpack_logits(slots: np.ndarray, pictures: int, classes: int, width: int, channels: int) -> np.ndarray:
    """Slots of :mod:`.classifier`'s result, whose blocks are ``channels`` -> (pictures, classes)."""
    parts, block = logit_parts(classes, width), pictures * width**2
    firsts = [np.asarray(slots)[i * channels // parts * block :][:block] for i in range(parts)]
    return np.reshape(firsts, (parts, pictures, -1)).swapaxes(0, 1).reshape(pictures, -1)[:, :classes]
