"""Where compiled code is kept, and what it is compiled for.

Kernels are compiled when first called and kept on disk: in NUMBA_CACHE_DIR, else in the user's cache folder.  numba
notices a change of the file that a function stands in, but not of the files whose functions it calls, and two
processes that store code at once can mix up their entries.  So the code has a folder for each state of the files with
kernels, of numba and of the processor, and :func:`compile_once` lets one process at a time fill it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba

#: numba's settings, which it makes from the environment and which have no types.
config: Any = numba.config
_DONE = "complete"
#: The files of this wing that compiled code comes from.
SOURCES = ("bases", "compilation", "elementwise", "encoding", "intrinsics", "ntt", "order", "residues")


def register_bytes() -> int:
    """Of the vector registers that are compiled for: 64 with AVX-512, 32 else, for LLVM to split where they have
    less."""
    return 64 if "+avx512f" in _processor()[1].split(",") else 32


def _processor() -> tuple[str, str]:
    """Name and features that numba compiles for: the host's, unless NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say
    others."""
    name = config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    if config.CPU_FEATURES is not None:
        return name, config.CPU_FEATURES
    return name, llvmlite.binding.get_host_cpu_features().flatten()


def _fingerprint() -> str:
    """Changes with anything that compiled code depends on."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(name.encode() + b"\0" + Path(__file__).with_name(f"{name}.py").read_bytes())
    digest.update(repr((numba.__version__, llvmlite.__version__, sys.version, _processor())).encode())
    return digest.hexdigest()[:16]


def _base() -> Path:
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowmem-resnet20"


def _writable_folder() -> Path | None:
    """This state's folder, made if need be; None if it cannot be."""
    try:
        folder = _base() / f"native-{_fingerprint()}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None


#: Where compiled code is kept; None if nowhere can be written: then every process compiles.
FOLDER = _writable_folder()
if FOLDER:
    config.CACHE_DIR = str(FOLDER)


def compiled(function: Callable) -> Any:
    """Decorator: compiled for the argument types of its first call, without Python's lock while it runs."""
    return numba.njit(nogil=True, cache=FOLDER is not None, boundscheck=False, error_model="numpy")(function)


def is_compiled() -> bool:
    """Whether :func:`compile_once` has nothing to do."""
    return FOLDER is not None and (FOLDER / _DONE).exists()


def compile_once(exercise: Callable[[], None]) -> None:
    """Call ``exercise``, which calls every kernel, unless a process has done so before; others wait meanwhile."""
    if is_compiled():
        return
    with _alone():
        if not is_compiled():
            exercise()
            if FOLDER:
                (FOLDER / _DONE).touch()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Only one process at a time; where the file system knows no locks, any."""
    if FOLDER is None:
        yield
        return
    import fcntl

    with open(FOLDER / "lock", "w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
