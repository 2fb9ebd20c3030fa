"""Return the memory of this process and of the machine (Linux)."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

from .controlgroups import memory_left


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def peak_resident_bytes() -> int:
    """Return the most memory this process has had in RAM.

    Read from VmHWM, where there is one: ``getrusage`` of a new process starts from the peak of the one that started it.
    """
    try:
        return _table(Path("/proc/self/status"))["VmHWM"]
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_bytes() -> int:
    """Return the memory that this process can still have: the least of what the machine has to spare, swap included, of
    what each control group it is in has left, and of its own limit (``ulimit -v``)."""
    machine = _table(Path("/proc/meminfo"))
    left = [machine["MemAvailable"] + machine.get("SwapFree", 0), *memory_left()]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        left.append(limit - _table(Path("/proc/self/status"))["VmSize"])
    return max(0, min(left))


def return_freed_memory() -> None:
    """Give freed memory back to the system; glibc would keep it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _table(path: Path) -> dict[str, int]:
    """Read name and bytes of the lines ``Name:  123 kB`` of a file of /proc."""
    rows = (line.split() for line in path.read_text(errors="replace").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
