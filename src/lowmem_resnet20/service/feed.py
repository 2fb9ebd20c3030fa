"""Tells those who watch a job what becomes of it: the threads that evaluate on one side, event streams on the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from ..progress.relay import Event


class Run:
    """One process's progress so far, for all jobs that it evaluates together."""

    def __init__(self, jobs: Collection[str]) -> None:
        self.jobs = frozenset(jobs)
        self.events: list[Event] = []


class Feed:
    """News are told by waking who listens; what they are, it looks up.  May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.closed = False

    def begin(self, jobs: Collection[str]) -> Run:
        run = Run(jobs)
        with self._lock:
            self._runs |= dict.fromkeys(jobs, run)
        self.news()
        return run

    def progress(self, run: Run, event: Event) -> None:
        run.events.append(event)
        self.news()

    def end(self, run: Run) -> None:
        with self._lock:
            self._runs = {job: other for job, other in self._runs.items() if other is not run}
        self.news()

    def run_of(self, job: str) -> Run | None:
        """The present one."""
        with self._lock:
            return self._runs.get(job)

    def news(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for loop, event in listeners:
            with suppress(RuntimeError):  # its loop has been closed
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """Streams end: the service does."""
        self.closed = True
        self.news()

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that is set when there are news."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener[1]
        finally:
            with self._lock:
                self._listeners.discard(listener)
