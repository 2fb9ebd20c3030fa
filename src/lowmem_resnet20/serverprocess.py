"""The server as a child process: started, watched and measured by the client's command line.

It is given file names and never the secret key; what it says on stderr is passed through.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .errors import ExitCode, LowmemError, ServerError
from .interrupt import on_interrupt

_SIGNAL_HINTS = {
    signal.SIGKILL: "probably for want of memory: close other programs, or use a machine with more",
    signal.SIGABRT: "OpenFHE refused something, see the lines above: are the keys of this version and set?",
}


@dataclass(frozen=True)
class ServerRun:
    """What one run of the server took.  peak_bytes: the most memory it had in RAM."""

    seconds: float
    peak_bytes: int


class ReportedByServer(LowmemError):
    """The server failed and has said why on stderr; its exit code is passed on."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(f"the server ended with exit code {code.value} ({code.name.lower()})")
        self.exit_code = code


def run_server(words: Sequence[str], output: Path, stderr: TextIO) -> ServerRun:
    """Run ``lowmem-resnet20`` with these words in a process of its own, until it has written ``output``.

    Errors: ReportedByServer if it ended with one of this program's exit codes; ServerError if it ended
    otherwise, was killed by a signal, or wrote nothing.  If this process is interrupted, it is killed.
    """
    started = time.monotonic()
    command = [sys.executable, "-m", __package__, *words]
    passed_on = _has_descriptor(stderr)
    with on_interrupt(_kill_children):
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr if passed_on else subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        )
        try:
            stderr.writelines(server.stderr or ())
            _, status, usage = os.wait4(server.pid, 0)
        except BaseException:
            server.kill()
            server.wait()
            raise
    server.returncode = os.waitstatus_to_exitcode(status)
    _check(server.returncode, output)
    return ServerRun(time.monotonic() - started, usage.ru_maxrss * 1024)


def _kill_children() -> None:
    """Kill every child of this process, also one that is being started and has no Popen object yet (Linux)."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)


def _has_descriptor(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return False
    return True


def _check(code: int, output: Path) -> None:
    """Raise the error that an exit code (negative: a signal) stands for."""
    if code < 0:
        number = -code
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        raise ServerError(f"the server was killed by {name}", _SIGNAL_HINTS.get(number, ""))
    if code in set(ExitCode) - {ExitCode.OK}:
        raise ReportedByServer(ExitCode(code))
    if code:
        raise ServerError(f"the server ended with exit code {code}")
    if not output.is_file():
        raise ServerError("the server ended without writing a result")
