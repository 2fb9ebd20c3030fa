"""What the control groups of this process leave it of memory and processors (Linux, versions 1 and 2).

A limit holds for a group and all that lie in it: those of containers, of systemd (CPUQuota=, MemoryMax=) and of nested
groups count alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class _Memory:
    """The files of a version.  cache: lines of ``memory.stat`` for what can be dropped."""

    limits: tuple[str, ...]
    used: str
    cache: tuple[str, ...]


_MEMORY = {
    1: _Memory(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    2: _Memory(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file")),
}


def memory_left() -> Iterator[int]:
    """Yield bytes of each limit on this process's group and those it lies in: the limit less what cannot be dropped."""
    for version, folder in _groups("memory"):
        files = _MEMORY[version]
        with suppress(OSError, ValueError):  # it has no limits
            used = int((folder / files.used).read_text())
            lines = (line.partition(" ") for line in (folder / "memory.stat").read_text().splitlines())
            used -= sum(int(value) for name, _, value in lines if name in files.cache)
            for name in files.limits:
                with suppress(OSError, ValueError):  # "max"
                    yield int((folder / name).read_text()) - used


def processors_granted() -> Iterator[int]:
    """Yield processors, rounded up, of each quota on this process's group and those it lies in."""
    for version, folder in _groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):  # none, or "max"
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:  # a quota of -1: no limit
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            granted = -(-int(quota) // int(period))
            if granted > 0:
                yield granted


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of the group of this process that ``controller`` looks at, and of those it lies in, up
    to the outermost that can be seen, wherever mounted."""
    try:
        mounts = (_PROCESS / "mountinfo").read_text(errors="surrogateescape").splitlines()
        groups = (_PROCESS / "cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups)}
    first = next((path for controllers, path in own.items() if controller in controllers.split(",")), None)
    for mount in mounts:
        seen, _, kind = mount.partition(" - ")
        root, point = seen.split()[3:5]
        system, _, options = kind.split(" ", 2)
        if system == "cgroup2" and "" in own:
            yield from ((2, folder) for folder in _upwards(point, root, own[""]))
        elif system == "cgroup" and controller in options.split(",") and first is not None:
            yield from ((1, folder) for folder in _upwards(point, root, first))


def _upwards(mount_point: str, root: str, group: str) -> Iterator[Path]:
    """Return the folders of a group and those it lies in.  root: the group that the mount point shows."""
    top = Path(mount_point.replace("\\040", " "))
    inside = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
    if ".." not in inside.parts:
        yield from (top / part for part in (inside, *inside.parents) if part != Path())
    yield top
