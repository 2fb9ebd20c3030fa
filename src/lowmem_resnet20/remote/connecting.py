"""The connection that a request's words ask for, and what is said of jobs that are left where they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..cli.output import Printer
from ..cli.words import COMMANDS, DEFAULT_KEYS, DEFAULT_PICTURE, OPTIONS, PROGRAM, Request
from ..errors import LowmemError
from ..machine.interrupt import on_interrupt
from ..progress.display import Progress
from ..progress.streams import shows_more_than_text
from .address import address_of
from .connection import Connection, Patience
from .said import Refused

_FIRST_COLUMN = "\r\x1b[K"


def connect(
    request: Request,
    progress: Progress,
    printer: Printer,
    patience: Patience | None = None,
) -> Connection:
    """To the request's ``server``; nothing is sent yet.

    Errors: UsageError and EnvironmentFault for an address or a token that will not do.
    """

    def say(text: str) -> None:
        if request.verbose >= 0:
            progress.pass_on(text + "\n", printer.stderr)

    return Connection(address_of(request.server, request.token), say, patience)


class Later:
    """Says how to fetch the results of jobs that stay at the service."""

    def __init__(self, request: Request, printer: Printer) -> None:
        self._request, self._printer = request, printer

    @contextmanager
    def telling(self, posted: Callable[[], list[str]], left: Callable[[], list[str]]) -> Iterator[None]:
        """Inside this context: on Ctrl-C, which leaves nothing here, of all jobs that are ``posted``, in a line of its
        own; in the hint of an error of those that are ``left``, for which results have not come."""
        with on_interrupt(lambda: self._say(posted())):
            try:
                yield
            except LowmemError as error:
                jobs = left()
                if jobs and not (isinstance(error, Refused) and error.of_this_alone):
                    later = f"fetch later what is evaluated there: {fetch_words(self._request, jobs)}"
                    error.hint = "; ".join(filter(None, (error.hint, later)))
                raise

    def _say(self, jobs: Sequence[str]) -> None:
        """In place of a live line, if there is one."""
        if jobs:
            stay = "the jobs stay" if len(jobs) > 1 else "the job stays"
            start = _FIRST_COLUMN if shows_more_than_text(self._printer.stderr) else ""
            self._printer.say(f"{start}{stay} at the service; fetch later: {fetch_words(self._request, jobs)}")


def fetch_words(request: Request, jobs: Sequence[str]) -> str:
    """The command that fetches the results of a request's jobs and tells what the request would have."""
    words = ["fetch", *_named(request, jobs)]
    keys = request.keys if request.keys != DEFAULT_KEYS else None
    for word, path in (("weights", request.weights), ("keys", keys)):
        words += [word, _written(path)] if path else []
    if request.plain:
        words += ["plain", *(["resize"] if request.resize else [])]
        words += ["input", *map(_written, request.inputs or (DEFAULT_PICTURE,))]
    return shlex.join([PROGRAM, *words, *(["json"] if request.json else [])])


def cancel_words(request: Request, jobs: Sequence[str]) -> str:
    """The command that ends a request's jobs."""
    return shlex.join([PROGRAM, "cancel", *_named(request, jobs)])


def _named(request: Request, jobs: Sequence[str]) -> list[str]:
    token = ["token", _written(request.token)] if request.token else []
    return [*jobs, "server", request.server, *token]


def _written(path: Path) -> str:
    """As a file's name is written that is also a word, or begins as an option of other programs."""
    name = str(path)
    return f"./{name}" if name in COMMANDS or name in OPTIONS or name.startswith("-") else name
