#!/usr/bin/env python
"""Time, memory, sizes and error of every parameter set at full size, all measured in the same way.

    scripts/measure.py --all [--resume]          every row, the shortest first; about an hour
    scripts/measure.py --only 5 6-avx2 7-openfhe

A row is a set with an engine: 1 to 4 are OpenFHE's, 5 to 7 are native, 6-avx2 is native without AVX-512.  Its keys are
made in a folder below ``--work`` and removed before the next row's; of native rows the kernels are compiled before,
into that folder too.  A picture is encrypted, evaluated and decrypted by the three commands that two machines use, by
sets of groups eight pictures together.  Its time is that of the server's process from start to end: the median of
three, of a set that takes more than two minutes of one (``--runs`` says otherwise), of a group an eighth.

Nothing else should run: the script waits a minute for that and then ends, and notes what others took of the processors
(``--anyway`` goes on).  What is set in the environment for threads and vectors is left out.

After each row scripts/measurements.json is written and the tables in the texts.  A call adds to the rows that are there
if code, weights, machine and versions are the same, otherwise those go; ``--all`` begins anew, but with ``--resume``
rows that are there are kept, so a call that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NoReturn

import quiet
from lowmem_resnet20.files.keystore import SERVER
from lowmem_resnet20.machine.variables import AVX2, THREADS, VECTORS
from lowmem_resnet20.network.engines import NATIVE, OPENFHE
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.progress.display import format_bytes
from measurements import FILE, ROOT, record, rows_of
from origin import OF_AN_EVALUATION, Origin, stamp

SECTION = "sets"
#: Classified by every set; by one of groups the first so many.
PICTURES = ("vale.jpg", *(f"{name}.png" for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog")))
#: Of an evaluation that takes longer one is enough, of others so many.
LONG_SECONDS, RUNS = 120, 3
#: Seconds to wait for others to end.
PATIENCE = 60
#: Part of the processors from which on others have disturbed a row.
DISTURBED = 0.05
#: Left out of the environment: what would have a row measured otherwise.
SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", THREADS, VECTORS)


@dataclass(frozen=True)
class Row:
    """What is measured.  minutes, gibibytes: about what it takes of time, on two cores, and of disk; compiled_for: what
    kernels are compiled for, if not for this processor, by these settings."""

    name: str
    number: int
    engine: str
    minutes: float
    gibibytes: float
    compiled_for: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


ROWS = {
    row.name: row
    for row in (
        Row("1", 1, OPENFHE, 7, 9),
        Row("2", 2, OPENFHE, 8.5, 9),
        Row("3", 3, OPENFHE, 8, 11),
        Row("4", 4, OPENFHE, 7, 6),
        Row("5", 5, NATIVE, 4.5, 1),
        Row("6", 6, NATIVE, 3.5, 3),
        Row("7", 7, NATIVE, 3.5, 3),
        Row("6-avx2", 6, NATIVE, 4, 3, "AVX2 only", {VECTORS: AVX2}),
        Row("5-openfhe", 5, OPENFHE, 5, 5),
        Row("6-openfhe", 6, OPENFHE, 5, 6),
        Row("7-openfhe", 7, OPENFHE, 11, 7),
    )
}


class Bench:
    """A row's folder, and the program run in it."""

    def __init__(self, row: Row, folder: Path) -> None:
        self.row, self.folder = row, folder
        inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        self.environment = inherited | {"XDG_CACHE_HOME": str(folder / "cache")} | dict(row.settings)

    def command(self, word: str, *words: object) -> list[dict[str, Any]]:
        """A command of the program, with the row's set and keys; its lines of JSON."""
        line = [sys.executable, "-m", "lowmem_resnet20", word, str(self.row.number), *map(str, words)]
        line += ["keys", str(self.folder), "json", "verbose", "-1"]
        done = subprocess.run(line, stdout=subprocess.PIPE, env=self.environment, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def compile_kernels(self) -> float | None:
        """Seconds of the first process on a machine; None of a row that has no kernels."""
        if self.row.engine != NATIVE:
            return None
        started = time.monotonic()
        program = "from lowmem_resnet20.native.readiness import make_ready; make_ready(lambda: None)"
        subprocess.run([sys.executable, "-c", program], env=self.environment, check=True)
        return time.monotonic() - started


def measure(row: Row, folder: Path, runs: int | None) -> dict[str, Any]:
    """The row's figures.  folder: empty; for keys and ciphertexts."""
    bench, taken, watch = Bench(row, folder), stamp(), quiet.Watch()
    compiling = bench.compile_kernels()
    [keys] = bench.command("generate_keys", "engine", row.engine)
    server = folder / f"exp{row.number}" / SERVER
    figures: dict[str, Any] = {"set": row.number, "engine": row.engine, "compiled_for": row.compiled_for}
    figures["compiling"] = compiling
    figures["keys"] = {name: keys[name] for name in ("seconds", "peak_bytes")}
    figures["keys"]["server_bytes"] = sum(path.stat().st_size for path in server.iterdir())
    figures |= classify(bench, runs)
    return figures | {"others": round(watch.share(), 4)} | taken


def classify(bench: Bench, runs: int | None) -> dict[str, Any]:
    """Pictures by way of the three commands, evaluated so many times."""
    set_ = parameter_set(bench.row.number, bench.row.engine)
    pictures = [ROOT / "inputs" / name for name in PICTURES[: set_.pictures]]
    encrypted, result = bench.folder / "pictures", bench.folder / "result.ct"
    encrypted.mkdir()
    bench.command("encrypt", "input", *pictures, "output", encrypted)
    [upload] = encrypted.iterdir()
    evaluations: list[dict[str, Any]] = []
    while not evaluations or len(evaluations) < (runs or runs_for(evaluations[0]["seconds"])):
        evaluations += bench.command("evaluate", upload, "output", result)
    answers = bench.command("decrypt", result, "input", *pictures, "plain")
    return {
        "pictures": len(answers),
        "runs": [evaluation["seconds"] for evaluation in evaluations],
        "peak_bytes": max(evaluation["peak_bytes"] for evaluation in evaluations),
        "upload_bytes": upload.stat().st_size,
        "download_bytes": result.stat().st_size,
        "worst_difference": max(answer["plain"]["worst_difference"] for answer in answers),
        "as_plain": sum(answer["class"] == answer["plain"]["class"] for answer in answers),
    }


@contextmanager
def bench_folder(work: Path) -> Iterator[Path]:
    """For one row, gone after it; what a call that was killed left there is removed before."""
    folder = work / "lowmem-resnet20-measured"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def runs_for(seconds: float) -> int:
    """Return how many evaluations are made of those that take so long."""
    return 1 if seconds > LONG_SECONDS else RUNS


def fail(message: str, hint: str) -> NoReturn:
    sys.exit(f"measure.py: error: {message}\nhint: {hint}")


def check_space(work: Path, chosen: Sequence[Row]) -> None:
    """Room for the largest row: its keys are gone before the next one's are made."""
    needed, free = max(row.gibibytes for row in chosen) + 1, shutil.disk_usage(work).free
    if free < needed * (1 << 30):
        fail(f"{work} has {format_bytes(free)}, and the rows need {needed:.0f} GiB", "name another folder: --work DIR")


def check_quiet(anyway: bool) -> None:
    busy = quiet.wait(PATIENCE)
    if busy and not anyway:
        named = ", ".join(f"{name} {share:.0%} of a core" for name, share in busy.items())
        fail(f"the machine does something else: {named}", "end it, and go on with --resume; or measure --anyway")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every row")
    which.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--resume", action="store_true", help="leave out the rows that are there")
    parser.add_argument("--runs", type=int, help="evaluations of each row")
    parser.add_argument("--work", type=Path, default=Path(gettempdir()), metavar="DIR", help="where keys are made")
    parser.add_argument("--anyway", action="store_true", help="on a machine that does something else too")
    given = parser.parse_args(argv)
    origin = Origin.here(OF_AN_EVALUATION)
    done = rows_of(SECTION, origin) if given.resume or given.only else {}
    chosen = [ROWS[name] for name in given.only or ROWS if not (given.resume and name in done)]
    if not chosen:
        say("every row is there")
        return
    check_space(given.work, chosen)
    say(f"about {sum(row.minutes for row in chosen):.0f} minutes on two cores; {origin.machine}")
    for row in sorted(chosen, key=lambda row: row.minutes):
        check_quiet(given.anyway)
        say(f"{row.name}: about {row.minutes:g} minutes")
        with bench_folder(given.work) as folder:
            figures = measure(row, folder, given.runs)
        done[row.name] = figures
        record(SECTION, origin, done)
        say(f"{row.name}: {json.dumps(figures)}")
        if figures["others"] > DISTURBED:
            say(f"warning: other processes took {figures['others']:.0%} of the processors meanwhile: measure it again")
    say(f"written: {FILE} and the tables in the texts")


if __name__ == "__main__":
    main()
