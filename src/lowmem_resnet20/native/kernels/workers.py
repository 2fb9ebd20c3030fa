"""Work shared out among threads.

Kernels release Python's lock and take their jobs one by one from a counter, so that a thread that another process
disturbs does less.  Every job writes what no other touches: results do not depend on the number of threads.

What a kernel reads and writes, Python finds out beforehand, in a sixth of the time that two threads then take.  So that
they don't stand still meanwhile, calls may wait in line; none begins before the one before it is done, but for calls
that are made together, of which a thread begins the next while another is at the last jobs of the one before."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import jobs
from .memory import aligned

#: Calls that may wait while the next one is prepared: measured; each holds the memory of its operands.
AHEAD = 3
#: Seconds between looks at what another thread is still at, once it has taken longer than a job should.
_PATIENCE = 50e-6


class _Call(NamedTuple):
    """A kernel's jobs, for :mod:`.jobs`' counter; held: what is in the memory that arguments are addresses of; beside:
    whether it may begin before the one before it is done."""

    kernel: Callable[..., None]
    counter: NDArray[np.int64]
    jobs: int
    arguments: tuple[Any, ...]
    held: Any
    beside: bool

    def done(self) -> bool:
        return bool(self.counter[1] >= self.jobs)

    def work(self, scratch: NDArray) -> None:
        """Do jobs until all are taken."""
        if self.counter[0] < self.jobs:
            try:
                self.kernel(self.counter, self.jobs, scratch, *self.arguments)
            except Exception:  # what was not done never will be; Ctrl-C comes before or after, not between
                self.counter[:2] = self.jobs
                raise

    def wait(self) -> None:
        """Until all are done."""
        if not self.done():
            jobs.wait(self.counter)
        while not self.done():
            time.sleep(_PATIENCE)


class Workers:
    """``count`` threads, the caller's among them, each with scratch memory of its own.

    scratch: float64 elements that each thread's kernels may use.
    ahead: how many calls may wait when :meth:`run` returns; 0 for none.  While the caller's thread finds out what comes
    next, the others work on these.
    """

    def __init__(self, count: int, scratch: int) -> None:
        self.ahead = 0
        self._beside: bool | None = None
        self._scratch = aligned(scratch)
        self._waiting: deque[_Call] = deque()
        self._lines: list[SimpleQueue[_Call | None]] = [SimpleQueue() for _ in range(count - 1)]
        self._errors: list[Exception] = []
        for line in self._lines:
            Thread(target=_work, args=(line, aligned(scratch), self._errors), name="native", daemon=True).start()
        weakref.finalize(self, _end, self._lines)

    def run(self, kernel: Callable[..., None], count: int, *arguments: Any, held: Any = None) -> None:
        """``kernel(counter, count, scratch, *arguments)``, of so many jobs, on every thread, after all calls before.

        held: what must stay in memory until it is done.  Errors: of a kernel, perhaps at a later call."""
        call = _Call(kernel, np.array([0, 0, count], np.int64), count, arguments, held, bool(self._beside))
        if self._beside is not None:
            self._beside = True
        for line in self._lines:
            line.put(call)
        self._waiting.append(call)
        self._help(self.ahead if self._lines else 0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """No call in this context, or in one like it inside, reads or writes what another writes: a thread that finds
        no job left in one goes on with the next.  Those of long jobs first."""
        if self._beside is not None:
            yield
            return
        self._beside = False
        try:
            yield
        finally:
            self._beside = None

    @property
    def are_together(self) -> bool:
        """Whether the next call is one of several that are made together."""
        return self._beside is not None

    def wait(self) -> None:
        """Until all calls are done, and what they write can be read."""
        self._help(0)

    def _help(self, ahead: int) -> None:
        """Do jobs while more than ``ahead`` calls wait."""
        while len(self._waiting) > ahead:
            first, *others = self._waiting
            calls = [first, *takewhile(lambda call: call.beside, others)]
            for call in calls:
                call.work(self._scratch)
            if ahead and len(self._waiting) <= 2 * ahead and not all(call.done() for call in calls):
                return  # others are at the last jobs
            for call in calls:
                call.wait()
                self._waiting.popleft()
        if self._errors:
            raise self._errors.pop()


def _work(line: SimpleQueue[_Call | None], scratch: NDArray, errors: list[Exception]) -> None:
    """Do calls in their order until there is None."""
    begun: list[_Call] = []
    while call := line.get():
        if not call.beside:
            _finish(begun)
        try:
            call.work(scratch)
        except Exception as error:  # noqa: BLE001 - raised where the work is asked for
            errors.append(error)
        begun.append(call)
        del call
        if line.empty():
            _finish(begun)


def _finish(begun: list[_Call]) -> None:
    """Wait for calls, and let go of what they hold."""
    for call in begun:
        call.wait()
    begun.clear()


def _end(lines: list[SimpleQueue[_Call | None]]) -> None:
    for line in lines:
        line.put(None)
