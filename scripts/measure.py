#!/usr/bin/env python
"""Time, memory, sizes and precision of parameter sets at full size: the figures of the README.

    scripts/measure.py 6 7 --pictures inputs/*.png
    scripts/measure.py 5 6 --engine openfhe --keys keys/openfhe

For each set, keys are made in keys/ if they are missing; those that are there name the evaluator themselves.  The first
picture is classified alone, or, by a set that evaluates groups, with as many others as make a group, and its checkpoints
are inspected; the other pictures together in a second run; both by the command line, as a user does.  A picture's time is
its share of its group's.  Sets run one after the other, and nothing else should run meanwhile.  A line is printed as each
step ends, a table in Markdown at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from lowmem_resnet20 import client
from lowmem_resnet20.errors import KeyFolderError
from lowmem_resnet20.fhe.keystore import SERVER, keys_set
from lowmem_resnet20.fhe.version import openfhe_version
from lowmem_resnet20.inspection import inspect_checkpoints
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.engines import ENGINES
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from lowmem_resnet20.terminal.progress import format_bytes, format_seconds


@dataclass
class Figures:
    """What was measured of one set: results of the command line, the first ``together`` of pictures that were classified
    alone or in a group of their own, and the precision of the first picture's refreshes."""

    number: int
    engine: str
    keys: dict = field(default_factory=dict)
    server_bytes: int = 0
    results: list[dict] = field(default_factory=list)
    bits: float = 0.0
    together: int = 1

    def row(self) -> list[str]:
        keys = [format_seconds(self.keys["seconds"]), format_bytes(self.keys["peak_bytes"])] if self.keys else ["", ""]
        first, others = self.results[0], self.results[self.together :]
        alone = format_seconds(sum(first["seconds"].values()))
        group = format_seconds(sum(first["group"]["seconds"].values())) if "group" in first else ""
        each = format_seconds(statistics.median(sum(r["seconds"].values()) for r in others)) if others else ""
        peaks = [format_bytes(max(r["peak_bytes"][who] for r in self.results)) for who in ("server", "client")]
        errors = [r["plain"]["worst_difference"] for r in self.results]
        same = sum(r["class"] == r["plain"]["class"] for r in self.results)
        error = f"{errors[0]:.3f}, {max(errors):.3f}" if len(errors) > 1 else f"{errors[0]:.3f}"
        classes = f"{same} of {len(errors)}"
        return [
            str(self.number), self.engine, *keys, format_bytes(self.server_bytes), alone, group, each, *peaks,
            f"{self.bits:.1f}", error, classes,
        ]  # fmt: skip


HEADINGS = (
    "set", "engine", "key generation", "its peak", "server folder", "a picture", "its group", "each of several", "server's peak",
    "client's peak", "refresh bits", "logit error: first, worst", "class as plain's",
)  # fmt: skip


def command(*words: str) -> list[dict]:
    """Run the command line; its lines of JSON."""
    line = [sys.executable, "-m", "lowmem_resnet20", *words, "json", "verbose", "-1"]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(number: int, engine: str, pictures: list[Path], keys: Path) -> Figures:
    """engine: of the keys, where they are to be made, and that must be theirs where they are there; "" for any."""
    folder, made = keys / f"exp{number}", {}
    if not folder.exists():
        [made] = command("generate_keys", str(number), *(("engine", engine) if engine else ()), "keys", str(keys))
        say(f"set {number}, keys", made)
    set_ = keys_set(folder / SERVER, number)
    if engine not in ("", set_.engine):
        raise KeyFolderError(f"{folder} holds keys for the engine {set_.engine}, not {engine}", "name another: --keys")
    figures = Figures(number, set_.engine, made)
    figures.server_bytes = sum(path.stat().st_size for path in (folder / "server").iterdir())
    weights = load_weights(default_weights_path())
    first, others = pictures[: set_.pictures], pictures[set_.pictures :]
    figures.together = len(first)
    words = ["load_keys", str(number), "keys", str(keys), "plain", "input"]
    with tempfile.TemporaryDirectory() as checkpoints:
        figures.results = command(*words, *map(str, first), "checkpoints", checkpoints)
        identity = list(client.encryptions(folder, set_))[-len(first)]
        left = Path(checkpoints) / ("1.ct" if len(first) > 1 else "")  # of the first encryption
        layers = inspect_checkpoints(folder, set_, left, weights, read_picture(pictures[0]), identity)
    refreshes = [layer for layer in layers if layer.bootstrap]
    figures.bits = min(layer.bits for layer in refreshes)
    deviation = statistics.median(layer.deviation for layer in refreshes)
    say(f"set {number}, {first[0]}", figures.results[0] | {"refresh_deviation": deviation, "bits": figures.bits})
    if others:
        figures.results += command(*words, *map(str, others))
    for result in figures.results[1:]:
        say(f"set {number}", result)
    return figures


def say(what: str, figures: dict) -> None:
    print(what, json.dumps(figures), file=sys.stderr, flush=True)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    forced = os.environ.get("NUMBA_CPU_NAME")  # what compiled code is made for, if not the host
    versions = f"OpenFHE {openfhe_version()}, numba {version('numba')}, Python {platform.python_version()}"
    versions += f", compiled for {forced}" if forced else ""
    return f"{models[0]}, {len(models)} cores, {format_bytes(memory)}; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=int, nargs="+")
    parser.add_argument(
        "--engine", choices=ENGINES, default="", help="whose keys are made; the native one's where it can"
    )
    parser.add_argument("--pictures", type=Path, nargs="+", default=[Path("inputs/vale.jpg"), Path("inputs/luis.png")])
    parser.add_argument("--keys", type=lambda text: Path(text).absolute(), default=Path("keys").absolute())
    args = parser.parse_args()
    rows = [measure(number, args.engine, args.pictures, args.keys).row() for number in args.sets]
    print(machine())
    for row in (HEADINGS, ["---"] * len(HEADINGS), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
