"""What an exception of any kind amounts to: the error that a user is told."""

from __future__ import annotations

import os
import traceback

from ..errors import PROGRAM, EnvironmentFault, LowmemError
from .files import os_fault
from .libraries import openfhe_fault

#: Set in the environment to see where an unexpected error came from.
DEBUG_VARIABLE = "LOWMEM_RESNET20_DEBUG"
#: Python's words where the system starts no thread.
_NO_THREAD = "can't start new thread"
#: What is installed only where it is asked for, by the packages it brings.
_EXTRAS = {
    "torch": ("torch", "torchvision"),
    "onnx": ("onnx",),
    "serve": ("starlette", "uvicorn", "httpx", "prometheus_client"),
    "ray": ("ray",),
}


def trace(error: Exception) -> str:
    """Return where an error comes from, as text; empty unless DEBUG_VARIABLE is set."""
    return "".join(traceback.format_exception(error)).rstrip() if os.environ.get(DEBUG_VARIABLE) else ""


def explain(error: Exception) -> LowmemError:
    """Return the error for the user that an exception of any kind amounts to."""
    if isinstance(error, LowmemError):
        return error
    if isinstance(error, MemoryError):
        return EnvironmentFault("there is not enough memory", "close other programs, or use a machine with more")
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return EnvironmentFault("no more threads can be started", "are there too many processes, by ulimit -u too?")
    if isinstance(error, ImportError):
        return _explain_import(error)
    if isinstance(error, OSError) and error.errno is not None:
        return os_fault(error, *(("use", error.filename) if error.filename else ("write", "the result")))
    return LowmemError(
        f"unexpected {type(error).__name__}: {error}", f"set {DEBUG_VARIABLE}=1 to see where it comes from"
    )


def _explain_import(error: ImportError) -> LowmemError:
    package = (error.name or "").partition(".")[0]
    if package == "cryptography":
        message = "a secret key under a passphrase needs the package cryptography, which is not installed"
        return EnvironmentFault(message, "pip install cryptography")
    for extra, packages in _EXTRAS.items():
        if package in packages:
            message = f"this needs the package {package}, which is not installed"
            return EnvironmentFault(message, f"pip install '{PROGRAM}[{extra}]'")
    if package == "openfhe":
        return openfhe_fault(error)
    return EnvironmentFault(f"a package cannot be loaded: {error}", "install this program again")
