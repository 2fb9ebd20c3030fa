"""What the page shows, pictures and their runs, shared by the thread that serves it and the one that classifies.

Whoever listens is told which of them have changed, and takes them as they are by then: nothing piles up for a tab that
is slow, and one that comes later sees the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..client.checks import Caution
from ..errors import LowmemError
from ..machine.text import one_line
from ..model.classification import Classification
from ..network.ranges import Foreseen

#: Pictures that may wait; as many are evaluated in an hour, or in a night.
MOST_WAITING = 100
#: Seconds without a new picture after which a group that is not full is evaluated.
_SETTLED = 1.0

WAITING, ENCRYPTING, EVALUATING, DECRYPTING, DONE, FAILED, STOPPED = (
    "waiting", "encrypting", "evaluating", "decrypting", "done", "failed", "stopped",
)  # fmt: skip
_RUNNING = (ENCRYPTING, EVALUATING, DECRYPTING)

#: What may change: "picture" or "run", and its number.
Key = tuple[str, int]
Told = dict[str, str]


class TooMany(LowmemError):
    """As many pictures wait as may."""

    def __init__(self) -> None:
        hint = "hand over more when some are done; of hundreds, load_keys takes a folder"
        super().__init__(f"{MOST_WAITING} pictures wait, and no more may", hint)


@dataclass
class Picture:
    """One picture, from its reading to its class.

    path: what it is called, never a file of this machine;
    pixels: (colours, width, width) in [0, 1];
    foreseen: in the plain network, where the weights are at hand;
    warnings, error: as the command line would tell them;
    id: of its encryption;
    answer, plain: its decrypted logits, and then the plain network's, where it was foreseen.
    """

    number: int
    path: Path
    pixels: np.ndarray
    foreseen: Foreseen | None
    warnings: list[Told]
    id: str = ""
    state: str = WAITING
    run: int | None = None
    error: Told | None = None
    answer: Classification | None = None
    plain: Classification | None = None

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "id": self.number,
            "name": one_line(str(self.path)),
            "state": self.state,
            "run": self.run,
            "warnings": self.warnings,
            "error": self.error,
        }
        if self.answer:
            fields |= {"class": self.answer.label, "logits": self.answer.logits}
        if self.answer and self.plain:
            fields |= {"plain_class": self.plain.label, "plain": self.plain.logits}
            fields["difference"] = self.answer.worst_difference(self.plain)
        return fields


@dataclass
class Sent:
    """What a server gets.

    count: bytes of all;
    excerpt: some of them, from ``offset`` on;
    noise: some of its numbers as a PNG.
    """

    count: int
    excerpt: bytes
    offset: int
    noise: bytes


@dataclass
class Run:
    """Pictures that are evaluated together; of most sets one alone.

    done: steps that have ended, by their place in the plan;
    now: place of the present one;
    doing: what goes on, in words;
    rest: seconds to the end, as they are estimated when it is asked for;
    seconds: by part of the protocol;
    sent: what the server got;
    received: bytes of the answer;
    stop: ends the evaluation, once there is one;
    stopped: whether that was asked for.
    """

    number: int
    pictures: list[Picture]
    done: frozenset[int] = frozenset()
    now: int | None = None
    doing: str = ""
    rest: Callable[[], float | None] = lambda: None
    seconds: dict[str, float] = field(default_factory=dict)
    sent: Sent | None = None
    received: int = 0
    stop: Callable[[], None] | None = None
    stopped: bool = False

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "id": self.number,
            "pictures": len(self.pictures),
            "done": sorted(self.done),
            "now": self.now,
            "doing": one_line(self.doing),
            "rest": self.rest(),
            "seconds": self.seconds,
            "received": self.received,
        }
        if self.sent:
            sent = self.sent
            fields["sent"] = {"bytes": sent.count, "excerpt": sent.excerpt.hex(), "offset": sent.offset}
        return fields


class Session:
    """Holds all of it.

    group: as many pictures are evaluated together.
    """

    def __init__(self, group: int) -> None:
        self._group = group
        self._pictures: dict[int, Picture] = {}
        self._runs: dict[int, Run] = {}
        self._listeners: list[Callable[[Key], None]] = []
        self._changed = threading.Condition()
        self._reading = 0
        self._settled = 0.0
        self._numbers = 0

    # --- of the thread that serves the page ---

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Have a group that is not full wait for a picture that is on its way in.  Errors: TooMany."""
        with self._changed:
            self._check_number()
            self._reading += 1
        try:
            yield
        finally:
            with self._changed:
                self._reading -= 1
                self._settled = time.monotonic() + (_SETTLED if self._group > 1 else 0)
                self._changed.notify_all()

    def add(self, path: Path, pixels: np.ndarray, foreseen: Foreseen | None, cautions: Iterable[Caution]) -> Picture:
        """Put one more picture at the end of those that wait."""
        with self._changed:
            self._numbers += 1
            picture = Picture(self._numbers, path, pixels, foreseen, [told(*caution) for caution in cautions])
            self._pictures[picture.number] = picture
            self.tell(("picture", picture.number))
            return picture

    def remove(self, number: int) -> None:
        """Forget a picture; if it is being evaluated, stop that, for all of its group.  Errors: KeyError."""
        with self._changed:
            picture = self._pictures[number]
            if picture.state in _RUNNING:
                assert picture.run is not None
                run = self._runs[picture.run]
                run.stopped = True
                if run.stop:
                    run.stop()
                return
            del self._pictures[number]
            self._let_go(picture.run)
            self.tell(("picture", number))

    def repeat(self, number: int) -> None:
        """Have a picture that failed, or was stopped, wait again.  Errors: KeyError, TooMany."""
        with self._changed:
            picture = self._pictures[number]
            if picture.state not in (FAILED, STOPPED):
                return
            self._check_number()
            former, picture.state, picture.run, picture.error = picture.run, WAITING, None, None
            self._let_go(former)
            self.tell(("picture", number))
            self._changed.notify_all()

    def picture(self, number: int) -> Picture:
        """Return a picture by its number.  Errors: KeyError."""
        return self._pictures[number]

    def run(self, number: int) -> Run:
        """Return a run by its number.  Errors: KeyError."""
        return self._runs[number]

    def listen(self, hear: Callable[[Key], None]) -> dict[str, list[dict[str, Any]]]:
        """Have ``hear`` called with all that changes from now on, from any thread; returns what there is."""
        with self._changed:
            self._listeners.append(hear)
            pictures, runs = self._pictures.values(), self._runs.values()
            return {"pictures": [p.as_json() for p in pictures], "runs": [r.as_json() for r in runs]}

    def forget(self, hear: Callable[[Key], None]) -> None:
        """Call ``hear`` no more."""
        with self._changed:
            self._listeners.remove(hear)

    def look(self, key: Key) -> tuple[str, dict[str, Any]]:
        """Return what a change has led to, as an event's name and fields."""
        kind, number = key
        with self._changed:
            found = self._runs.get(number) if kind == "run" else self._pictures.get(number)
            return (kind, found.as_json()) if found else ("gone", {"id": number, "kind": kind})

    # --- of the thread that classifies ---

    def next_run(self) -> Run:
        """Return the pictures to evaluate next, as soon as there are some, in the order they came."""
        with self._changed:
            while (wait := self._time_to_wait()) != 0:
                self._changed.wait(wait)
            self._numbers += 1
            run = Run(self._numbers, self._waiting()[: self._group])
            self._runs[run.number] = run
            for picture in run.pictures:
                picture.run = run.number
            self.enter(run, ENCRYPTING)
            return run

    def enter(self, run: Run, state: str) -> None:
        """Have all pictures of a run go on to a state."""
        with self._changed:
            for picture in run.pictures:
                self.settle(picture, state)
            self.tell(("run", run.number))

    def settle(self, picture: Picture, state: str, error: LowmemError | None = None) -> None:
        """Have one picture go on to a state."""
        with self._changed:
            picture.state = state
            if error:
                picture.error = told(error.message, error.hint)
            self.tell(("picture", picture.number))

    def tell(self, key: Key) -> None:
        """Tell whoever listens that something has changed."""
        with self._changed:
            for hear in self._listeners:
                hear(key)

    def _let_go(self, run: int | None) -> None:
        """Forget a run that no picture names any more."""
        if run and not any(picture.run == run for picture in self._pictures.values()):
            del self._runs[run]
            self.tell(("run", run))

    def _check_number(self) -> None:
        """Raise TooMany unless one more picture may wait."""
        if len(self._waiting()) >= MOST_WAITING:
            raise TooMany()

    def _waiting(self) -> list[Picture]:
        return [picture for picture in self._pictures.values() if picture.state == WAITING]

    def _time_to_wait(self) -> float | None:
        """Return the seconds until a run may begin, 0 if now; None: until something changes."""
        waiting = len(self._waiting())
        if not waiting:
            return None
        if waiting >= self._group:
            return 0
        return None if self._reading else max(self._settled - time.monotonic(), 0)


def told(message: str, hint: str) -> Told:
    """Return a warning or an error, as the page shows it."""
    return {"message": one_line(message), "hint": one_line(hint)}


def name_of(text: str) -> Path:
    """Return what a picture is called, of what a browser says: never a path."""
    return Path(text.replace("\0", "").replace("/", "\\").rpartition("\\")[2][:200] or "picture")
