"""The server's process: reads what it is asked from standard input, evaluates, and answers in lines of JSON.

``{"progress": event}`` as it goes on (see :mod:`..progress.relay`); at the end ``{"job": number, ...}`` for each
picture, and ``{"steps": [...]}`` for those all took; ``{"error": message, ...}`` where it cannot evaluate at all.
OpenFHE may end the process on what a client sent; whoever started this one then says so in a line.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ..cli import endings
from ..cli.output import Printer
from ..errors import EnvironmentFault, LowmemError, Reported, told
from ..files.keystore import SERVER, keys_set
from ..machine.memory import peak_resident_bytes
from ..network.weights import default_weights_path, load_weights
from ..progress.display import Progress
from ..progress.relay import RelayProgress
from .request import Evaluation

_LONGEST_REQUEST = 1 << 26


def evaluate(request: Evaluation, printer: Printer) -> None:
    """Evaluate; prints a line of JSON for each picture, by the number of its job, and one for the steps all took."""
    with RelayProgress(lambda event: printer.json({"progress": event})) as progress:
        lines = _on_cluster(request, progress) if request.ray else _here(request, progress)
    for number, line in enumerate(lines):
        printer.json({"job": number} | line)
    printer.json({"steps": progress.times})


def _here(request: Evaluation, progress: Progress) -> list[dict[str, Any]]:
    from ..server import server

    set_, weights = (
        keys_set(request.folder / SERVER, request.set_number),
        load_weights(request.weights or default_weights_path()),
    )
    if not request.anyway:
        server.check_memory(set_)
    outcomes = server.evaluate(request.folder, set_, request.jobs, weights, progress, resume=request.resume)
    peak_bytes = peak_resident_bytes()
    return [
        {"seconds": outcome.seconds, "peak_bytes": peak_bytes} | (told(outcome.error) if outcome.error else {})
        for outcome in outcomes
    ]


def _on_cluster(request: Evaluation, progress: Progress) -> list[dict[str, Any]]:
    from ..cluster.evaluation import evaluate_on_cluster

    return evaluate_on_cluster(request, progress)


def main() -> int:
    """The exit code tells whether the evaluation as a whole was done; what became of each picture, its line."""
    printer = Printer(sys.stdout, sys.stderr)
    return endings.run(partial(_answer, printer), printer)


def _answer(printer: Printer) -> None:
    try:
        request = Evaluation.from_json(sys.stdin.read(_LONGEST_REQUEST))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EnvironmentFault(f"the server was not given a request: {error}") from error
    try:
        evaluate(request, printer)
    except LowmemError as error:  # whoever started this process tells the user
        printer.json(told(error))
        raise Reported(error.exit_code) from error


if __name__ == "__main__":
    sys.exit(main())
