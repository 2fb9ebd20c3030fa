"""Which files of a folder are opened, by whatever process and library, as the Linux kernel tells (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPEN = 0x20
_HEADER = struct.Struct("iIII")


class Opened:
    """``names`` of the files opened so far; "" for the folder itself."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._names: set[str] = set()

    @property
    def names(self) -> set[str]:
        try:
            while events := os.read(self._descriptor, 1 << 16):
                while events:
                    *_, length = _HEADER.unpack_from(events)
                    name, events = events[_HEADER.size :][:length], events[_HEADER.size + length :]
                    self._names.add(os.fsdecode(name.rstrip(b"\0")))
        except BlockingIOError:
            return self._names


@contextmanager
def watching(folder: Path) -> Iterator[Opened]:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(folder), _OPEN) >= 0, os.strerror(ctypes.get_errno())
        yield Opened(descriptor)
    finally:
        os.close(descriptor)
