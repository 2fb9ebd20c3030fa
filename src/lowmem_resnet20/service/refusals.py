"""What the service answers where it does not do what was asked: a status, a message and a hint."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping

from ..errors import EnvironmentFault, LowmemError
from ..machine.faults import explain

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Refused(Exception):
    """Becomes the answer to a request.

    status: HTTP's number;
    headers: sent beside it.
    """

    def __init__(self, status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.headers = status, message, hint, dict(headers or {})


def unknown(what: str) -> Refused:
    return Refused(404, f"there is no {what} here")


def disk_full(message: str) -> Refused:
    return Refused(507, message, "delete jobs or keys that are done with, or try again later", {"Retry-After": "60"})


def refusal_of(error: Exception) -> Refused:
    """Return what an error met on the way amounts to: of what was sent, 422; of a full disk, 507; of the machine, and
    of the queue, also where the disk is full, 503; of this program, 500."""
    cause = error.__cause__ if isinstance(error, EnvironmentFault) else error
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return disk_full("the service's disk is full")
    if isinstance(error, OSError | sqlite3.Error) or isinstance(explain(error), EnvironmentFault):
        return Refused(503, "the service's machine has a fault: its log says more", headers={"Retry-After": "60"})
    if isinstance(error, LowmemError):
        return Refused(422, error.message, error.hint)
    return Refused(500, "the service has met a fault of its own: its log says more")
