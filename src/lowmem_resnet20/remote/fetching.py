"""Results of jobs that were left at a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CiphertextError
from ..network.parameters import ParameterSet
from ..progress.display import Progress
from .connecting import Access
from .jobs import RemoteJobs
from .said import JobState, ServiceRefused


def fetch(
    access: Access, set_: ParameterSet, jobs: Sequence[str], folder: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Wait for the end of each job, and take its result; return of each ``job`` and ``output``, its
    file in ``folder``, or ``error``, ``hint`` and ``exit_code`` of one that failed.

    If this process is interrupted, or the service stays away, a line says how to fetch them later.

    Errors: as of the connection.
    """
    names = list(dict.fromkeys(jobs))
    with access.connect(progress) as connection, access.telling(lambda: names, lambda: names, progress):
        progress.start(f"at {connection.address.url}")
        there = RemoteJobs(connection, set_, progress)
        return [_fetched(there, name, folder / f"{name}.ct") for name in names]


def _fetched(jobs: RemoteJobs, name: str, output: Path) -> dict[str, Any]:
    try:
        state = jobs.finish(name, output)
    except CiphertextError as error:
        state = JobState.failed(error)
    except ServiceRefused as error:
        if not error.of_this_alone:
            raise
        state = JobState.failed(error)
    return {"job": name, "output": output} | state.failure_of(name)
