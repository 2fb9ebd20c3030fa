#!/usr/bin/env python
"""Accuracy of the network: plain, as the encrypted one computes it, and with encryption's noise.

    scripts/accuracy.py PICTURES [--sets 1 2 3 4] [--engine openfhe] [--weights FILE] [--count N] [--encrypted I ...]
                        [--record]

PICTURES: pictures with their classes, as the word ``simulate`` takes them.  Sets are the native evaluator's where it
has them, else OpenFHE's.  Each is simulated as by that word, exactly and with normal noise of the measured size added
at each refresh.  Printed: accuracy, how many pictures' numbers the client would refuse (a value left its range: they
count as wrong), worst and mean difference of a logit of the others, how many classes differ from plain and which
pictures, the confusion matrix.
``--encrypted 0 7`` classifies pictures 0 and 7 under encryption too, with the keys in keys/ (minutes each).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.model.labelled import Pictures, read_pictures
from lowmem_resnet20.model.simulation import Score, plain_logits
from lowmem_resnet20.model.simulators import simulate
from lowmem_resnet20.native.kernels.threads import available_processors
from lowmem_resnet20.network.engines import ENGINES
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.weights import Weights, default_weights_path, load_weights
from lowmem_resnet20.progress.display import make_progress
from measurements import record, rows_of
from origin import IN_THE_CLEAR, Origin, stamp

SECTION = "accuracy"
#: How a set is computed in the clear.
APPROXIMATED, NOISY = "ReLU approximated", "with noise"
#: Columns of classes that there is room for.
WIDEST = 16


def labelled_pictures(path: Path, weights: Weights, count: int | None) -> Pictures:
    """With ``count`` so many of them."""
    pictures = read_pictures(path, weights.architecture, weights.classes)
    if pictures.y is None:
        sys.exit(f"{path} says of no picture which class it is of")
    return pictures.some(count) if count else pictures


def evaluate_all(set_: ParameterSet, weights: Weights, pictures: Pictures, noise: float) -> np.ndarray:
    """(n, classes) logits, on all cores."""
    with make_progress(0, sys.stderr) as progress:
        return simulate(set_, weights, pictures.x, noise, available_processors(), progress)


def evaluate_encrypted(set_: ParameterSet, weights: Path, pixels: np.ndarray) -> list[float] | None:
    """Logits by the command line: encrypted, evaluated by a server process, decrypted; None where it refuses what comes
    out."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        Image.fromarray((pixels * 255).round().astype(np.uint8).transpose(1, 2, 0).squeeze()).save(picture)
        words = ["load_keys", str(set_.number), "input", str(picture), "weights", str(weights), "json"]
        command = [sys.executable, "-m", "lowmem_resnet20", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode == ExitCode.CIPHERTEXT:
        return None
    done.check_returncode()
    return json.loads(done.stdout)["logits"]


def report_encrypted(
    console: Console,
    pictures: Pictures,
    plain: np.ndarray,
    sets: list[ParameterSet],
    weights: Path,
    classes: Sequence[str],
    chosen: list[int],
) -> None:
    table = Table("encrypted", "set", "true class", "plain", "encrypted", "worst logit")
    for set_ in sets:
        for i in chosen:
            logits = evaluate_encrypted(set_, weights, pictures.x[i])
            found, worst = "refused", "nan"
            if logits is not None:
                found, worst = classes[int(np.argmax(logits))], f"{np.abs(logits - plain[i]).max():.3f}"
            true, expected = classes[pictures.y[i]], classes[plain[i].argmax()]
            table.add_row(pictures.names[i], str(set_.number), true, expected, found, worst)
    console.print(table)


def confusion(classes: Sequence[str], labels: np.ndarray, found: np.ndarray) -> Table:
    """Rows: what it is; columns: what was found."""
    table = Table("", *(name[:5] for name in classes), title="confusion, plain (rows: true class)")
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, found), 1)
    for name, row in zip(classes, counts, strict=True):
        table.add_row(name, *(str(n) if n else "." for n in row))
    return table


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
    if len(weights.classes) <= WIDEST:
        console.print(confusion(weights.classes, pictures.y, plain.argmax(1)))
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
    sets = [parameter_set(number, args.engine, weights.architecture) for number in args.sets]
    for path in args.pictures:
        pictures = labelled_pictures(path, weights, args.count)
        plain = plain_logits(weights, pictures.x)
        scores = report(console, str(path), pictures, plain, weights, sets)
        if args.record:
            write_down(path, sets, scores, len(plain), origin, taken)
        if args.encrypted:
            report_encrypted(console, pictures, plain, sets, args.weights, weights.classes, args.encrypted)
    bounds(console, weights, load_weights(args.compare_bounds) if args.compare_bounds else None)


if __name__ == "__main__":
    main()
