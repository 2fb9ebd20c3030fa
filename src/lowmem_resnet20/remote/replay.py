"""Events of a service: progress of its evaluation, shown once, however often the connection begins anew."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ServerError
from ..progress.display import Progress
from ..progress.relay import replay
from .connection import LONGEST_LINE
from .said import clean, json_value, nonsense

#: Of one run: more is no run of this network.
_MOST_EVENTS, _MOST_STEPS = 200_000, 20_000
#: Events before which any two runs have differed: in the memory that a step took, at the latest.
_MOST_PASSED_OVER = 16
_LONGEST_NAME = 60
_SMALLEST_STEP, _LARGEST_STEP, _MOST_BYTES = 1e-6, 1e9, 1 << 50
#: Seconds from the beginning of a connection in which events tell of what has been.
_CATCHING_UP = 1.0


def events(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and data of each event in a text/event-stream.  Errors: ServerError if one is too long."""
    name, size = "message", 0
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data, size = "message", [], 0
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


class Replay:
    """Progress of runs, each of which is told from its beginning on every connection.

    What a connection repeats of the run that was shown last is passed over.  Where it differs, it is another run: then
    what was passed over of it is shown after all.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seen: list[int] = []
        self._passed_over: list[str] = []
        self._at, self._connected = 0, 0.0

    def connect(self) -> None:
        """A connection begins."""
        self._passed_over, self._at, self._connected = [], 0, time.monotonic()

    def forget(self) -> None:
        """The next run is another, however alike it begins."""
        self._passed_over, self._at = [], 0
        self._seen.clear()

    def event(self, data: str) -> None:
        digest = hash(data)
        repeated = self._at < len(self._seen) and self._seen[self._at] == digest
        if not repeated:
            another = self._at < len(self._seen)
            for passed_over in self._passed_over if another else ():
                self._show(passed_over)
            self._passed_over = []
            del self._seen[self._at :]
            self._seen.append(digest)
            self._show(data)
        elif len(self._passed_over) < _MOST_PASSED_OVER:
            self._passed_over.append(data)
        self._at += 1
        if self._at > _MOST_EVENTS:
            raise nonsense("progress")

    def _show(self, data: str) -> None:
        try:
            event = _checked(json_value(data))
        except ServerError:
            return
        replay(event, self._progress)
        if time.monotonic() - self._connected < _CATCHING_UP:
            self._progress.forget_paces()


def _checked(event: Any) -> list[Any]:
    """The event with texts that can be shown and numbers that can be; an empty one, which is none, for any other.

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
