#!/usr/bin/env python
"""Draws the figures of the packing in src/lowmem_resnet20/figures, from the packing's own code on small pictures.

    scripts/figures.py [--output DIR]

Every number in them is computed: slots by ``pack``, what a rotation brings where by running the layer on vectors that hold
the numbers of their slots, products and rotation keys by counting them.  A test draws them again and compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from drawing import Drawing
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


def numbered(slots: int) -> Clear:
    """A vector whose slots hold their own numbers, from 1: 0 is nothing."""
    return Clear(np.arange(1.0, slots + 1), 9)


def tints(numbers: np.ndarray) -> np.ndarray:
    """The fills of cells that belong to channels, or whatever the numbers count."""
    return np.char.add("tint", numbers.astype(str))


def signs(steps: Sequence[int]) -> str:
    """Each rotation once, by size, with a minus that is one."""
    return ", ".join(
        str(step).replace("-", "\N{MINUS SIGN}") for step in sorted(set(steps), key=lambda s: (abs(s), -s))
    )


def packing() -> Drawing:
    """Which slot each pixel of four channels has."""
    title = f"Where the pixels of {CHANNELS} channels lie in a ciphertext"
    drawing = Drawing(
        title,
        "Four channels of four by four pixels, each pixel with the number of its slot: channel 0 has slots 0 to 15 row by row, "
        "channel 1 slots 16 to 31, and so on; below, the ciphertext's 64 slots in one line.",
        WIDTH,
        262,
    )
    pixels = np.arange(CHANNELS * SIDE * SIDE).reshape(1, CHANNELS, SIDE, SIDE)
    slot_of = np.argsort(pack(pixels)).reshape(CHANNELS, SIDE, SIDE)
    drawing.text(36, 32, f"{title}: each number is a slot", "head ink")
    for channel, slots in enumerate(slot_of):
        x = 36 + channel * 180
        drawing.grid(x, 50, 30, slots, tints(np.full((SIDE, SIDE), channel)))
        drawing.text(x + 60, 190, f"channel {channel}", "body middle quiet")
    size = (WIDTH - 72) / slot_of.size
    channel_of = np.argsort(slot_of.reshape(-1)) // (SIDE * SIDE)
    drawing.grid(36, 206, size, [[""] * slot_of.size], [tints(channel_of)])
    for channel in range(CHANNELS):
        first = slot_of[channel].min()
        drawing.text(36 + first * size, 240, f"slot {first}", "number quiet")
    drawing.text(WIDTH - 36, 240, f"slot {slot_of.max()}", "number end quiet")
    return drawing


def taps() -> Drawing:
    """What lies over each pixel of a channel in the nine rotated copies of the input."""
    drawing = Drawing(
        "The nine taps of a 3 x 3 convolution",
        "Nine copies of channel 0, rotated so that in each copy another neighbour lies over each pixel.  Every cell names the "
        "slot that was brought there; grey cells came from another row or channel, and the weights there are zero.",
        WIDTH,
        470,
    )
    ev, weights = Counting(), np.ones((CHANNELS, CHANNELS, 3, 3))
    layer = ConvolutionPacking(weights, np.ones(CHANNELS), SIDE)
    moved = convolution._make_taps(ev, numbered(CHANNELS * layer.block_slots), layer)
    drawing.text(36, 32, "Nine rotated copies of the input: channel 0 of each, by the slot that came there", "head ink")
    marked = SIDE + 1
    for number, ((row, column), tap) in enumerate(zip(layer.taps, moved, strict=True)):
        x, y = 36 + number % 3 * 140, 50 + number // 3 * 140
        brought = tap.values[: layer.block_slots].astype(int).reshape(SIDE, SIDE) - 1
        kept = layer.vector(np.arange(CHANNELS), np.arange(CHANNELS), (row, column))[: layer.block_slots] != 0
        drawing.grid(x, y, CELL, brought, np.where(kept.reshape(SIDE, SIDE), "tint0", "blank"))
        drawing.frame(x + marked % SIDE * CELL, y + marked // SIDE * CELL, CELL, CELL)
        step = signs([int(brought.reshape(-1)[marked]) - marked])
        drawing.text(x + 48, y + 114, f"rotated by {step}" if step != "0" else "as it is", "body middle quiet")
    y = drawing.paragraph(
        466, 66, 260, f"The framed pixel, slot {marked}, meets itself and its eight neighbours, each in another copy."
    )
    grey = "Grey cells were brought from another row or another channel. The weight there is 0: the zero padding."
    y = drawing.paragraph(466, y + 10, 260, grey)
    rows, columns = (signs(steps).replace(", ", " and ") for steps in (ev.steps[:2], ev.steps[2:]))
    y = drawing.paragraph(
        466,
        y + 10,
        260,
        f"It takes {len(ev.steps)} rotations: {rows} of the input make the middle column, then {columns} of each of "
        f"these three make the others. The keys are {signs(ev.steps)}.",
    )
    drawing.paragraph(466, y + 10, 260, "All channels move at once: what is shown of channel 0 happens in each.")
    return drawing


def products_of(blocks: Blocks, shift: int) -> list[tuple[int, int]]:
    """(input, output) of each block's product under a shift."""
    return list(zip(blocks.input_channels().tolist(), blocks.output_blocks(shift).tolist(), strict=True))


def kernel(drawing: Drawing, x: float, y: float, blocks: Blocks, size: float) -> None:
    """The kernels of a convolution, by output and input, each with the shift under which it is applied."""
    labels = np.full((blocks.outputs, blocks.inputs), "", dtype=object)
    kinds = np.full(labels.shape, "blank", dtype=object)
    for shift in range(blocks.shifts):
        for block, (source, target) in enumerate(products_of(blocks, shift)):
            copy = block // blocks.outputs
            assert not labels[target, source]
            labels[target, source] = str(shift)
            kinds[target, source] = f"tint{shift + copy * blocks.shifts}"
    drawing.grid(x, y, size, labels, kinds)
    for channel in range(blocks.inputs):
        drawing.text(x + (channel + 0.5) * size, y - 6, str(channel), "number middle quiet")
        drawing.text(x - 14, y + (channel + 0.5) * size + 4, str(channel), "number middle quiet")
    drawing.text(x + blocks.inputs * size / 2, y - 22, "input channel", "number middle quiet")
    drawing.text(
        x + blocks.inputs * size / 2, y + blocks.outputs * size + 18, "rows: output channel", "number middle quiet"
    )


def shift_row(drawing: Drawing, x: float, y: float, blocks: Blocks, shift: int, size: float) -> None:
    """The products of a shift, in the blocks where they lie."""
    for block, (source, target) in enumerate(products_of(blocks, shift)):
        gap = block // blocks.outputs * 8
        kind = f"tint{shift + block // blocks.outputs * blocks.shifts}"
        drawing.box(x + block * size + gap, y, size, 30, f"{source} \N{RIGHTWARDS ARROW} {target}", kind)


def counted(copies: int) -> Counting:
    """A convolution of the channels that are drawn, done and counted."""
    ev, slots = Counting(), CHANNELS * SIDE * SIDE
    layer = ConvolutionPacking(np.ones((CHANNELS, CHANNELS, 3, 3)), np.ones(CHANNELS), SIDE)
    convolution.convolve(ev, numbered(slots), layer, copies)
    return ev


def shifts() -> Drawing:
    """Under which shift each kernel is applied, and how the sums of the shifts come together."""
    blocks, size = Blocks(CHANNELS, CHANNELS), SIDE * SIDE
    drawing = Drawing(
        "The channel shifts of a convolution",
        "Left, the kernels by input and output channel, each with its shift: the output channel less the input channel.  Right, "
        "for each shift the blocks of a ciphertext with the product that lies in each, from the largest shift down; between "
        "them a rotation by one block.",
        WIDTH,
        390,
    )
    drawing.text(36, 32, "Each shift applies one kernel a block, and a rotation takes the sum on", "head ink")
    kernel(drawing, 56, 98, blocks, 44)
    for place, shift in enumerate(reversed(range(blocks.shifts))):
        y = 62 + place * 58
        drawing.text(288, y + 20, f"shift {shift}", "body quiet")
        shift_row(drawing, 346, y, blocks, shift, 72)
        if shift:
            drawing.arrow((490, y + 32), (490, y + 55))
            drawing.text(504, y + 48, f"rotate by {signs([-size])}, add the next", "number quiet")
    done = counted(1)
    text = (
        f"0 \N{RIGHTWARDS ARROW} 3 is what channel 0 of the input gives to channel 3 of the output: nine products of taps and "
        f"weights. In all {done.count} products and, the taps' apart, {done.steps.count(-size)} rotations with one key. After the "
        "last addition block 0 holds the sum for channel 0, block 1 that for channel 1, and so on."
    )
    drawing.paragraph(36, 330, WIDTH - 72, text, "body quiet")
    return drawing


def copies() -> Drawing:
    """How two copies of a layer share the shifts."""
    blocks = Blocks(CHANNELS, CHANNELS, 2)
    drawing = Drawing(
        "Two copies of a layer share the shifts of a convolution",
        "A layer of four channels stands twice in the ring.  The second copy is moved back by two blocks, and then two shifts "
        "apply all sixteen kernels, each once, in one copy or the other; the sum over the copies is the convolution.",
        WIDTH,
        408,
    )
    drawing.text(36, 32, "A layer that fills half of the ring stands in it twice: half the shifts do", "head ink")
    size, back = SIDE * SIDE, blocks.shifts
    twice = np.tile(np.arange(CHANNELS), blocks.copies)
    for y, name, channels in ((72, "the layer", twice), (112, f"copy 1 back by {back}", blocks.input_channels())):
        drawing.text(36, y + 20, name, "body quiet")
        for block, channel in enumerate(channels):
            drawing.box(176 + block * 44 + block // CHANNELS * 8, y, 44, 30, str(channel), "blank")
    for shift in range(blocks.shifts):
        drawing.text(36, 172 + shift * 40, f"shift {shift}", "body quiet")
        shift_row(drawing, 176, 152 + shift * 40, blocks, shift, 44)
    for copy in range(blocks.copies):
        drawing.text(176 + copy * (CHANNELS * 44 + 8), 62, f"copy {copy}", "number quiet")
    kernel(drawing, 592, 92, blocks, 36)
    one, two = counted(1), counted(2)
    spread, step = blocks.copies, signs([-size])
    text = (
        f"{two.count - spread} products instead of {one.count}, and {spread} with masks of ones and zeros, which move copy 1 back "
        f"and take a level. Rotations, the taps' apart: {two.steps.count(-size)} by {step} instead of {one.steps.count(-size)}; "
        f"{two.steps.count(back * size)} by {back * size} to move copy 1; {two.steps.count(CHANNELS * size)} by {CHANNELS * size} "
        "to add the copies."
    )
    y = drawing.paragraph(36, 290, WIDTH - 72, text)
    full = parameter_set(6)
    stages = range(1, len(full.architecture.channels) + 1)
    counts = [(full.copies(full.stage_slots(stage)), full.architecture.channels[stage - 1]) for stage in stages]
    shown = "; ".join(f"{copies} copies, {channels // copies} shifts" for copies, channels in counts)
    [each] = {channels // copies * len(ConvolutionPacking.taps) for copies, channels in counts}
    text = f"At full size, in the three stages of sets 5 and 6: {shown}. That is {each} products in every stage."
    drawing.paragraph(36, y + 10, WIDTH - 72, text, "body quiet")
    return drawing


def gathering() -> tuple[np.ndarray, np.ndarray, list[tuple[str, str, np.ndarray]]]:
    """Of each slot of a strided result its output channel, those of the shortcut counted on, and its pixel; and the steps of
    the gather, each with its rotations and the slots whose numbers are then in every slot."""
    half, quarter = CHANNELS // 2, (SIDE // 2) ** 2
    move, channels = Regrouping(half, 1, False), np.arange(CHANNELS)
    none = np.zeros((CHANNELS, half, 3, 3)), np.zeros((CHANNELS, half))
    strided = DownsamplePacking(none[0], channels, none[1], channels + CHANNELS, SIDE, move)
    owner = strided.bias_vector().astype(int)
    ev, masks = Counting(), GatherPacking(SIDE, np.ones((2, CHANNELS)), move)
    start = numbered(len(owner))
    columns = downsample._gather_columns(ev, start, masks)
    rotations = [taken(ev)]
    rows = downsample._gather_rows(ev, columns, masks)
    rotations.append(taken(ev))
    branches = downsample._gather_channels(ev, [rows], masks)
    rotations += [taken(ev)] * 2
    names = ("columns gathered", "rows gathered", "main branch", "shortcut")
    found = [x.values.astype(int) - 1 for x in (start, columns, rows, *branches)]
    pixel = np.empty(len(owner), int)
    for source in found[3:]:
        pixel[source] = np.arange(len(source)) % quarter
    steps = zip(("the strided convolution's result", *names), ("", *rotations), found, strict=True)
    return owner, pixel, list(steps)


def taken(ev: Counting) -> str:
    """The rotations since the last time."""
    steps, ev.steps = ev.steps, []
    return signs(steps)


def gather() -> Drawing:
    """How the results of a downsampling come to their places in the next stage."""
    drawing = Drawing(
        "How a downsampling gathers its results",
        "Two channels of four by four pixels become four of two by two, for main branch and shortcut.  After the strided "
        "convolution even rows hold the main branch and odd rows the shortcut, even and odd columns different channels.  Three "
        "steps of masks and rotations bring columns, rows and channels together, until each branch has its four channels, "
        "pixel by pixel, in one ciphertext of half as many slots.",
        WIDTH,
        488,
    )
    owner, pixel, steps = gathering()
    named = np.char.add(np.where(owner < CHANNELS, "m", "s"), pixel.astype(str))
    drawing.text(36, 32, "Four times fewer pixels, twice the channels: gathered in three steps", "head ink")
    for number, (name, rotations, source) in enumerate(steps):
        x, y = (36 + number * 236, 74) if number < 3 else (36 + (number - 3) * 354, 262)
        sizes = (2, SIDE, SIDE) if number < 3 else (CHANNELS, SIDE // 2, SIDE // 2)
        labels, fills = named[source].reshape(sizes), tints(owner % CHANNELS)[source].reshape(sizes)
        drawing.text(x, y - 10, name, "body ink")
        for block in range(sizes[0]):
            drawing.grid(x + block * (sizes[2] * CELL + 10), y, CELL, labels[block], fills[block])
            below = y + sizes[1] * CELL + 16
            drawing.text(x + block * (sizes[2] * CELL + 10), below, f"block {block}", "number quiet")
        if rotations and number < 4:
            drawing.text(x, y + sizes[1] * CELL + 34, f"rotations {rotations}", "number quiet")
    text = (
        "m0 to m3 are the four pixels of a channel of the main branch, s0 to s3 of the shortcut. A colour is a channel of the "
        "result. The steps bring columns into halves of a row, rows into quarters of a block, and quarters into channels. Each "
        "masks what is to move, a product and a level, and rotates it. The last masks also rescale both branches. In the end "
        "block 0 is channel 0, and so on, as every layer of the next stage wants it."
    )
    drawing.paragraph(36, 384, WIDTH - 72, text, "body quiet")
    return drawing


def pictures() -> Drawing:
    """In which ciphertexts, and in which order, the eight pictures of a group lie."""
    group, alone = parameter_set(7), parameter_set(6)
    drawing = Drawing(
        "Eight pictures in a group",
        "Set 7: in the first stage four ciphertexts hold two pictures each, in the second two hold four, in the third one holds "
        "all eight.  In every ciphertext the first channel of each of its pictures comes first, then the second channel of each.",
        WIDTH,
        440,
    )
    drawing.text(36, 32, "Set 7: eight pictures in four ciphertexts, then two, then one", "head ink")
    stages = range(1, len(group.architecture.channels) + 1)
    for stage in stages:
        y = 60 + (stage - 1) * 116
        channels, side = group.architecture.channels[stage - 1], group.architecture.stage_width(stage)
        drawing.text(36, y + 6, f"stage {stage}", "body ink")
        drawing.text(36, y + 26, f"{channels} channels", "number quiet")
        drawing.text(36, y + 42, f"of {side} \N{MULTIPLICATION SIGN} {side}", "number quiet")
        held = places(group, stage)
        width = 612 / len(held)
        for number, numbers in enumerate(held):
            x, size = 124 + number * width, (width - 44) / (2 * len(numbers))
            for channel in (0, 1):
                for place, picture in enumerate(numbers):
                    left = x + (channel * len(numbers) + place) * size
                    drawing.box(left, y - 10, size, 32, str(picture + 1), f"tint{picture}")
                drawing.text(x + channel * len(numbers) * size, y + 38, f"channel {channel}", "small quiet")
            drawing.text(x + 2 * len(numbers) * size + 4, y + 10, "...", "body quiet")
            if stage < len(stages):
                middle = x + (width - 20) / 2
                goal = 124 + number // 2 * 2 * width + width - 10
                drawing.arrow((middle, y + 48), (middle, y + 62), (goal, y + 62), (goal, y + 98))
    each, together = (sum(plan(set_).refreshes.values()) for set_ in (alone, group))
    text = (
        f"A box is one channel of the picture with that number. All {group.full_slots} slots of the ring are in use in every "
        f"stage, and one refresh serves all pictures of its ciphertext: {together} refreshes for eight pictures, where set 6 takes "
        f"8 \N{MULTIPLICATION SIGN} {each} = {8 * each}."
    )
    drawing.paragraph(36, 382, WIDTH - 72, text, "body quiet")
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "packing": packing,
    "taps": taps,
    "shifts": shifts,
    "copies": copies,
    "gather": gather,
    "pictures": pictures,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FIGURES, metavar="DIR", help="folder of the figures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw().source(), encoding="utf-8")


if __name__ == "__main__":
    main()
