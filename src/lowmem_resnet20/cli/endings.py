"""How a process ends: every failure as one line on stderr and a documented exit code, never a traceback."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from ..errors import EnvironmentFault, ExitCode, LowmemError, Reported
from ..machine.files import os_fault
from ..machine.interrupt import ends_at_once, wait_if_ending
from ..machine.libraries import loading_hint
from .output import Printer
from .words import PROGRAM

#: Set in the environment to see where an unexpected error came from.
DEBUG_VARIABLE = "LOWMEM_RESNET20_DEBUG"
#: What is installed only where it is asked for, by the packages it brings.
_EXTRAS = {
    "torch": ("torch", "torchvision"),
    "serve": ("starlette", "uvicorn", "httpx", "prometheus_client"),
    "ray": ("ray",),
}


def run(work: Callable[[], None], printer: Printer) -> ExitCode:
    """Do ``work``, with what it prints flushed; returns the process's exit code.  Ctrl-C ends it at once, cleanly."""
    with ends_at_once():
        try:
            work()
            printer.results.finish()
        except BrokenPipeError:  # nobody reads the result any more, and nobody needs to hear it
            printer.results.let_go()
            return ExitCode.FAILURE
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for the user
            return _fail(error, printer)
    return ExitCode.OK


def _fail(error: Exception, printer: Printer) -> ExitCode:
    """Print an error and return its exit code."""
    wait_if_ending()
    if os.environ.get(DEBUG_VARIABLE):
        printer.say("".join(traceback.format_exception(error)).rstrip())
    known = explain(error)
    if not isinstance(known, Reported):
        printer.error(known)
    return known.exit_code


def explain(error: Exception) -> LowmemError:
    """The error for the user that an exception of any kind amounts to."""
    if isinstance(error, LowmemError):
        return error
    if isinstance(error, MemoryError):
        return EnvironmentFault("there is not enough memory", "close other programs, or use a machine with more")
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
        return EnvironmentFault(f"OpenFHE cannot be loaded: {error}", loading_hint(os.environ))
    return EnvironmentFault(f"a package cannot be loaded: {error}", "install this program again")
