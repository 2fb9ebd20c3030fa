"""How many processors the work may use, and work shared out among them.

Kernels release Python's lock and take their jobs one by one from a counter, so that a thread that another process
disturbs does less.  Every job writes what no other touches: results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .memory import aligned

_CGROUP = Path("/sys/fs/cgroup")


def available_processors() -> int:
    """Processors this process may use: the least of its affinity, the control group's quota rounded up, and
    NUMBA_NUM_THREADS of the environment; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _quota(_CGROUP) or allowed, _asked() or allowed))


def _asked() -> int | None:
    """What the environment allows; None where it says nothing, or no number."""
    text = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _quota(root: Path) -> int | None:
    """Processors that the control group grants, rounded up; None where there is no limit or none can be read."""
    try:
        quota, period = (root / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()  # version 1; -1: no limit
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        granted = -(-int(quota) // int(period))
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return granted if granted > 0 else None


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
