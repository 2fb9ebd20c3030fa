"""The plot and the report of scripts/precision.py."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.rcdefaults()  # and not what a matplotlibrc in the working directory says
matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from lowmem_resnet20.client.precision import LayerPrecision
from lowmem_resnet20.native.keyplan import key_size
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.progress.display import format_bytes, format_seconds
from lowmem_resnet20.server.process import ServerRun

GIB = 1 << 30
KINDS = ("convolution", "refresh", "ReLU")
COLOURS = dict(zip((*KINDS, "loading", "other"), ("#3b6fb6", "#c8553d", "#588b5b", "#8a8a8a", "#c9a227"), strict=True))


@dataclass(frozen=True)
class Inspection:
    """pixels: (3, 32, 32) in [0, 1]; plain, logits: (10,) of the plain model and decrypted; layers: in order."""

    set: ParameterSet
    picture: Path
    pixels: np.ndarray
    plain: np.ndarray
    logits: np.ndarray
    layers: list[LayerPrecision]
    run: ServerRun

    @property
    def worst_logit(self) -> float:
        return float(np.abs(self.plain - self.logits).max())

    @property
    def label(self) -> str:
        return CIFAR10_CLASSES[int(self.logits.argmax())]


def kind(layer: LayerPrecision) -> str:
    """Of which of KINDS a measured value is the result."""
    return "refresh" if layer.bootstrap else "ReLU" if layer.name.endswith(".relu") else "convolution"


def kind_of_step(stage: str, name: str) -> str:
    """What the server does in a step: one of COLOURS."""
    if stage in ("keys", "native"):
        return "loading"
    last = name.rpartition(" ")[2]
    return {"refresh": "refresh", "relu": "ReLU", "gather": "other", "fc": "other"}.get(last, "convolution")


# --- panels -----------------------------------------------------------------------------------------------


def draw_picture(axes: Axes, inspection: Inspection) -> None:
    axes.imshow(inspection.pixels.transpose(1, 2, 0), interpolation="nearest")
    axes.set_title(f"{inspection.picture.name}: {inspection.label}")
    axes.axis("off")


def draw_logits(axes: Axes, inspection: Inspection) -> None:
    places = np.arange(len(CIFAR10_CLASSES))
    axes.bar(places - 0.2, inspection.plain, 0.4, label="plain", color="#b8c4d6")
    axes.bar(places + 0.2, inspection.logits, 0.4, label="encrypted", color=COLOURS["convolution"])
    axes.set_xticks(places, CIFAR10_CLASSES, rotation=40, ha="right")
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


PANELS: dict[str, tuple[Callable[[Axes, Inspection], None], tuple[float, float]]] = {
    "picture": (draw_picture, (4, 4)),
    "logits": (draw_logits, (8, 4)),
    "errors": (draw_errors, (12, 4.5)),
    "ranges": (draw_ranges, (12, 4)),
    "times": (draw_times, (12, 4)),
    "memory": (draw_memory, (12, 3)),
}
_MOSAIC = [["picture", "logits", "logits"]] + [[name] * 3 for name in ("errors", "ranges", "times", "memory")]


# --- files ------------------------------------------------------------------------------------------------


def write_plot(inspection: Inspection, path: Path) -> None:
    """All panels on one page."""
    figure, axes = pyplot.subplot_mosaic(_MOSAIC, figsize=(13, 22), layout="constrained")
    figure.suptitle(_title(inspection), fontsize=14)
    for name, (draw, _) in PANELS.items():
        draw(axes[name], inspection)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def write_report(inspection: Inspection, path: Path) -> None:
    """The panels as pictures inside the page, and the numbers as tables."""
    summary = inspection.set.summary(key_size(inspection.set))
    body = [f"<h1>{html.escape(_title(inspection))}</h1>", f"<pre>{html.escape(summary)}</pre>"]
    body += [_image(name, inspection) for name in ("picture", "logits")]
    body.append(_rows(("class", "plain", "encrypted", "difference"), _logit_rows(inspection)))
    body += [_image(name, inspection) for name in ("errors", "ranges", "times", "memory")]
    heads = ("after", "kind", "least", "largest", "worst error", "99th percentile", "mean", "bits, worst", "bits, mean")
    body.append(_rows(heads, _layer_rows(inspection)))
    page = _PAGE.format(title=html.escape(_title(inspection)), body="\n".join(body))
    path.write_text(page, encoding="utf-8")


def _title(inspection: Inspection) -> str:
    return f"lowmem-resnet20, set {inspection.set.number}, {inspection.picture.name}: {inspection.label}"


def _image(name: str, inspection: Inspection) -> str:
    draw, size = PANELS[name]
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    draw(axes, inspection)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    pyplot.close(figure)
    return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _logit_rows(inspection: Inspection) -> Iterator[tuple[str, ...]]:
    for label, plain, found in zip(CIFAR10_CLASSES, inspection.plain, inspection.logits, strict=True):
        yield label, f"{plain:.4f}", f"{found:.4f}", f"{found - plain:+.4f}"


def _layer_rows(inspection: Inspection) -> Iterator[tuple[str, ...]]:
    for c in inspection.layers:
        errors = (f"{e:.2e}" for e in (c.worst, c.high, c.mean))
        yield c.name, kind(c), f"{c.least:.3f}", f"{c.largest:.3f}", *errors, f"{c.bits:.1f}", f"{c.mean_bits:.1f}"


def _rows(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; color: #222 }}
h1 {{ font-size: 1.5em }} pre {{ background: #f5f5f2; padding: 1em; overflow-x: auto }}
img {{ max-width: 100%; vertical-align: top }}
table {{ border-collapse: collapse; margin: 1.5em 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: 0.15em 0.8em; text-align: right; border-bottom: 1px solid #e4e4e0 }}
th:first-child, td:first-child {{ text-align: left }}
</style></head><body>
{body}
</body></html>
"""
