#!/usr/bin/env python
"""The range of every ReLU's input over a set of pictures: least, largest, spread and histogram.

    scripts/ranges.py PICTURES [--count N] [--weights FILE] [--plot FILE.png]

PICTURES as scripts/accuracy.py takes them, or without their classes.  Values are shown as the plain network has them,
beside the calibrated bound (the largest of all channels), and what part of their channel's range in sets 1 to 4 they
reach: above 1 the encrypted ReLU is out of its range.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.rcdefaults()  # and not what a matplotlibrc in the working directory says
matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from lowmem_resnet20.model.labelled import Pictures, read_pictures
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.ranges import ranges
from lowmem_resnet20.network.weights import Weights, default_weights_path, load_weights

BINS = 101
BARS = " ▁▂▃▄▅▆▇█"


@dataclass
class Range:
    """One ReLU's input.

    least, largest, squares, count: of its values, and of their squares the sum;
    reached: how far into its range the furthest came;
    histogram: counts of value over channel range.
    """

    least: float = np.inf
    largest: float = -np.inf
    squares: float = 0.0
    count: int = 0
    reached: float = 0.0
    histogram: np.ndarray | None = None

    def add(self, values: np.ndarray, end: np.ndarray) -> None:
        """values: (n, channels, width, width); end: (channels,) of their range"""
        relative = values / end[:, None, None]
        counts, _ = np.histogram(relative, BINS, (-1, 1))
        self.histogram = counts if self.histogram is None else self.histogram + counts
        self.least, self.largest = min(self.least, values.min()), max(self.largest, values.max())
        self.squares, self.count = self.squares + (values**2).sum(), self.count + values.size
        self.reached = max(self.reached, np.abs(relative).max())

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.squares / self.count))


def measure(weights: Weights, pictures: Pictures) -> dict[str, Range]:
    network = PlainNetwork(weights)
    ends = ranges(weights, parameter_set(1).refresh)
    found = {name: Range() for name in weights.architecture.relu_channels()}
    for first in range(0, len(pictures.x), 100):
        layers = network.layers(pictures.x[first : first + 100])
        for name, range_ in found.items():
            range_.add(layers[name], ends[name])
    return found


def bars(histogram: np.ndarray, width: int = 25) -> str:
    """The histogram in a line of text, by the logarithm of the counts."""
    counts = np.log1p([part.sum() for part in np.array_split(histogram, width)])
    return "".join(BARS[round(count / counts.max() * (len(BARS) - 1))] for count in counts)


def table(weights: Weights, measured: dict[str, Range], title: str) -> Table:
    rows = Table("ReLU", "least", "largest", "rms", "bound", "of its range", "log histogram over [-1, 1]", title=title)
    for name, found in measured.items():
        values = (found.least, found.largest, found.rms, weights.bounds[name].max())
        rows.add_row(name, *(f"{v:.3f}" for v in values), f"{found.reached:.2f}", bars(found.histogram))
    return rows


def plot(measured: dict[str, Range], path: Path) -> None:
    """A histogram for each ReLU, values in units of their channel's range."""
    columns = 4
    figure, grid = pyplot.subplots(-(-len(measured) // columns), columns, figsize=(14, 12), layout="constrained")
    edges = np.linspace(-1, 1, BINS + 1)
    for axes in grid.flat[len(measured) :]:
        axes.axis("off")
    for axes, (name, found) in zip(grid.flat, measured.items(), strict=False):
        axes.stairs(found.histogram, edges, fill=True)
        axes.set_yscale("log")
        axes.set_title(f"{name}: {found.least:.2f} to {found.largest:.2f}", fontsize=9)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, help="only COUNT pictures")
    parser.add_argument("--weights", type=Path, default=default_weights_path())
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write histograms as a PNG")
    args = parser.parse_args()
    weights = load_weights(args.weights)
    pictures = read_pictures(args.pictures, weights.architecture, weights.classes)
    pictures = pictures.some(args.count) if args.count else pictures
    measured = measure(weights, pictures)
    Console(width=130).print(table(weights, measured, f"{len(pictures.x)} pictures of {args.pictures}"))
    if args.plot:
        plot(measured, args.plot)


if __name__ == "__main__":
    main()
