"""What an exception of any kind amounts to: the error that a user is told."""

from __future__ import annotations

import os
import traceback

from ..errors import PROGRAM, EnvironmentFault, LowmemError, on_one_line
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
    if package := _being_loaded(error):
        message = f"the package {package} cannot be loaded: {on_one_line(error)}"
        return EnvironmentFault(message, "does a variable of the environment ask it for this? else install it again")
    return LowmemError(
        f"unexpected {type(error).__name__}: {error}", f"set {DEBUG_VARIABLE}=1 to see where it comes from"
    )


def _being_loaded(error: Exception) -> str:
    """Return the package, not this one, whose import raised an error; empty if none did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    package = str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] if frames else ""
    return "" if package in ("__main__", __name__.partition(".")[0]) else package


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
