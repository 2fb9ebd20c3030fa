"""Server-sent events of a service, and the progress of its evaluation, which they tell."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..errors import ServerError
from ..progress.display import Progress
from ..progress.relay import replay
from .connection import LONGEST_LINE
from .said import clean, json_value, nonsense

#: On one connection: no run of this network has more.
_MOST_EVENTS, _MOST_STEPS = 200_000, 20_000
#: An id that can be sent back in a header.
_ID = re.compile(r"[!-~]{1,100}", re.ASCII)
_LONGEST_NAME = 60
_SMALLEST_STEP, _LARGEST_STEP, _MOST_BYTES = 1e-6, 1e9, 1 << 50
#: Seconds from the beginning of a connection in which events tell of what has been.
_CATCHING_UP = 1.0


class Event(NamedTuple):
    """A server-sent event.

    name, data: what it is called, and tells;
    id: that it can be named by, such as in a header; empty where it has none.
    """

    name: str
    data: str
    id: str = ""


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield each event of a text/event-stream.  Errors: ServerError if one is too long."""
    name, id_, size = "message", "", 0
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield Event(name, "\n".join(data), id_)
            name, data, id_, size = "message", [], "", 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(line)
        if size > LONGEST_LINE:
            raise nonsense("an event")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and _ID.fullmatch(value):
            id_ = value


class ServiceProgress:
    """Shows what a service tells of its evaluations, and what was shown last, so that a service that is asked for the
    events after ``last_id`` repeats nothing."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self.last_id = progress, ""
        self._count, self._connected = 0, 0.0

    def connect(self) -> None:
        """Note that a connection begins: at first it tells what has been."""
        self._count, self._connected = 0, time.monotonic()

    def show(self, event: Event) -> None:
        """Show an event of progress; what is none is passed over.  Errors: ServerError where they are too many."""
        self._count += 1
        if self._count > _MOST_EVENTS:
            raise nonsense("progress")
        self.last_id = event.id or self.last_id
        try:
            replay(_checked(json_value(event.data)), self._progress)
        except ServerError:
            return
        if time.monotonic() - self._connected < _CATCHING_UP:
            self._progress.forget_paces()


def _checked(event: Any) -> list[Any]:
    """Return the event with texts and numbers that can be shown; an empty one, which is none, for any other.

    The display is closed by whoever opened it.
    """
    match event:
        case ["start", str(title)]:
            return ["start", clean(title)]
        case ["expect", list(steps)] if len(steps) <= _MOST_STEPS:
            return ["expect", [step for step in map(_step, steps) if step]]
        case ["step", str(stage), str(name)]:
            return ["step", clean(stage, _LONGEST_NAME), clean(name, _LONGEST_NAME)]
        case ["ended", int(count)] if 0 <= count < _MOST_BYTES:
            return ["ended", int(count)]
        case ["message", str(text)]:
            return ["message", clean(text)]
    return []


def _step(fields: Any) -> list[Any]:
    match fields:
        case [str(stage), str(name), str(kind), int(size) | float(size)]:
            if _SMALLEST_STEP < size < _LARGEST_STEP:
                names = (clean(text, _LONGEST_NAME) for text in (stage, name, kind))
                return [*names, float(size)]
    return []
