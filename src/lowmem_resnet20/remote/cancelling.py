"""Jobs at a service that nobody wants any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..network.parameters import ParameterSet
from ..progress.display import SilentProgress
from .connecting import Access
from .connection import Patience
from .jobs import RemoteJobs
from .said import JobState, ServiceRefused


def cancel(
    access: Access, set_: ParameterSet, jobs: Sequence[str], patience: Patience | None = None
) -> list[dict[str, Any]]:
    """End those of the jobs that are not over; return of each ``job`` and its ``state`` then, or ``error``,
    ``hint`` and ``exit_code`` of one that the service does not know.

    Errors: as of the connection.
    """
    with access.connect(SilentProgress(), patience) as connection:
        there = RemoteJobs(connection, set_, SilentProgress())
        return [_cancelled(there, name) for name in dict.fromkeys(jobs)]


def _cancelled(jobs: RemoteJobs, name: str) -> dict[str, Any]:
    try:
        return {"job": name, "state": jobs.cancel(name)}
    except ServiceRefused as error:
        if not error.of_this_alone:
            raise
        return {"job": name} | JobState.failed(error).failure_of(name)
