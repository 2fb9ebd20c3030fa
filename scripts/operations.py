#!/usr/bin/env python
"""Where the time of an evaluation goes, by kind of operation: refresh, products, encoding, rotations, loading.

    scripts/operations.py PICTURE SET [SET ...] [--keys DIR]

The server's module runs in this process, with every operation of its evaluator timed.  Minutes for each set, whose keys
must be there; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from lowmem_resnet20 import client, server
from lowmem_resnet20.fhe.openfhe_evaluator import OpenfheEvaluator
from lowmem_resnet20.job import Job
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from lowmem_resnet20.terminal.progress import SilentProgress

#: The kind of each of the evaluator's methods that takes time.
KINDS = {
    "bootstrap": "refresh",
    "bootstrap_function": "refresh",
    "chebyshev": "Chebyshev ReLU",
    "products": "products",
    "_encode": "encoding",
    "rotate": "rotations",
    "enter_stage": "loading",
    "lower": "rescaling",
    "add": "additions",
    "add_vector": "additions",
}


class TimedEvaluator(OpenfheEvaluator):
    """Counts the seconds and calls of each kind; an operation inside another counts for itself alone."""

    seconds: ClassVar[Counter[str]] = Counter()
    calls: ClassVar[Counter[str]] = Counter()

    def __init__(self, set_: ParameterSet, context: Any, load_stage: Callable[[int], None]) -> None:
        super().__init__(set_, context, load_stage)
        for method, kind in KINDS.items():
            setattr(self, method, self._timed(getattr(self, method), kind))
        self._inner = [0.0]

    def _timed(self, function: Callable, kind: str) -> Callable:
        def timed(*args: Any) -> Any:
            self._inner.append(0.0)
            started = time.monotonic()
            result = function(*args)
            elapsed = time.monotonic() - started
            self.seconds[kind] += elapsed - self._inner.pop()
            self.calls[kind] += 1
            self._inner[-1] += elapsed
            return result

        return timed


def measure(set_: ParameterSet, folder: Path, picture: Path) -> dict[str, tuple[float, int]]:
    """Seconds and number of calls by kind, and of the whole."""
    weights = load_weights(default_weights_path())
    TimedEvaluator.seconds, TimedEvaluator.calls = Counter(), Counter()
    with tempfile.TemporaryDirectory() as temporary:
        job = Job(Path(temporary) / "picture.ct", Path(temporary) / "result.ct")
        client.encrypt_picture(folder, set_, read_picture(picture), weights, job.ciphertext, str(picture))
        started = time.monotonic()
        [outcome] = server.evaluate(folder, set_, [job], weights, SilentProgress(), evaluator_type=TimedEvaluator)
        total = time.monotonic() - started
    if outcome.error:
        raise outcome.error
    seconds, calls = TimedEvaluator.seconds, TimedEvaluator.calls
    rest = total - sum(seconds.values())
    return {kind: (seconds[kind], calls[kind]) for kind in dict.fromkeys(KINDS.values())} | {
        "checking keys, files": (rest, 1),
        "in all": (total, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("sets", type=int, nargs="+")
    parser.add_argument("--keys", type=Path, default=Path("keys"))
    args = parser.parse_args()
    figures = {}
    for number in args.sets:
        figures[number] = measure(parameter_set(number), args.keys / f"exp{number}", args.picture)
    table = Table("operation", *(f"set {number}: {part}" for number in figures for part in ("s", "calls")))
    for kind in figures[args.sets[0]]:
        cells = (cell for f in figures.values() for cell in (f"{f[kind][0]:.1f}", str(f[kind][1])))
        table.add_row(kind, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
