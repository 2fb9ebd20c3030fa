"""Memory of this process and of the machine (Linux)."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def peak_resident_bytes() -> int:
    """The most memory this process has had in RAM.

    Read from VmHWM, where there is one: ``getrusage`` of a new process starts from the peak of the one that started it.
    """
    try:
        return _table(Path("/proc/self/status"))["VmHWM"]
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_bytes() -> int:
    """Memory that a new process can have: what the machine has to spare, swap included, or its control group less
    what cannot be dropped there."""
    machine = _table(Path("/proc/meminfo"))
    available = machine["MemAvailable"] + machine.get("SwapFree", 0)
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        dropped = sum(int(value) for name, value in statistics if name in ("inactive_file", "active_file"))
    except (OSError, ValueError):  # no control group, or "max"
        return available
    return min(available, limit - used + dropped)


def return_freed_memory() -> None:
    """Give freed memory back to the system; glibc would keep it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _table(path: Path) -> dict[str, int]:
    """Name and bytes of the lines ``Name:  123 kB`` of a file of /proc."""
    rows = (line.split() for line in path.read_text(errors="replace").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
