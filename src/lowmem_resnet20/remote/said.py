"""What a service says, within bounds: it may be anyone's, and nothing it says is believed unseen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ..errors import ExitCode, LowmemError, ServerError

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_STATES = (WAITING, RUNNING, DONE, FAILED, CANCELLED)
#: What a service calls the file it was sent.
THE_CIPHERTEXT = "the ciphertext"
_LONGEST_TEXT = 400
_LONGEST_RETRY_AFTER = 60
_MOST_SECONDS, _MOST_BYTES = 1e9, 1 << 60


class ServiceRefused(ServerError):
    """The service does not do what it is asked.

    status: as HTTP numbers it.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status

    @property
    def of_this_alone(self) -> bool:
        """Return whether the service does not know what it was asked for, and may well do something else."""
        return self.status == HTTPStatus.NOT_FOUND


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP answer, whole.

    status: as HTTP numbers it;
    headers: by their names in small letters;
    body: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def fields(self) -> dict[str, Any]:
        """Return its JSON object.  Errors: ServerError unless it is one."""
        return json_object(self.body)

    def pause(self) -> int:
        """Return after how many seconds the service wants to be asked again, a minute at most; 0: it does not say."""
        return min(self._retry_after(), _LONGEST_RETRY_AFTER)

    def soon(self) -> bool:
        """Return whether the service wants to be asked again within a minute, or does not say when."""
        return self._retry_after() <= _LONGEST_RETRY_AFTER

    def _retry_after(self) -> int:
        wait = self.headers.get("retry-after", "")
        return int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 0

    def said(self) -> str:
        """Return its status, and what its ``error`` says, if it does."""
        message = clean(self._told().get("error"))
        return f"{status_name(self.status)}: {message}" if message else status_name(self.status)

    def refusal(self) -> ServiceRefused:
        """Return what its ``error`` and ``hint`` say, or at least its status."""
        fields = self._told()
        message = clean(fields.get("error")) or status_name(self.status)
        return ServiceRefused(self.status, f"the service refuses: {message}", clean(fields.get("hint")))

    def _told(self) -> dict[str, Any]:
        try:
            return self.fields()
        except ServerError:
            return {}


@dataclass(frozen=True)
class JobState:
    """What a service says of a job.

    state: one of those above;
    position: in the queue, of one that waits;
    seconds, peak_bytes: what it took;
    error, hint, exit_code: why it failed.
    """

    state: str
    position: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""
    hint: str = ""
    exit_code: int = 0

    @property
    def final(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)

    def failure(self, called: str) -> dict[str, Any]:
        """Return what a server's line says of a job that failed; nothing of another.

        called: its picture, by the reader.
        """
        message = self.error.replace(THE_CIPHERTEXT, called)
        return {"error": message, "hint": self.hint, "exit_code": self.exit_code} if self.error else {}

    def failure_of(self, job: str) -> dict[str, Any]:
        """Return the same of a job that the reader knows by its name, which is told whatever the service says."""
        failure = self.failure(job)
        if failure and job not in failure["error"]:
            failure["error"] = f"{job}: {failure['error']}"
        return failure

    @classmethod
    def failed(cls, error: LowmemError) -> JobState:
        """Return the state of a job that came to this here."""
        return cls(FAILED, error=error.message, hint=error.hint, exit_code=int(error.exit_code))

    @classmethod
    def of(cls, fields: Mapping[str, Any], job: str) -> JobState:
        """Read a state.  Errors: ServerError if it is none, or another job's."""
        state = fields.get("state")
        if fields.get("job") != job or state not in _STATES:
            raise nonsense(f"the state of {job}")
        position, seconds = number(fields.get("position"), _MOST_BYTES), number(fields.get("seconds"), _MOST_SECONDS)
        told = cls(state, int(position), seconds, int(number(fields.get("peak_bytes"), _MOST_BYTES)))
        if state not in (FAILED, CANCELLED):
            return told
        error = fields.get("error")
        error = error if isinstance(error, dict) else {}
        unsaid = f"the service {'failed on' if state == FAILED else 'has cancelled'} {THE_CIPHERTEXT}"
        message, hint = clean(error.get("message")) or unsaid, clean(error.get("hint"))
        return cls(state, 0, seconds, told.peak_bytes, message, hint, _exit_code(error.get("exit_code")))


def json_object(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object.  Errors: ServerError unless ``text`` is one."""
    fields = json_value(text)
    if not isinstance(fields, dict):
        raise nonsense("an answer")
    return fields


def json_value(text: bytes | str) -> Any:
    """Return what JSON says.  Errors: ServerError unless ``text`` is JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise nonsense("an answer") from None


def clean(text: object, longest: int = _LONGEST_TEXT) -> str:
    """Return what may be shown of a text: no control characters, and not too much; nothing of what is no text."""
    if not isinstance(text, str):
        return ""
    shown = " ".join("".join(c for c in part if c.isprintable()) for part in text[: 4 * longest].split())
    return shown if len(shown) <= longest else shown[:longest] + " .."


def number(value: object, most: float) -> float:
    """Return a number from 0 to ``most``; 0 where it is none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
    return float(value) if good and isinstance(value, int | float) else 0.0


def job_name(value: object, set_number: int) -> str:
    """Return a job's name.  Errors: ServerError unless it is one of that set."""
    if not isinstance(value, str) or not re.fullmatch(rf"{set_number}-[0-9a-f]{{24}}", value):
        raise nonsense("the name of a job")
    return value


def nonsense(what: str) -> ServerError:
    return ServerError(f"the service says what cannot be understood as {what}", "is it one of this program's version?")


def status_name(status: int) -> str:
    """Return a status in words, such as ``503 Service Unavailable``."""
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


def _exit_code(value: object) -> int:
    codes = {int(code) for code in ExitCode} - {int(ExitCode.OK), int(ExitCode.INTERRUPTED)}
    return value if isinstance(value, int) and value in codes else int(ExitCode.SERVER)
