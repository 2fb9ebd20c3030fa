"""Memory of this process and of the machine (Linux)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """The most memory this process has had in RAM.

    Read from VmHWM: ``getrusage`` of a new process starts from the peak of the one that started it.
    """
    return _table(Path("/proc/self/status"))["VmHWM"]


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
