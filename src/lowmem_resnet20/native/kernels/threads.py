"""How many processors the work may use, and work shared out among them.

Kernels release Python's lock and take their jobs one by one from a counter, so that a thread that another process
disturbs does less.  Every job writes what no other touches: results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...machine.controlgroups import processors_granted
from ...machine.variables import threads_asked
from .memory import aligned


def available_processors() -> int:
    """Processors this process may use: the least of its affinity, each control group's quota rounded up, and what the
    user asks for in the environment; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        allowed = os.cpu_count() or 1
    return min([allowed, *processors_granted(), threads_asked() or allowed])


class Workers:
    """``count`` threads, the caller's among them, each with scratch memory of its own.

    scratch: float64 elements that each thread's kernels may use.
    """

    def __init__(self, count: int, scratch: int) -> None:
        self.count = count
        self._scratch = [aligned(scratch) for _ in range(count)]
        self._pool = ThreadPoolExecutor(count - 1, "native") if count > 1 else None

    def run(self, kernel: Callable[..., None], jobs: int, *arguments: Any) -> None:
        """``kernel(counter, jobs, scratch, *arguments)`` on every thread; back when all jobs are done.

        counter: int64 (1,), the next job that nobody has taken.
        """
        counter = np.zeros(1, np.int64)
        others = (
            [
                self._pool.submit(kernel, counter, jobs, scratch, *arguments)
                for scratch in self._scratch[1 : min(self.count, jobs)]
            ]
            if self._pool
            else []
        )
        try:
            kernel(counter, jobs, self._scratch[0], *arguments)
        finally:
            for other in others:
                other.result()
