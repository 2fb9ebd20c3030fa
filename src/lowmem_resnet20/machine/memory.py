"""Memory of this process and of the machine (Linux)."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROCESS = Path("/proc/self")


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
    """Memory that this process can still have: the least of what the machine has to spare, swap included, of what each
    control group it is in has left, and of its own limit (``ulimit -v``)."""
    machine = _table(Path("/proc/meminfo"))
    left = [machine["MemAvailable"] + machine.get("SwapFree", 0), *_left_by_control_groups()]
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
    """Name and bytes of the lines ``Name:  123 kB`` of a file of /proc."""
    rows = (line.split() for line in path.read_text(errors="replace").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


# --- control groups ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Interface:
    """The files of a version of control groups.  cache: lines of ``memory.stat`` for what can be dropped."""

    limits: tuple[str, ...]
    used: str
    cache: tuple[str, ...]


_VERSION_1 = _Interface(
    ("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
)
_VERSION_2 = _Interface(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))


def _left_by_control_groups() -> Iterator[int]:
    """Of each limit on this process's group and those it lies in: the limit less what cannot be dropped there."""
    for interface, folder in _control_groups():
        with suppress(OSError, ValueError):  # it has no limits
            used = int((folder / interface.used).read_text())
            lines = (line.partition(" ") for line in (folder / "memory.stat").read_text().splitlines())
            used -= sum(int(value) for name, _, value in lines if name in interface.cache)
            for name in interface.limits:
                with suppress(OSError, ValueError):  # "max"
                    yield int((folder / name).read_text()) - used


def _control_groups() -> Iterator[tuple[_Interface, Path]]:
    """The group of this process, and those it lies in up to the outermost that can be seen, wherever mounted."""
    try:
        mounts = (_PROCESS / "mountinfo").read_text(errors="surrogateescape").splitlines()
        groups = (_PROCESS / "cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups)}
    of_memory = next((path for controllers, path in own.items() if "memory" in controllers.split(",")), None)
    for mount in mounts:
        seen, _, kind = mount.partition(" - ")
        root, point = seen.split()[3:5]
        system, _, options = kind.split(" ", 2)
        if system == "cgroup2" and "" in own:
            yield from ((_VERSION_2, folder) for folder in _upwards(point, root, own[""]))
        elif system == "cgroup" and "memory" in options.split(",") and of_memory is not None:
            yield from ((_VERSION_1, folder) for folder in _upwards(point, root, of_memory))


def _upwards(mount_point: str, root: str, group: str) -> Iterator[Path]:
    """The folders of a group and those it lies in.  root: the group that the mount point shows."""
    top = Path(mount_point.replace("\\040", " "))
    inside = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
    if ".." not in inside.parts:
        yield from (top / part for part in (inside, *inside.parents) if part != Path())
    yield top
