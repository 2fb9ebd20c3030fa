"""The service that a request names, and the commands that take up, or end, what is left there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PROGRAM
from ..progress.display import Progress
from .output import Printer
from .words import COMMANDS, DEFAULT_KEYS, DEFAULT_PICTURE, OPTIONS, Request

if TYPE_CHECKING:
    from ..remote.connecting import Access


def access(request: Request, printer: Printer) -> Access:
    """Return the request's service."""
    from ..remote.connecting import Access

    def say(text: str, progress: Progress) -> None:
        if request.verbose >= 0 or "fetch later" in text:
            progress.pass_on(text + "\n", printer.stderr)

    return Access(request.server, request.token, say, partial(fetch_words, request), partial(cancel_words, request))


def fetch_words(request: Request, jobs: Sequence[str]) -> str:
    """Return the command that fetches the results of a request's jobs and tells what the request would have."""
    words = ["fetch", *_named(request, jobs)]
    keys = request.keys if request.keys != DEFAULT_KEYS else None
    for word, path in (("weights", request.weights), ("card", request.card), ("keys", keys)):
        words += [word, _written(path)] if path else []
    if request.plain:
        words += ["plain", *(["resize"] if request.resize else [])]
        words += ["input", *map(_written, request.inputs or (DEFAULT_PICTURE,))]
    return shlex.join([PROGRAM, *words, *(["json"] if request.json else [])])


def cancel_words(request: Request, jobs: Sequence[str]) -> str:
    """Return the command that ends a request's jobs."""
    return shlex.join([PROGRAM, "cancel", *_named(request, jobs)])


def _named(request: Request, jobs: Sequence[str]) -> list[str]:
    token = request.token if request.token is None or request.token.is_file() else Path("FILE")  # a pipe is gone then
    return [*jobs, "server", request.server, *(["token", _written(token)] if token else [])]


def _written(path: Path) -> str:
    """Write a file's name that is also a word, or begins as an option of other programs, so that it is taken as one."""
    name = str(path)
    words = {*OPTIONS, *(word for command in COMMANDS for word in command.split())}
    return f"./{name}" if name in words or name.startswith("-") else name
