"""The server process: the ``evaluate`` of the command line, in a process of its own.

OpenFHE may end the process on what a client sent; whoever started this one then says so in a line.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from .cli import evaluate_here, main

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends, however it ends (Linux)."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(evaluate=evaluate_here))
