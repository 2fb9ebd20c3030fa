"""Progress of another process, or machine, shown as if the work were done here.

There a :class:`RelayProgress` turns each call into a list that JSON can hold; here :func:`replay` makes the same call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any

from .display import Progress, Step

#: A call, as JSON: its name and what it was given.
Event = list[Any]


class RelayProgress(Progress):
    """Hands every call to ``write`` as an event, in order:

    ``["start", title]``, ``["expect", [[stage, name, kind, size], ...]]``, ``["step", stage, name]``, ``["ended",
    bytes]`` (a step has, and so much memory was in RAM), ``["message", text]``, ``["close"]``.
    """

    def __init__(self, write: Callable[[Event], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._write = write

    def expect(self, steps: Sequence[Step]) -> None:
        super().expect(steps)
        self._write(["expect", [list(astuple(step)) for step in steps]])

    def step(self, stage: str, name: str) -> None:
        super().step(stage, name)
        self._write(["step", stage, name])

    def message(self, text: str) -> None:
        self._write(["message", text])

    def close(self) -> None:
        super().close()
        self._write(["close"])

    def _show_start(self) -> None:
        self._write(["start", self._title])

    def _show_step(self, stage: str, name: str, seconds: float) -> None:
        self._write(["ended", self.resident()])


def replay(event: Event, progress: Progress) -> None:
    """Make the call that ``event`` stands for; what is no event of :class:`RelayProgress` is passed over."""
    match event:
        case ["start", str(title)]:
            progress.start(title)
        case ["expect", list(steps)]:
            progress.expect([step for step in map(_step, steps) if step])
        case ["step", str(stage), str(name)]:
            progress.step(stage, name)
        case ["ended", int(count)]:
            progress.resident = lambda: count
        case ["message", str(text)]:
            progress.message(text)
        case ["close"]:
            progress.close()


def _step(fields: Any) -> Step | None:
    match fields:
        case [str(stage), str(name), str(kind), int(size) | float(size)]:
            return Step(stage, name, kind, size)
    return None
