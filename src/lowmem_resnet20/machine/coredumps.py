"""No image of this process's memory on the disk, for it holds a secret (Linux)."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Have a crash leave no core file, and no other process of the same user read this one's memory, from now on.

    The limit alone does not keep the system from handing the image to a program that collects it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
