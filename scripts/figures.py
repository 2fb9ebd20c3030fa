#!/usr/bin/env python
"""Draws the figures of the packing in src/lowmem_resnet20/figures, from the packing's own code on small pictures.

    scripts/figures.py [--output DIR]

Every number in them is computed: slots by ``pack``, what a rotation brings where by running the layer on vectors that
hold the numbers of their slots, products and rotation keys by counting them.  A test draws them again and compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from drawing import EDGE, Drawing
from lowmem_resnet20.network import convolution, downsample
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.packing import Blocks, ConvolutionPacking, DownsamplePacking, GatherPacking, pack
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.places import places
from lowmem_resnet20.network.regrouping import Regrouping
from lowmem_resnet20.network.resnet20 import plan

FIGURES = Path(__file__).parents[1] / "src" / "lowmem_resnet20" / "figures"
WIDTH = 760
#: Channels and side of the pictures that are drawn.
CHANNELS, SIDE = 4, 4
CELL = 24
#: Of each figure its title, in words what is in it, and its height.
CARDS = {
    "packing": (
        "Where the pixels of 4 channels lie in a ciphertext: each number is a slot",
        """Four channels of four by four pixels, each pixel with the number of its slot: channel 0 has slots 0 to 15 row
        by row, channel 1 slots 16 to 31, and so on. Below, the ciphertext's 64 slots in one line.""",
        262,
    ),
    "taps": (
        "Nine rotated copies of the input: channel 0 of each, by the slot that came there",
        """In each of nine copies another neighbour lies over each pixel. Every cell names the slot that was brought
        there. Grey cells came from another row or channel, and the weights there are zero.""",
        470,
    ),
    "shifts": (
        "Each shift applies one kernel a block, and a rotation takes the sum on",
        """Left, the kernels by input and output channel, each with its shift: the output channel less the input
        channel. Right, for each shift, from the largest down, the blocks of a ciphertext with the product that lies in
        each. Between them a rotation by one block.""",
        390,
    ),
    "copies": (
        "A layer that fills half of the ring stands in it twice: half the shifts do",
        """A layer of four channels stands twice in the ring. The second copy is moved back by two blocks. Then two
        shifts apply all sixteen kernels, each once, in one copy or the other. The sum over the copies is the
        convolution.""",
        408,
    ),
    "gather": (
        "Four times fewer pixels, twice the channels: gathered in three steps",
        """Two channels of four by four pixels become four of two by two, for main branch and shortcut. After the
        strided convolution even rows hold the main branch and odd rows the shortcut, even and odd columns different
        channels. Masks and rotations bring columns, rows and channels together, until each branch has its four
        channels, pixel by pixel, in one ciphertext of half as many slots.""",
        488,
    ),
    "pictures": (
        "Set 7: eight pictures in four ciphertexts, then two, then one",
        """In the first stage four ciphertexts hold two pictures each, in the second two hold four, in the third one
        holds all eight. In every ciphertext the first channel of each of its pictures comes first, then the second of
        each.""",
        440,
    ),
}


class Counting(ClearEvaluator):
    """On vectors of any length; counts products and keeps the rotations' steps in their order."""

    def __init__(self) -> None:
        super().__init__(parameter_set(1))
        self.enter_stage(1)
        self.count, self.steps = 0, []

    def products(self, xs: Sequence[Clear], vector_of: Callable[[int], np.ndarray]) -> Clear:
        self.count += len(xs)
        return super().products(xs, vector_of)

    def rotate(self, x: Clear, steps: Sequence[int]) -> list[Clear]:
        self.steps += steps
        return super().rotate(x, steps)


def card(name: str) -> Drawing:
    """An empty one, with the title of the figure."""
    title, description, height = CARDS[name]
    return Drawing(title, description, WIDTH, height)


def numbered(slots: int) -> Clear:
    """A vector whose slots hold their own numbers, from 1: 0 is nothing."""
    return Clear(np.arange(1.0, slots + 1), 9)


def tints(numbers: np.ndarray) -> np.ndarray:
    """The fills of cells that belong to channels, or whatever the numbers count."""
    return np.char.add("tint", numbers.astype(str))


def signs(steps: Sequence[int]) -> str:
    """Each rotation once, by size, with a minus that is one."""
    ordered = sorted(set(steps), key=lambda step: (abs(step), -step))
    return ", ".join(map(str, ordered)).replace("-", "\N{MINUS SIGN}")


def packing() -> Drawing:
    """Which slot each pixel of four channels has."""
    drawing = card("packing")
    pixels = np.arange(CHANNELS * SIDE * SIDE).reshape(1, CHANNELS, SIDE, SIDE)
    slot_of = np.argsort(pack(pixels)).reshape(CHANNELS, SIDE, SIDE)
    for channel, slots in enumerate(slot_of):
        x = EDGE + channel * 180
        drawing.grid(x, 50, 30, slots, tints(np.full((SIDE, SIDE), channel)))
        drawing.text(x + 60, 190, f"channel {channel}", "body middle quiet")
    size = (WIDTH - 2 * EDGE) / slot_of.size
    channel_of = np.argsort(slot_of.reshape(-1)) // (SIDE * SIDE)
    drawing.grid(EDGE, 206, size, [[""] * slot_of.size], [tints(channel_of)])
    for channel in range(CHANNELS):
        first = slot_of[channel].min()
        drawing.text(EDGE + first * size, 240, f"slot {first}", "number quiet")
    drawing.text(WIDTH - EDGE, 240, f"slot {slot_of.max()}", "number end quiet")
    return drawing


def taps() -> Drawing:
    """What lies over each pixel of a channel in the nine rotated copies of the input."""
    drawing, ev, layer = card("taps"), Counting(), convolution_packing()
    moved = convolution._make_taps(ev, numbered(CHANNELS * layer.block_slots), layer)
    channel, marked = np.arange(CHANNELS), SIDE + 1
    for number, (tap, x) in enumerate(zip(layer.taps, moved, strict=True)):
        left, top = EDGE + number % 3 * 140, 50 + number // 3 * 140
        brought = x.values[: layer.block_slots].astype(int) - 1
        kept = layer.vector(channel, channel, tap)[: layer.block_slots] != 0
        fills = np.where(kept, "tint0", "blank")
        drawing.grid(left, top, CELL, brought.reshape(SIDE, SIDE), fills.reshape(SIDE, SIDE))
        drawing.frame(left + marked % SIDE * CELL, top + marked // SIDE * CELL, CELL, CELL)
        step = int(brought[marked]) - marked
        drawing.text(left + 48, top + 114, f"rotated by {signs([step])}" if step else "as it is", "body middle quiet")
    rows, columns = (signs(steps).replace(", ", " and ") for steps in (ev.steps[:2], ev.steps[2:]))
    drawing.paragraphs(
        466,
        66,
        260,
        f"The framed pixel, slot {marked}, meets itself and its eight neighbours, each in another copy.",
        "Grey cells were brought from another row or another channel. The weight there is 0: the zero padding.",
        f"It takes {len(ev.steps)} rotations: {rows} of the input make the middle column, then {columns} of each of "
        f"these three make the others. The keys are {signs(ev.steps)}.",
        "All channels move at once: what is shown of channel 0 happens in each.",
    )
    return drawing


def convolution_packing() -> ConvolutionPacking:
    """Of the channels that are drawn; its weights are ones."""
    return ConvolutionPacking(np.ones((CHANNELS, CHANNELS, 3, 3)), np.ones(CHANNELS), SIDE)


def counted(copies: int) -> Counting:
    """A convolution of the channels that are drawn, done and counted."""
    ev = Counting()
    convolution.convolve(ev, numbered(CHANNELS * SIDE * SIDE), convolution_packing(), copies)
    return ev


def products_of(blocks: Blocks, shift: int) -> list[tuple[int, int]]:
    """(input, output) of each block's product under a shift."""
    return list(zip(blocks.input_channels().tolist(), blocks.output_blocks(shift).tolist(), strict=True))


def tint_of(blocks: Blocks, block: int, shift: int) -> str:
    """The fill of the product in a block: each shift has its own, and each copy."""
    return f"tint{shift + block // blocks.outputs * blocks.shifts}"


def kernels(drawing: Drawing, x: float, y: float, blocks: Blocks, size: float) -> None:
    """The kernels of a convolution, by output and input, each with the shift under which it is applied."""
    labels = np.full((blocks.outputs, blocks.inputs), "", dtype=object)
    fills = np.full(labels.shape, "blank", dtype=object)
    for shift in range(blocks.shifts):
        for block, (source, target) in enumerate(products_of(blocks, shift)):
            assert not labels[target, source]
            labels[target, source], fills[target, source] = str(shift), tint_of(blocks, block, shift)
    drawing.grid(x, y, size, labels, fills)
    for channel in range(blocks.inputs):
        drawing.text(x + (channel + 0.5) * size, y - 6, str(channel), "number middle quiet")
        drawing.text(x - 14, y + (channel + 0.5) * size + 4, str(channel), "number middle quiet")
    middle, below = x + blocks.inputs * size / 2, y + blocks.outputs * size + 18
    drawing.text(middle, y - 22, "input channel", "number middle quiet")
    drawing.text(middle, below, "rows: output channel", "number middle quiet")


def products_row(drawing: Drawing, x: float, y: float, blocks: Blocks, shift: int, size: float) -> None:
    """The products of a shift, in the blocks where they lie."""
    for block, (source, target) in enumerate(products_of(blocks, shift)):
        left = x + block * size + block // blocks.outputs * 8
        drawing.box(left, y, size, 30, f"{source} \N{RIGHTWARDS ARROW} {target}", tint_of(blocks, block, shift))


def shifts() -> Drawing:
    """Under which shift each kernel is applied, and how the sums of the shifts come together."""
    drawing, blocks, step = card("shifts"), Blocks(CHANNELS, CHANNELS), -SIDE * SIDE
    kernels(drawing, 56, 98, blocks, 44)
    for place, shift in enumerate(reversed(range(blocks.shifts))):
        y = 62 + place * 58
        drawing.text(288, y + 20, f"shift {shift}", "body quiet")
        products_row(drawing, 346, y, blocks, shift, 72)
        if shift:
            drawing.arrow((490, y + 32), (490, y + 55))
            drawing.text(504, y + 48, f"rotate by {signs([step])}, add the next", "number quiet")
    done = counted(1)
    drawing.paragraphs(
        EDGE,
        330,
        WIDTH - 2 * EDGE,
        "0 \N{RIGHTWARDS ARROW} 3 is what channel 0 of the input gives to channel 3 of the output: nine products of "
        f"taps and weights. In all {done.count} products and, the taps' apart, {done.steps.count(step)} rotations with "
        "one key. After the last addition block 0 holds the sum for channel 0, block 1 that for channel 1, and so on.",
    )
    return drawing


def copies() -> Drawing:
    """How two copies of a layer share the shifts."""
    drawing, blocks = card("copies"), Blocks(CHANNELS, CHANNELS, 2)
    before, after = np.tile(np.arange(CHANNELS), blocks.copies), blocks.input_channels()
    for y, name, channels in ((72, "the layer", before), (112, f"copy 1 back by {blocks.shifts}", after)):
        drawing.text(EDGE, y + 20, name, "body quiet")
        for block, channel in enumerate(channels):
            drawing.box(176 + block * 44 + block // CHANNELS * 8, y, 44, 30, str(channel), "blank")
    for shift in range(blocks.shifts):
        drawing.text(EDGE, 172 + shift * 40, f"shift {shift}", "body quiet")
        products_row(drawing, 176, 152 + shift * 40, blocks, shift, 44)
    for copy in range(blocks.copies):
        drawing.text(176 + copy * (CHANNELS * 44 + 8), 62, f"copy {copy}", "number quiet")
    kernels(drawing, 592, 92, blocks, 36)
    drawing.paragraphs(EDGE, 290, WIDTH - 2 * EDGE, cost_of_copies(blocks), copies_at_full_size())
    return drawing


def cost_of_copies(blocks: Blocks) -> str:
    """What is saved and what is spent, as counted."""
    one, two, size = counted(1), counted(blocks.copies), SIDE * SIDE
    to_next, back, over = -size, blocks.shifts * size, CHANNELS * size
    return (
        f"{two.count - blocks.copies} products instead of {one.count}, and {blocks.copies} with masks of ones and "
        f"zeros, which move copy 1 back and take a level. Rotations, the taps' apart: {two.steps.count(to_next)} by "
        f"{signs([to_next])} instead of {one.steps.count(to_next)}; {two.steps.count(back)} by {back} to move copy 1; "
        f"{two.steps.count(over)} by {over} to add the copies."
    )


def copies_at_full_size() -> str:
    set_ = parameter_set(6)
    stages = enumerate(set_.architecture.channels, start=1)
    counts = [(set_.copies(set_.stage_slots(stage)), channels) for stage, channels in stages]
    shown = "; ".join(f"{copies} copies, {channels // copies} shifts" for copies, channels in counts)
    [products] = {channels // copies * len(ConvolutionPacking.taps) for copies, channels in counts}
    return f"At full size, in the three stages of sets 5 and 6: {shown}. That is {products} products in every stage."


def gathering() -> tuple[np.ndarray, np.ndarray, list[tuple[str, str, np.ndarray]]]:
    """Of each slot of a strided result its output channel, those of the shortcut counted on, and its pixel; and the
    steps of the gather, each with its rotations and the slots whose numbers are then in every slot."""
    half, quarter = CHANNELS // 2, (SIDE // 2) ** 2
    move, channels = Regrouping(half, 1, False), np.arange(CHANNELS)
    kernel, shortcut = np.zeros((CHANNELS, half, 3, 3)), np.zeros((CHANNELS, half))
    strided = DownsamplePacking(kernel, channels, shortcut, channels + CHANNELS, SIDE, move)
    owner = strided.bias_vector().astype(int)
    ev, masks = Counting(), GatherPacking(SIDE, np.ones((2, CHANNELS)), move)
    start = numbered(len(owner))
    columns = downsample._gather_columns(ev, start, masks)
    rotations = ["", taken(ev)]
    rows = downsample._gather_rows(ev, columns, masks)
    rotations.append(taken(ev))
    branches = downsample._gather_channels(ev, [rows], masks)
    rotations += [taken(ev), ""]
    names = ("the strided convolution's result", "columns gathered", "rows gathered", "main branch", "shortcut")
    found = [x.values.astype(int) - 1 for x in (start, columns, rows, *branches)]
    pixel = np.empty(len(owner), int)
    for source in found[3:]:
        pixel[source] = np.arange(len(source)) % quarter
    return owner, pixel, list(zip(names, rotations, found, strict=True))


def taken(ev: Counting) -> str:
    """The rotations since the last time."""
    steps, ev.steps = ev.steps, []
    return signs(steps)


def gather() -> Drawing:
    """How the results of a downsampling come to their places in the next stage."""
    drawing = card("gather")
    owner, pixel, steps = gathering()
    named = np.char.add(np.where(owner < CHANNELS, "m", "s"), pixel.astype(str))
    for number, (name, rotations, source) in enumerate(steps):
        left, top = (EDGE + number * 236, 74) if number < 3 else (EDGE + (number - 3) * 354, 262)
        sizes = (CHANNELS // 2, SIDE, SIDE) if number < 3 else (CHANNELS, SIDE // 2, SIDE // 2)
        labels, fills = named[source].reshape(sizes), tints(owner % CHANNELS)[source].reshape(sizes)
        drawing.text(left, top - 10, name)
        for block in range(sizes[0]):
            x = left + block * (sizes[2] * CELL + 10)
            drawing.grid(x, top, CELL, labels[block], fills[block])
            drawing.text(x, top + sizes[1] * CELL + 16, f"block {block}", "number quiet")
        if rotations:
            drawing.text(left, top + sizes[1] * CELL + 34, f"rotations {rotations}", "number quiet")
    drawing.paragraphs(
        EDGE,
        384,
        WIDTH - 2 * EDGE,
        "m0 to m3 are the four pixels of a channel of the main branch, s0 to s3 of the shortcut. A colour is a channel "
        "of the result. The steps bring columns into halves of a row, rows into quarters of a block, and quarters into "
        "channels. Each masks what is to move, a product and a level, and rotates it. The last masks also rescale both "
        "branches. In the end block 0 is channel 0, and so on, as every layer of the next stage wants it.",
    )
    return drawing


def pictures() -> Drawing:
    """In which ciphertexts, and in which order, the eight pictures of a group lie."""
    drawing, group, alone = card("pictures"), parameter_set(7), parameter_set(6)
    for stage, channels in enumerate(group.architecture.channels, start=1):
        y, side = 60 + (stage - 1) * 116, group.architecture.stage_width(stage)
        drawing.text(EDGE, y + 6, f"stage {stage}")
        drawing.text(EDGE, y + 26, f"{channels} channels", "number quiet")
        drawing.text(EDGE, y + 42, f"of {side} \N{MULTIPLICATION SIGN} {side}", "number quiet")
        held = places(group, stage)
        width = 612 / len(held)
        for number, numbers in enumerate(held):
            ciphertext(drawing, 124 + number * width, y, width - 44, numbers)
            if len(held) > 1:
                middle, goal = 114 + (number + 0.5) * width, 114 + (number // 2 * 2 + 1) * width
                drawing.arrow((middle, y + 48), (middle, y + 62), (goal, y + 62), (goal, y + 98))
    each, together = (sum(plan(set_).refreshes.values()) for set_ in (alone, group))
    drawing.paragraphs(
        EDGE,
        382,
        WIDTH - 2 * EDGE,
        f"A box is one channel of the picture with that number. All {group.full_slots} slots of the ring are in use in "
        f"every stage, and one refresh serves all pictures of its ciphertext: {together} refreshes for eight pictures, "
        f"where set 6 takes 8 \N{MULTIPLICATION SIGN} {each} = {8 * each}.",
    )
    return drawing


def ciphertext(drawing: Drawing, x: float, y: float, width: float, numbers: Sequence[int]) -> None:
    """The first two channels of the pictures in a ciphertext."""
    size = width / (2 * len(numbers))
    for channel in (0, 1):
        left = x + channel * len(numbers) * size
        for place, picture in enumerate(numbers):
            drawing.box(left + place * size, y - 10, size, 32, str(picture + 1), f"tint{picture}")
        drawing.text(left, y + 38, f"channel {channel}", "small quiet")
    drawing.text(x + width + 4, y + 10, "...", "body quiet")


DRAWINGS: tuple[Callable[[], Drawing], ...] = (packing, taps, shifts, copies, gather, pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FIGURES, metavar="DIR", help="folder of the figures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for draw in DRAWINGS:
        (folder / f"{draw.__name__}.svg").write_text(draw().source(), encoding="utf-8")


if __name__ == "__main__":
    main()
