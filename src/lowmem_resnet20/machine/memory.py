"""Memory of this process and of the machine (Linux), and results kept for as long as their object lives."""

from __future__ import annotations

import ctypes
import os
import resource
import weakref
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from .controlgroups import memory_left

T = TypeVar("T")


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


def cached_method(most: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Keep the last ``most`` results of a method in its object; functools.lru_cache would keep the object, too."""

    def cached(method: Callable[..., T]) -> Callable[..., T]:
        return cast(Callable[..., T], _CachedMethod(method, most))

    return cached


class _CachedMethod:
    """Puts a cache in its own place on an object whose method is first called."""

    def __init__(self, method: Callable[..., Any], most: int) -> None:
        self._method, self._most = method, most
        self.__doc__ = method.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        this = weakref.ref(instance)  # or the object would be in a circle, and not go when nobody holds it
        kept = lru_cache(self._most)(lambda *arguments: self._method(this(), *arguments))
        instance.__dict__[self._method.__name__] = kept
        return kept


def _table(path: Path) -> dict[str, int]:
    """Read name and bytes of the lines ``Name:  123 kB`` of a file of /proc."""
    rows = (line.split() for line in path.read_text(errors="replace").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
