"""Tells those who watch a job what becomes of it: the threads that evaluate on one side, event streams on the other."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from ..progress.relay import Event


class RunEvents:
    """What one process has told of its progress so far, for all jobs that it evaluates together.

    jobs: their names;
    name: no other has it, of this service or one before it;
    events: in order.
    """

    def __init__(self, jobs: Collection[str]) -> None:
        self.jobs, self.name = frozenset(jobs), secrets.token_hex(8)
        self.events: list[Event] = []

    def id_of(self, count: int) -> str:
        """Return the id of the event that so many are told with."""
        return f"{self.name}-{count}"

    def told_with(self, last_id: str) -> int:
        """Return how many events were told up to the one of that id; 0 where it is another process's, or none."""
        name, _, count = last_id.rpartition("-")
        known = name == self.name and re.fullmatch("[0-9]{1,9}", count, re.ASCII)
        return min(int(count), len(self.events)) if known else 0


class Feed:
    """Tells news by waking who listens; what they are, it looks up.  May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, RunEvents] = {}
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.closed = False

    def begin(self, jobs: Collection[str]) -> RunEvents:
        run = RunEvents(jobs)
        with self._lock:
            self._runs |= dict.fromkeys(jobs, run)
        self.news()
        return run

    def progress(self, run: RunEvents, event: Event) -> None:
        run.events.append(event)
        self.news()

    def end(self, run: RunEvents) -> None:
        with self._lock:
            self._runs = {job: other for job, other in self._runs.items() if other is not run}
        self.news()

    def run_of(self, job: str) -> RunEvents | None:
        """Return the present one, if the job is being evaluated."""
        with self._lock:
            return self._runs.get(job)

    def news(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for loop, event in listeners:
            with suppress(RuntimeError):  # its loop has been closed
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End all streams: the service ends."""
        self.closed = True
        self.news()

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set when there are news."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener[1]
        finally:
            with self._lock:
                self._listeners.discard(listener)
