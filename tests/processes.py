"""Waiting for what another process or thread does, and whether a process has ended; and how it starts sooner."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

#: Begins a program that needs no PyTorch, which takes longer to load than all else.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"


def is_running(pid: int) -> bool:
    """A process that has ended may be there a moment longer, until its end is noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def until(holds: Callable[[], object], seconds: float = 600, pause: float = 0.01) -> None:
    """Wait, at most so many seconds, asking after each pause.  A busy machine may have to compile the kernels first."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, holds
        time.sleep(pause)


def ends(pid: int, seconds: float = 60) -> None:
    """Wait for a process to end."""
    until(lambda: not is_running(pid), seconds)
