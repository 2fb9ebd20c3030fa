"""The tables, the plot and the report of scripts/precision.py."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.rcdefaults()  # and not what a matplotlibrc in the working directory says
matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from lowmem_resnet20.client.precision import LayerPrecision
from lowmem_resnet20.native.keys.keyplan import key_size
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.progress.display import format_bytes, format_seconds
from lowmem_resnet20.server.process import ServerRun

GIB = 1 << 30
KINDS = ("convolution", "refresh", "ReLU")
COLOURS = dict(zip((*KINDS, "loading", "other"), ("#3b6fb6", "#c8553d", "#588b5b", "#8a8a8a", "#c9a227"), strict=True))


@dataclass(frozen=True)
class Inspection:
    """pixels: (colours, width, width) in [0, 1]; plain, logits: (classes,) of the plain model and decrypted; classes:
    their names; layers: in order."""

    set: ParameterSet
    picture: Path
    pixels: np.ndarray
    plain: np.ndarray
    logits: np.ndarray
    classes: tuple[str, ...]
    layers: list[LayerPrecision]
    run: ServerRun

    @property
    def worst_logit(self) -> float:
        return float(np.abs(self.plain - self.logits).max())

    @property
    def label(self) -> str:
        return self.classes[int(self.logits.argmax())]


def kind(layer: LayerPrecision) -> str:
    """Return which of KINDS a measured value is the result of."""
    return "refresh" if layer.bootstrap else "ReLU" if layer.name.endswith(".relu") else "convolution"


def kind_of_step(stage: str, name: str) -> str:
    """Return what the server does in a step: one of COLOURS."""
    if stage in ("keys", "native"):
        return "loading"
    last = name.rpartition(" ")[2]
    return {"refresh": "refresh", "relu": "ReLU", "gather": "other", "fc": "other"}.get(last, "convolution")


# --- panels -----------------------------------------------------------------------------------------------


def draw_picture(axes: Axes, inspection: Inspection) -> None:
    axes.imshow(inspection.pixels.transpose(1, 2, 0), "gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(f"{inspection.picture.name}: {inspection.label}")
    axes.axis("off")


def draw_logits(axes: Axes, inspection: Inspection) -> None:
    places = np.arange(len(inspection.classes))
    axes.bar(places - 0.2, inspection.plain, 0.4, label="plain", color="#b8c4d6")
    axes.bar(places + 0.2, inspection.logits, 0.4, label="encrypted", color=COLOURS["convolution"])
    axes.set_xticks(places, inspection.classes, rotation=40, ha="right")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_title(f"logits: worst difference {inspection.worst_logit:.3f}")
    axes.legend()


def draw_errors(axes: Axes, inspection: Inspection) -> None:
    """Worst error as a mark, from the mean to it a line, by kind."""
    for name in KINDS:
        places = [i for i, layer in enumerate(inspection.layers) if kind(layer) == name]
        chosen = [inspection.layers[i] for i in places]
        worst, high, mean = (np.array([getattr(c, part) for c in chosen]) for part in ("worst", "high", "mean"))
        axes.vlines(places, mean, worst, color=COLOURS[name], linewidth=1.2)
        axes.plot(places, worst, "v", color=COLOURS[name], label=f"{name}: worst", markersize=5)
        axes.plot(places, high, "_", color=COLOURS[name], markersize=8)
        axes.plot(places, mean, ".", color=COLOURS[name], markersize=5)
    axes.set_yscale("log")
    axes.set_title("absolute error after each layer: worst (mark), 99th percentile (dash), mean (dot)")
    axes.legend(ncols=3, loc="lower right")
    _layer_ticks(axes, inspection)


def draw_ranges(axes: Axes, inspection: Inspection) -> None:
    for name in KINDS:
        places = [i for i, layer in enumerate(inspection.layers) if kind(layer) == name]
        chosen = [inspection.layers[i] for i in places]
        axes.vlines(
            places, [c.least for c in chosen], [c.largest for c in chosen], COLOURS[name], linewidth=3, label=name
        )
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_title("range of the decrypted values after each layer")
    _legend_above(axes)
    _layer_ticks(axes, inspection)


def _legend_above(axes: Axes) -> None:
    """A legend in a line above all values."""
    least, largest = axes.get_ylim()
    axes.set_ylim(least, largest + 0.2 * (largest - least))
    axes.legend(ncols=len(COLOURS), loc="upper center")


def _layer_ticks(axes: Axes, inspection: Inspection) -> None:
    places = [i for i, layer in enumerate(inspection.layers) if kind(layer) == "convolution"]
    axes.set_xticks(places, [inspection.layers[i].name for i in places], rotation=60, ha="right", fontsize=7)
    axes.margins(x=0.01)
    axes.grid(axis="y", alpha=0.3)


def draw_times(axes: Axes, inspection: Inspection) -> None:
    """Seconds of each step of the server, coloured by what it does."""
    steps = inspection.run.steps
    colours = [COLOURS[kind_of_step(step.stage, step.name)] for step in steps]
    axes.bar(range(len(steps)), [step.seconds for step in steps], color=colours)
    totals = dict.fromkeys(COLOURS, 0.0)
    for step in steps:
        totals[kind_of_step(step.stage, step.name)] += step.seconds
    for name, seconds in totals.items():
        if seconds:
            axes.bar(0, 0, color=COLOURS[name], label=f"{name} {seconds:.0f} s")
    firsts = [i for i, step in enumerate(steps) if i == 0 or step.stage != steps[i - 1].stage]
    axes.set_xticks(firsts, [steps[i].stage for i in firsts], rotation=40, ha="right", fontsize=8)
    axes.set_title(f"seconds of each step of the server, {format_seconds(inspection.run.seconds)} in all")
    _legend_above(axes)


def draw_memory(axes: Axes, inspection: Inspection) -> None:
    ends = np.cumsum([step.seconds for step in inspection.run.steps])
    axes.plot(ends, [step.resident_bytes / GIB for step in inspection.run.steps], color=COLOURS["convolution"])
    axes.axhline(inspection.run.peak_bytes / GIB, color=COLOURS["refresh"], linestyle="--", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_title(f"memory of the server, GiB: peak {format_bytes(inspection.run.peak_bytes)}")


_PANELS: dict[str, Callable[[Axes, Inspection], None]] = {
    "picture": draw_picture,
    "logits": draw_logits,
    "errors": draw_errors,
    "ranges": draw_ranges,
    "times": draw_times,
    "memory": draw_memory,
}
_MOSAIC = [["picture", "logits", "logits"]] + [[name] * 3 for name in ("errors", "ranges", "times", "memory")]


# --- tables and files -------------------------------------------------------------------------------------


def print_tables(console: Console, inspection: Inspection) -> None:
    console.print(title(inspection), inspection.set.summary(key_size(inspection.set)), sep="\n\n")
    console.print(logit_table(inspection))
    console.print(layer_table(inspection))


def title(inspection: Inspection) -> str:
    return f"lowmem-resnet20, set {inspection.set.number}, {inspection.picture.name}: {inspection.label}"


def logit_table(inspection: Inspection) -> Table:
    rows = Table("class", "plain", "encrypted", "difference")
    for label, plain, found in zip(inspection.classes, inspection.plain, inspection.logits, strict=True):
        rows.add_row(label, f"{plain:.4f}", f"{found:.4f}", f"{found - plain:+.4f}")
    return rows


def layer_table(inspection: Inspection) -> Table:
    """A row for each layer, refresh and ReLU; a line under each block."""
    rows = Table("after", "least", "largest", "worst error", "99th percentile", "mean", "bits, worst", "bits, mean")
    for layer in inspection.layers:
        errors = (f"{e:.1e}" for e in (layer.worst, layer.high, layer.mean))
        bits = (f"{layer.bits:.1f}", f"{layer.mean_bits:.1f}")
        ends = layer.name.endswith("conv2.relu") or layer.name == "conv1.relu"
        rows.add_row(layer.name, f"{layer.least:.3f}", f"{layer.largest:.3f}", *errors, *bits, end_section=ends)
    return rows


def write_plot(inspection: Inspection, path: Path) -> None:
    """All panels on one page."""
    figure, axes = pyplot.subplot_mosaic(_MOSAIC, figsize=(13, 22), layout="constrained")
    figure.suptitle(title(inspection), fontsize=14)
    for name, draw in _PANELS.items():
        draw(axes[name], inspection)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def write_report(console: Console, inspection: Inspection, plot: Path, path: Path) -> None:
    """Write what the console has recorded, and the plot, in a page that needs no other file."""
    picture = base64.b64encode(plot.read_bytes()).decode()
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title(inspection))}</title>'
        '</head><body><pre style="line-height: 1.2">{code}</pre>'
        f'<img alt="plot" style="max-width: 100%" src="data:image/png;base64,{picture}"></body></html>\n'
    )
    path.write_text(console.export_html(code_format=page, inline_styles=True), encoding="utf-8")
