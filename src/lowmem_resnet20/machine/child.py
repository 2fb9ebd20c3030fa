"""Modules of this package in processes of their own, which run nothing that lies where they are started.

A child is started isolated (``python -I``), and is given this process's search path without the working directory and
the folder this package was found in: so it is the same package whether it was installed, or is named by PYTHONPATH.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

from .faults import explain, trace
from .interrupt import ENDING_SIGNALS
from .searchpath import trusted_path
from .text import labelled

_PACKAGE = __name__.partition(".")[0]
_FOLDER = str(Path(__file__).absolute().parents[2])
_PR_SET_PDEATHSIG = 1
#: Only the package itself is looked for in its folder: other things may lie there too.
_START = (
    "import sys; sys.path[:] = [{folder!a}]; import {package}; sys.path[:] = {path!a}; "
    "from {package}.machine.child import run; run({module!r}, {parent})"
)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` of this package (such as "server.worker") as ``__main__``.

    The process it starts is killed when this one ends.  Start it from the main thread: the death of the thread that
    started it counts as this process's.
    """
    start = _START.format(folder=_FOLDER, package=_PACKAGE, path=trusted_path(), module=module, parent=os.getpid())
    # -I has the child pass over PYTHONUTF8 and PYTHONDONTWRITEBYTECODE, but names must be read as they are here.
    flags = ["-I", "-X", f"utf8={sys.flags.utf8_mode}", *(["-B"] if sys.dont_write_bytecode else [])]
    return [sys.executable, *flags, "-c", start, *arguments]


def run(module: str, parent: int) -> None:
    """Run, in the child, ``module`` as ``__main__``, until process ``parent`` ends at the latest.

    An exception, such as of a package that cannot be loaded, is a line on stderr and an exit code.
    """
    end_with_parent(parent)
    _receive_signals()
    try:
        runpy.run_module(f"{_PACKAGE}.{module}", run_name="__main__", alter_sys=True)
    except Exception as error:  # noqa: BLE001 - no traceback for the user
        print(trace(error), end="", file=sys.stderr)
        known = explain(error)
        print(labelled("error:", known.message, known.hint), file=sys.stderr)
        sys.exit(known.exit_code)


def end_with_parent(parent: int) -> None:
    """Have this process killed when ``parent``, which started it, ends, however it ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(128 + signal.SIGKILL)


def _receive_signals() -> None:
    """Be ended by the signals that the parent blocks for itself (see ``interrupt``), and Ctrl-C without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
