#!/usr/bin/env python
"""Draws the figures of the packing in src/lowmem_resnet20/figures, from the packing's own code on small pictures.

    scripts/figures.py [--output DIR]

Every number in them is computed: slots by ``pack``, what a rotation brings where by running the layer on vectors that
hold the numbers of their slots, products and rotation keys by counting them.  A test draws them again and compares.
"""

from __future__ import annotations

import argparse
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lowmem_resnet20.network import convolution, downsample
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.packing import Blocks, ConvolutionPacking, DownsamplePacking, GatherPacking, pack
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.regrouping import Regrouping, places
from lowmem_resnet20.network.resnet20 import plan

FIGURES = Path(__file__).parents[1] / "src" / "lowmem_resnet20" / "figures"
#: Channels and side of the pictures that are drawn.
CHANNELS, SIDE = 4, 4
#: The same file each time, with its text as text.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "figures", "font.size": 9, "axes.titlesize": 9}
#: Of cells, by number; the last is that of BLANK.
COLOURS = ("#c9e2f8", "#fbdcae", "#c4ead6", "#efd0e4", "#f3eea6", "#f8cbb8", "#cfeef5", "#dcd6f3", "#eceff2")
BLANK = len(COLOURS) - 1
#: For readers whose scheme is dark: cells as above, paper, ink.
DARK = ("#174871", "#7a4a08", "#125c45", "#74315a", "#5f5a12", "#7c331a", "#125568", "#46397f", "#262d36")
DARK_PAPER, DARK_INK = "#151b23", "#f0f6fc"
ARROW = "\N{RIGHTWARDS ARROW}"


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


# --- drawing ----------------------------------------------------------------------------------------------


def card(title: str, height: float, text: str) -> Figure:
    """An empty figure, ``height`` inches high, with its title and a text below."""
    figure = Figure((8, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    figure.suptitle(title, weight="bold")
    figure.supxlabel(textwrap.fill(text, 118), x=0.02, ha="left", fontsize=9)
    return figure


def cells(
    axes: Axes, labels: Sequence, colours: Sequence, title: str = "", rows: Sequence = (), columns: Sequence = ()
) -> None:
    """Square cells with their labels; colours: numbers, NaN where there is no cell; rows, columns: what they are."""
    shown = np.array(colours, float)
    edges = np.cumsum([0, *np.where(np.isnan(shown).all(0), 0.3, 1)])
    middles, lines = (edges[1:] + edges[:-1]) / 2, np.arange(len(shown) + 1)
    axes.pcolormesh(
        edges, lines, shown, cmap=ListedColormap(COLOURS), vmin=0, vmax=BLANK, edgecolors="white", linewidth=1.5
    )
    for (row, column), label in np.ndenumerate(np.array(labels, object)):
        if not np.isnan(shown[row, column]):
            axes.text(middles[column], row + 0.5, str(label), ha="center", va="center", fontsize=8)
    axes.set_yticks(lines[: len(rows)] + 0.5, rows)
    axes.set_xticks(middles[: len(columns)], columns)
    axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    axes.invert_yaxis()
    axes.set_aspect("equal")


def apart(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Blocks of cells side by side, with a column of none between them."""
    gap = np.full((len(blocks[0]), 1), np.nan, object)
    return np.concatenate([part for block in blocks for part in (gap, block)][1:], 1)


def signs(steps: Sequence[int]) -> str:
    """Each rotation once, by size, with a minus that is one."""
    ordered = sorted(set(steps), key=lambda step: (abs(step), -step))
    return ", ".join(map(str, ordered)).replace("-", "\N{MINUS SIGN}")


# --- figures ----------------------------------------------------------------------------------------------


def packing() -> Figure:
    """Which slot each pixel of four channels has."""
    title = "Where the pixels of 4 channels lie in a ciphertext: each number is a slot"
    figure = card(title, 2.9, "Below, the ciphertext's slots in one line, in the colours of their channels.")
    grid = figure.add_gridspec(2, CHANNELS, height_ratios=(4, 1))
    pixels = np.arange(CHANNELS * SIDE * SIDE).reshape(1, CHANNELS, SIDE, SIDE)
    slot_of = np.argsort(pack(pixels)).reshape(CHANNELS, SIDE, SIDE)
    for channel, slots in enumerate(slot_of):
        axes = figure.add_subplot(grid[0, channel])
        cells(axes, slots, np.full((SIDE, SIDE), channel), f"channel {channel}")
    channel_of = np.argsort(slot_of.reshape(-1)) // (SIDE * SIDE)
    line = figure.add_subplot(grid[1, :])
    cells(line, np.full((1, slot_of.size), ""), [channel_of])
    line.set_xticks(slot_of.min((1, 2)), [f"slot {slot}" for slot in slot_of.min((1, 2))], ha="left")
    return figure


def numbered(slots: int) -> Clear:
    """A vector whose slots hold their own numbers, from 1: 0 is nothing."""
    return Clear(np.arange(1.0, slots + 1), 9)


def taps() -> Figure:
    """Draw what lies over each pixel of a channel in the nine rotated copies of the input."""
    ev, layer = Counting(), convolution_packing()
    moved = convolution._make_taps(ev, numbered(CHANNELS * layer.block_slots), layer)
    channel, marked = np.arange(CHANNELS), SIDE + 1
    rows, columns = (signs(steps).replace(", ", " and ") for steps in (ev.steps[:2], ev.steps[2:]))
    text = (
        f"The framed pixel, slot {marked}, meets itself and its eight neighbours, each in another copy. Grey cells "
        "were brought from another row or another channel. The weight there is 0: the zero padding. It takes "
        f"{len(ev.steps)} rotations: {rows} of the input make the middle column, then {columns} of each of these "
        f"three make the others. The keys are {signs(ev.steps)}. All channels move at once: what is shown of channel "
        "0 happens in each."
    )
    figure = card("Nine rotated copies of the input: channel 0 of each, by the slot that came there", 6, text)
    panels = figure.subplots(3, 3).flat
    for axes, tap, x in zip(panels, layer.taps, moved, strict=True):
        brought = x.values[: layer.block_slots].astype(int) - 1
        kept = layer.vector(channel, channel, tap)[: layer.block_slots] != 0
        step = int(brought[marked]) - marked
        colours = np.where(kept, 0, BLANK).reshape(SIDE, SIDE)
        cells(axes, brought.reshape(SIDE, SIDE), colours, f"rotated by {signs([step])}" if step else "as it is")
        axes.add_patch(Rectangle((marked % SIDE, marked // SIDE), 1, 1, fill=False, lw=2, zorder=3))
    return figure


def convolution_packing() -> ConvolutionPacking:
    """Return the packing of the channels that are drawn; its weights are ones."""
    return ConvolutionPacking(np.ones((CHANNELS, CHANNELS, 3, 3)), np.ones(CHANNELS), SIDE)


def counted(copies: int) -> Counting:
    """A convolution of the channels that are drawn, done and counted."""
    ev = Counting()
    convolution.convolve(ev, numbered(CHANNELS * SIDE * SIDE), convolution_packing(), copies)
    return ev


def products_of(blocks: Blocks, shift: int) -> list[tuple[int, int]]:
    """(input, output) of each block's product under a shift."""
    return list(zip(blocks.input_channels().tolist(), blocks.output_blocks(shift).tolist(), strict=True))


def kernels(axes: Axes, blocks: Blocks) -> None:
    """The kernels of a convolution, by output and input, each with the shift under which it is applied."""
    labels = np.full((blocks.outputs, blocks.inputs), "", object)
    colours = np.full(labels.shape, BLANK)
    for shift in range(blocks.shifts):
        for (source, target), colour in zip(products_of(blocks, shift), colours_of(blocks, shift), strict=True):
            assert not labels[target, source]
            labels[target, source], colours[target, source] = str(shift), colour
    cells(axes, labels, colours, "input channel", range(blocks.outputs), range(blocks.inputs))
    axes.set_ylabel("output channel")


def colours_of(blocks: Blocks, shift: int) -> np.ndarray:
    """Return the colour of each block's product under a shift: each shift has its own, and each copy."""
    return shift + np.arange(blocks.copies).repeat(blocks.outputs) * blocks.shifts


def products_row(blocks: Blocks, shift: int) -> list[str]:
    """The products of a shift, in the blocks where they lie."""
    return [f"{source} {ARROW} {target}" for source, target in products_of(blocks, shift)]


def shifts() -> Figure:
    """Under which shift each kernel is applied, and how the sums of the shifts come together."""
    blocks, step, done = Blocks(CHANNELS, CHANNELS), -SIDE * SIDE, counted(1)
    text = (
        f"Each row is rotated by {signs([step])}, and the next one below added. 0 {ARROW} 3 is what channel 0 of the "
        "input gives to channel 3 of the output: nine products of taps and weights. In all "
        f"{done.count} products and, the taps' apart, {done.steps.count(step)} rotations with one key. After the last "
        "addition block 0 holds the sum for channel 0, block 1 that for channel 1, and so on."
    )
    figure = card("Each shift applies one kernel a block, and a rotation takes the sum on", 3.4, text)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    kernels(left, blocks)
    order = range(blocks.shifts)[::-1]
    rows = [[products_row(blocks, shift), colours_of(blocks, shift)] for shift in order]
    names, titles = [f"shift {shift}" for shift in order], [f"block {block}" for block in range(CHANNELS)]
    cells(right, *map(list, zip(*rows, strict=True)), rows=names, columns=titles)
    for row in range(1, blocks.shifts):
        ends = (CHANNELS + 0.25, row + 0.4), (CHANNELS + 0.25, row - 0.4)
        right.annotate("", *ends, arrowprops={"arrowstyle": "->"}, annotation_clip=False)
    return figure


def copies() -> Figure:
    """How two copies of a layer share the shifts."""
    blocks = Blocks(CHANNELS, CHANNELS, 2)
    text = f"{cost_of_copies(blocks)} {copies_at_full_size()}"
    figure = card("A layer that fills half of the ring stands in it twice: half the shifts do", 3.4, text)
    left, right = figure.subplots(1, 2, width_ratios=(2.4, 1))
    blank = np.full(CHANNELS * blocks.copies, BLANK)
    rows = {
        "the layer": (np.tile(np.arange(CHANNELS), blocks.copies), blank),
        f"copy 1 back by {blocks.shifts}": (blocks.input_channels(), blank),
    }
    rows |= {f"shift {s}": (products_row(blocks, s), colours_of(blocks, s)) for s in range(blocks.shifts)}
    labels, colours = (
        apart(np.split(np.array(part, object), blocks.copies, 1)) for part in zip(*rows.values(), strict=True)
    )
    cells(left, labels, colours, rows=list(rows), columns=["copy 0", *[""] * CHANNELS, "copy 1"])
    kernels(right, blocks)
    return figure


def cost_of_copies(blocks: Blocks) -> str:
    """Tell what is saved and what is spent, as counted."""
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
    channels_of = enumerate(set_.architecture.channels, start=1)
    counts = [(set_.copies(set_.stage_slots(stage)), channels) for stage, channels in channels_of]
    shown = "; ".join(f"{n} {'copies' if n > 1 else 'copy'}, {channels // n} shifts" for n, channels in counts)
    [products] = {channels // copies * len(ConvolutionPacking.taps) for copies, channels in counts}
    stages = f"At full size, in the three stages of native sets 5 and 6: {shown}."
    return f"{stages} That is {products} products in every stage."


def gathering() -> tuple[np.ndarray, np.ndarray, list[tuple[str, str, np.ndarray]]]:
    """Return the way of a strided result.

    Of each slot its output channel, those of the shortcut counted on, and its pixel; and the steps of the gather, each
    with its rotations and the slots whose numbers are then in every slot.
    """
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


def gather() -> Figure:
    """How the results of a downsampling come to their places in the next stage."""
    text = (
        "m0 to m3 are the four pixels of a channel of the main branch, s0 to s3 of the shortcut. A colour is a channel "
        "of the result. The steps bring columns into halves of a row, rows into quarters of a block, and quarters into "
        "channels. Each masks what is to move, a product and a level, and rotates it. The last masks also rescale both "
        "branches. In the end block 0 is channel 0, and so on, as every layer of the next stage wants it."
    )
    figure = card("Four times fewer pixels, twice the channels: gathered in three steps", 4.6, text)
    upper, lower = figure.add_gridspec(2, 1, height_ratios=(4, 2.4))
    panels = [*upper.subgridspec(1, 3), *lower.subgridspec(1, 2)]
    owner, pixel, steps = gathering()
    named = np.char.add(np.where(owner < CHANNELS, "m", "s"), pixel.astype(str)).astype(object)
    for number, (place, (name, rotations, source)) in enumerate(zip(panels, steps, strict=True)):
        sizes = (CHANNELS // 2, SIDE, SIDE) if number < 3 else (CHANNELS, SIDE // 2, SIDE // 2)
        axes = figure.add_subplot(place)
        labels, colours = (apart(of[source].reshape(sizes)) for of in (named, (owner % CHANNELS).astype(object)))
        blocks = [part for block in range(sizes[0]) for part in (f"block {block}", *[""] * sizes[2])]
        cells(axes, labels, colours, name, columns=blocks[:-1])
        axes.set_xlabel(f"rotations {rotations}" if rotations else "")
    return figure


def pictures() -> Figure:
    """In which ciphertexts, and in which order, the eight pictures of a group lie."""
    group, alone = parameter_set(7), parameter_set(6)
    each, together = (sum(plan(set_).refreshes.values()) for set_ in (alone, group))
    text = (
        "The ciphertexts of a stage stand side by side, with the first two channels of each. A box is one channel of "
        f"the picture with that number. All {group.full_slots} slots of the ring are in use in every stage, and one "
        f"refresh serves all pictures of its ciphertext: {together} refreshes for eight pictures, where set 6 takes "
        f"8 \N{MULTIPLICATION SIGN} {each} = {8 * each}."
    )
    figure = card("Set 7: eight pictures in four ciphertexts, then two, then one", 3.6, text)
    stages = enumerate(group.architecture.channels, start=1)
    for axes, (stage, channels) in zip(figure.subplots(3), stages, strict=True):
        side, held = group.architecture.stage_width(stage), places(group, stage)
        labels, colours = (apart([np.array([[n + more for n in of] * 2], object) for of in held]) for more in (1, 0))
        firsts = [f"channel {c}" if n == of[0] else "" for of in held for c in (0, 1) for n in (*of, -1)[: len(of) + c]]
        title = f"stage {stage}: {channels} channels of {side} \N{MULTIPLICATION SIGN} {side}"
        cells(axes, labels, colours, title, columns=firsts[:-1])
    return figure


DRAWINGS: tuple[Callable[[], Figure], ...] = (packing, taps, shifts, copies, gather, pictures)


def source(draw: Callable[[], Figure]) -> str:
    """The SVG file's text: what matplotlib writes, with words for those who do not see it, and a dark scheme."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = draw()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    swaps = [*(("fill", *pair) for pair in zip(COLOURS, DARK, strict=True)), ("fill", "#ffffff", DARK_PAPER)]
    swaps += [("stroke", "#ffffff", DARK_PAPER), ("stroke", "#000000", DARK_INK)]
    dark = [f'[{name}="{light}"] {{ {name}: {dark}; }}' for name, light, dark in swaps]
    opening, body = file.getvalue().split('version="1.1">', 1)
    lines = [
        f'{opening}version="1.1" role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(figure.get_suptitle())}</title>',
        f'<desc id="description">{escape(f"{draw.__doc__} {figure.get_supxlabel()}")}</desc>',
        f"<style>@media (prefers-color-scheme: dark) {{ text {{ fill: {DARK_INK}; }}",
        *dark,
        "}</style>",
        re.sub(r'style="((?:fill|stroke)[^"]*)"', _attributes, body),  # which rules prevail over
    ]
    return "".join(f"{line.rstrip()}\n" for line in "\n".join(lines).splitlines())


def _attributes(style: re.Match[str]) -> str:
    """A style as attributes."""
    return " ".join('{}="{}"'.format(*part.split(": ")) for part in style[1].split("; "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FIGURES, metavar="DIR", help="folder of the figures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for draw in DRAWINGS:
        (folder / f"{draw.__name__}.svg").write_text(source(draw), encoding="utf-8")


if __name__ == "__main__":
    main()
