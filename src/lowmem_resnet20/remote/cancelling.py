"""Jobs at a service that nobody wants any more."""

from __future__ import annotations

from typing import Any

from ..cli.output import Printer
from ..cli.words import Request
from ..network.parameters import ParameterSet
from ..progress.display import SilentProgress
from .connecting import connect
from .connection import Patience
from .jobs import Jobs
from .said import JobState, Refused


def cancel(
    request: Request, set_: ParameterSet, jobs: list[str], printer: Printer, patience: Patience | None = None
) -> list[dict[str, Any]]:
    """End those of a request's jobs that are not over; returns of each ``job`` and its ``state`` then, or ``error``,
    ``hint`` and ``exit_code`` of one that the service does not know.

    Errors: as of the connection.
    """
    with connect(request, SilentProgress(), printer, patience) as connection:
        there = Jobs(connection, set_, SilentProgress())
        return [_cancelled(there, name) for name in dict.fromkeys(jobs)]


def _cancelled(jobs: Jobs, name: str) -> dict[str, Any]:
    try:
        return {"job": name, "state": jobs.cancel(name)}
    except Refused as error:
        if not error.of_this_alone:
            raise
        return {"job": name} | JobState.failed(error).failure(name)
