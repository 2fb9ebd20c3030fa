"""The server's process: reads what it is asked from standard input, evaluates, and answers in lines of JSON.

``{"progress": event}`` as it goes on (see :mod:`..progress.relay`); at the end ``{"job": number, ...}`` for each
picture, and ``{"steps": [...]}`` for those all took; ``{"error": message, ...}`` where it cannot evaluate at all.
OpenFHE may end the process on what a client sent; whoever started this one then says so in a line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ..errors import EnvironmentFault, ExitCode, told
from ..machine.faults import explain, trace
from ..machine.interrupt import ends_at_once, wait_if_ending
from ..machine.memory import peak_resident_bytes
from ..machine.text import labelled
from ..progress.display import Progress
from ..progress.relay import RelayProgress
from .request import Evaluation
from .server import Server

_LONGEST_REQUEST = 1 << 26
#: What evaluates: returns of each picture, in their order, what is printed of it.
Where = Callable[[Evaluation, Progress], list[dict[str, Any]]]


def evaluate(request: Evaluation, where: Where) -> None:
    """Print a line of JSON for each picture, by the number of its job, and one for the steps that all took."""
    with RelayProgress(lambda event: _say({"progress": event})) as progress:
        lines = where(request, progress)
    for number, line in enumerate(lines):
        _say({"job": number} | line)
    _say({"steps": progress.times})


def here(request: Evaluation, progress: Progress) -> list[dict[str, Any]]:
    """Evaluate in this process; returns of each picture its seconds, this process's peak_bytes, and its error."""
    with Server(request.folder, request.weights, progress, set_=request.set_number, anyway=request.anyway) as server:
        for message, hint in server.warnings:
            print(labelled("warning:", message, hint), file=sys.stderr, flush=True)
        outcomes = server.evaluate_files(request.jobs, resume=request.resume)
    peak_bytes = peak_resident_bytes()
    return [
        {"seconds": outcome.seconds, "peak_bytes": peak_bytes} | (told(outcome.error) if outcome.error else {})
        for outcome in outcomes
    ]


def main(where: Where = here) -> int:
    """Answer what standard input asks; the exit code tells whether the evaluation as a whole was done."""
    with ExitStack() as held:
        try:
            held.enter_context(ends_at_once())  # for which the system may have no thread
            evaluate(_asked(), where)
        except Exception as error:  # noqa: BLE001 - whoever started this process tells the user
            wait_if_ending()
            print(trace(error), end="", file=sys.stderr)
            known = explain(error)
            _say(told(known))
            return known.exit_code
    return ExitCode.OK


def _asked() -> Evaluation:
    """Read the request.  Errors: EnvironmentFault if there is none."""
    try:
        return Evaluation.from_json(sys.stdin.read(_LONGEST_REQUEST))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EnvironmentFault(f"the server was not given a request: {error}") from error


def _say(fields: dict[str, Any]) -> None:
    print(json.dumps(fields, allow_nan=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
