"""Kernels compiled once for this machine, and what they are compiled for.

A kernel is compiled when it is first called, and kept in the user's cache folder: in a folder for each state of the
files with kernels, of numba and of the processor.  Where nothing can be kept, every process compiles anew.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np

from ...machine.files import standing_in, working_directory_is_gone
from ...machine.variables import AVX2, VECTORS, misunderstood, only_avx2
from .kernelcache import KeptKernel, KernelFolder

#: numba's settings, which have no types.
config: Any = numba.config
_DONE = "complete"
#: A processor without AVX-512.
_HASWELL = "haswell", "+avx2,+fma,+avx,+sse4.2,+bmi,+bmi2,+lzcnt,+popcnt"


def register_bytes() -> int:
    """Of the vector registers that are compiled for: 64 with AVX-512, 32 else, for LLVM to split where they have
    less."""
    return 64 if "+avx512f" in _processor()[1].split(",") else 32


def _processor() -> tuple[str, str]:
    """Name and features that numba compiles for."""
    return (
        config.CPU_NAME or llvmlite.binding.get_host_cpu_name(),
        config.CPU_FEATURES or llvmlite.binding.get_host_cpu_features().flatten(),
    )


def _compile_for_avx2() -> str:
    """Have numba compile for a processor without AVX-512; why it cannot be."""
    host = llvmlite.binding.get_host_cpu_features()
    if lacking := [feature for feature in _HASWELL[1].replace("+", "").split(",") if not host.get(feature)]:
        return f"{VECTORS} of the environment asks for {AVX2}, and this processor lacks {lacking[0]}"
    config.CPU_NAME, config.CPU_FEATURES = _HASWELL
    return ""


_UNHEEDED = _compile_for_avx2() if only_avx2() else ""


def _fingerprint() -> str:
    """Changes with anything that compiled code depends on."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):  # no other folder has kernels
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    versions = numba.__version__, llvmlite.__version__, np.__version__, sys.version
    digest.update(repr((versions, _processor())).encode())
    return digest.hexdigest()[:16]


#: Where compiled code is kept.
KEPT = KernelFolder(f"native-{_fingerprint()}")


def compiled(function: Callable) -> Any:
    """Decorator: compiled for the argument types of its first call, without Python's lock while it runs."""
    asked, config.DISABLE_JIT = config.DISABLE_JIT, 0  # by whoever imported numba before this package did
    try:
        dispatcher = numba.njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    finally:
        config.DISABLE_JIT = asked
    dispatcher._cache = KeptKernel(function, KEPT)
    return dispatcher


def is_compiled() -> bool:
    """Whether :func:`compile_once` has nothing to do."""
    return KEPT.read(_DONE) is not None


def compile_once(exercise: Callable[[], None]) -> None:
    """Call ``exercise``, which calls every kernel, unless a process has done so before; others wait meanwhile.

    numba asks where the process stands, which may be nowhere: a folder that has been removed, as Ray's workers do.
    """
    if is_compiled():
        return
    with KEPT.alone(), standing_in("/") if working_directory_is_gone() else nullcontext():
        if not is_compiled():
            exercise()
            if not KEPT.trouble:
                KEPT.write(_DONE, b"")


def complaints() -> list[tuple[str, str]]:
    """What could not be done as it should, or as the user asks: messages and hints."""
    found = [(line, "") for line in (*misunderstood(), _UNHEEDED) if line]
    if KEPT.trouble:
        hint = "every evaluation compiles it again, which takes some 8 s: XDG_CACHE_HOME names where else it can be"
        found.append((KEPT.trouble, hint))
    return found
