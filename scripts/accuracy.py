#!/usr/bin/env python
"""Accuracy of the network: plain, as the encrypted one computes it, and with encryption's noise.

    scripts/accuracy.py PICTURES [--sets 1 2 3 4] [--engine openfhe] [--weights FILE] [--count N] [--encrypted I ...]
                        [--record]

PICTURES: npz files with ``x`` uint8 (n, 3, 32, 32) and ``y``, or with JPEG files (``bytes``, ``offsets``, ``y``), or
folders of pictures in sub-folders named by class.  Sets are the native evaluator's where it has them, else OpenFHE's.
For each set the numpy evaluator runs the packed network with the set's approximated ReLU, exactly and with normal noise
of the measured size added at each refresh.  Printed: accuracy, how many pictures' numbers the client would refuse (a
value left its range: they count as wrong), worst and mean difference of a logit of the others, how many classes differ
from plain and which pictures, the confusion matrix.
``--encrypted 0 7`` classifies pictures 0 and 7 under encryption too, with the keys in keys/ (minutes each).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.model.simulation import simulate
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.network.engines import ENGINES
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.ranges import are_logits
from lowmem_resnet20.network.weights import Weights, default_weights_path, load_weights
from measurements import record, rows_of
from origin import IN_THE_CLEAR, Origin, stamp
from pictureset import Pictures, read_pictures

SECTION = "accuracy"
#: How a set is computed in the clear.
APPROXIMATED, NOISY = "ReLU approximated", "with noise"


def evaluate(set_: ParameterSet, weights: Weights, noise: float, numbered: tuple) -> np.ndarray:
    """(n, classes) logits of the packed network in the clear.  numbered: the number of the first picture (its seed) and
    the pixels of each, as many as the set evaluates together, or fewer."""
    seed, pictures = numbered
    return next(simulate(set_, weights, pictures, noise, seed))


def evaluate_all(set_: ParameterSet, weights: Weights, pictures: Pictures, noise: float) -> np.ndarray:
    """(n, classes) logits, on all cores."""
    work = partial(evaluate, set_, weights, noise)
    title = f"set {set_.number}, noise {noise:.1e}"
    with ProcessPoolExecutor() as pool:
        groups = [(i, pictures.x[i : i + set_.pictures]) for i in range(0, len(pictures.x), set_.pictures)]
        results = pool.map(work, groups, chunksize=8 // set_.pictures or 1)
        quiet = not sys.stderr.isatty()
        return np.concatenate(list(track(results, title, len(groups), console=Console(stderr=True), disable=quiet)))


@dataclass(frozen=True)
class Score:
    """Pictures' logits beside plain's.

    right: how many classes are; refused: how many are no logits (a value left its range), which are never right;
    worst, mean: largest difference of a picture's logit, over the others; differing: indices of other classes than
    plain's and of the refused.
    """

    right: int
    refused: int
    worst: float
    mean: float
    differing: list[int]

    @classmethod
    def of(cls, weights: Weights, logits: np.ndarray, plain: np.ndarray, labels: np.ndarray) -> Score:
        """logits, plain: (n, classes); labels: (n,)"""
        taken = are_logits(weights, logits)
        differences = np.abs(logits[taken] - plain[taken]).max(1)
        worst, mean = (differences.max(), differences.mean()) if taken.any() else (np.nan, np.nan)
        found = logits.argmax(1)
        differing = np.flatnonzero((found != plain.argmax(1)) | ~taken)
        right = int(((found == labels) & taken).sum())
        return cls(right, int((~taken).sum()), float(worst), float(mean), differing.tolist())


def evaluate_encrypted(set_: ParameterSet, weights: Path, pixels: np.ndarray) -> np.ndarray:
    """(classes,) logits by the command line: encrypted, evaluated by a server process, decrypted; NaN where it refuses
    what comes out."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        Image.fromarray((pixels * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(picture)
        words = ["load_keys", str(set_.number), "input", str(picture), "weights", str(weights), "json"]
        command = [sys.executable, "-m", "lowmem_resnet20", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode == ExitCode.CIPHERTEXT:
        return np.full(len(CIFAR10_CLASSES), np.nan)
    done.check_returncode()
    return np.array(json.loads(done.stdout)["logits"])


def report_encrypted(
    console: Console, pictures: Pictures, plain: np.ndarray, sets: list[ParameterSet], weights: Path, chosen: list[int]
) -> None:
    table = Table("encrypted", "set", "true class", "plain", "encrypted", "worst logit")
    for set_ in sets:
        for i in chosen:
            logits = evaluate_encrypted(set_, weights, pictures.x[i])
            true, expected, found = (CIFAR10_CLASSES[c] for c in (pictures.y[i], plain[i].argmax(), logits.argmax()))
            classes = (true, expected, found if np.isfinite(logits).all() else "refused")
            worst = f"{np.abs(logits - plain[i]).max():.3f}"
            table.add_row(pictures.names[i], str(set_.number), *classes, worst)
    console.print(table)


def confusion(labels: np.ndarray, found: np.ndarray) -> Table:
    """Rows: what it is; columns: what was found."""
    table = Table("", *(name[:5] for name in CIFAR10_CLASSES), title="confusion, plain (rows: true class)")
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, found), 1)
    for name, row in zip(CIFAR10_CLASSES, counts, strict=True):
        table.add_row(name, *(str(n) if n else "." for n in row))
    return table


def plain_logits(weights: Weights, pictures: Pictures) -> np.ndarray:
    """(n, classes)"""
    network = PlainNetwork(weights)
    return np.concatenate([network.logits(pictures.x[i : i + 50]) for i in range(0, len(pictures.x), 50)])


def report(
    console: Console, title: str, pictures: Pictures, plain: np.ndarray, weights: Weights, sets: list[ParameterSet]
) -> dict[str, Score]:
    """Print the tables; returns the scores by what computed the logits."""
    headings = "right", "accuracy", "refused", "worst logit", "mean logit", "class differs"
    table = Table("", *headings, title=title)
    logits_of = {"plain": plain}
    for set_ in sets:
        for noise, name in ((0.0, APPROXIMATED), (set_.refresh_deviation, NOISY)):
            logits_of[f"{label(set_)}, {name}"] = evaluate_all(set_, weights, pictures, noise)
    scores = {name: Score.of(weights, logits, plain, pictures.y) for name, logits in logits_of.items()}
    for name, score in scores.items():
        table.add_row(
            name,
            f"{score.right} of {len(plain)}",
            f"{100 * score.right / len(plain):.2f}%",
            str(score.refused),
            f"{score.worst:.3f}",
            f"{score.mean:.4f}",
            str(len(score.differing)),
        )
    console.print(table)
    console.print(confusion(pictures.y, plain.argmax(1)))
    for name, score in scores.items():
        if score.differing:
            console.print(f"{name}: class differs on {', '.join(pictures.names[i] for i in score.differing)}")
    return scores


def label(set_: ParameterSet) -> str:
    return f"set {set_.number}, {set_.engine}"


def write_down(
    path: Path, sets: list[ParameterSet], scores: dict[str, Score], count: int, origin: Origin, taken: dict[str, Any]
) -> None:
    """Into the file of measurements: of each set the score with noise, and the worst logit without.  origin, taken: as
    it was before."""
    rows = {}
    for network in ("plain", *map(label, sets)):
        noisy = scores.get(f"{network}, {NOISY}", scores["plain"])
        alone = scores.get(f"{network}, {APPROXIMATED}", scores["plain"])
        figures = {"right": noisy.right, "of": count, "differing": len(noisy.differing)}
        figures |= {"worst": noisy.worst, "mean": noisy.mean, "worst_without_noise": alone.worst}
        rows[f"{path.name}: {network}"] = {"pictures": path.name, "network": network} | figures | taken
    record(SECTION, origin, rows_of(SECTION, origin) | rows)


def bounds(console: Console, weights: Weights, other: Weights | None) -> None:
    """The calibrated bounds, largest and mean over the channels of each ReLU."""
    table = Table("bound of the input of", "largest", "mean", title="calibrated bounds")
    if other:
        table.add_column("other, largest")
        table.add_column("mean")
    for name in weights.architecture.relu_channels():
        ours, *theirs = (w.bounds[name] for w in (weights, other) if w)
        table.add_row(name, *(f"{v:.2f}" for b in (ours, *theirs) for v in (b.max(), b.mean())))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--sets", type=int, nargs="*", default=[1])
    parser.add_argument("--engine", choices=ENGINES, default="", help="whose sets")
    parser.add_argument("--weights", type=Path, default=default_weights_path())
    parser.add_argument("--compare-bounds", type=Path, metavar="FILE", help="show another weight file's bounds beside")
    parser.add_argument("--encrypted", type=int, nargs="*", default=[], metavar="I", help="encrypt these for real")
    parser.add_argument("--count", type=int, help="only COUNT pictures of each")
    parser.add_argument("--record", action="store_true", help="write the figures down, see scripts/measurements.py")
    args = parser.parse_args()
    if args.record and args.weights != default_weights_path():
        parser.error("--record is for the program's own weights")
    console, origin, taken = Console(width=120), Origin.here(IN_THE_CLEAR), stamp()
    weights = load_weights(args.weights)
    sets = [parameter_set(number, args.engine) for number in args.sets]
    for path in args.pictures:
        pictures = read_pictures(path, args.count)
        plain = plain_logits(weights, pictures)
        scores = report(console, str(path), pictures, plain, weights, sets)
        if args.record:
            write_down(path, sets, scores, len(plain), origin, taken)
        if args.encrypted:
            report_encrypted(console, pictures, plain, sets, args.weights, args.encrypted)
    bounds(console, weights, load_weights(args.compare_bounds) if args.compare_bounds else None)


if __name__ == "__main__":
    main()
