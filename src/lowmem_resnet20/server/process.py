"""The server as a child process: started, watched and measured by the client's command line.

It is given file names and never the secret key; what it says on stderr is passed through.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..errors import ExitCode, Reported, ServerError, raise_told
from ..machine import child
from ..machine.files import os_fault
from ..machine.interrupt import on_interrupt
from ..progress.display import Ended, Progress
from ..progress.relay import replay
from ..progress.streams import reports
from .request import Evaluation

_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGKILL: "probably for want of memory: close other programs, or use a machine with more",
    signal.SIGABRT: "see the lines above: is there memory enough, and are the keys of this version and set?",
}


@dataclass(frozen=True)
class ServerRun:
    """One run of the server, and its answer.

    seconds: that it took;
    peak_bytes: the most memory it had in RAM, as it says itself (what the system tells of a child starts from the peak
    of its parent);
    pictures: its line of JSON for each job, in their order: seconds, peak_bytes, and error, hint and exit_code of one
    that failed;
    steps: those it went through.
    """

    seconds: float
    peak_bytes: int
    pictures: list[dict[str, Any]]
    steps: list[Ended]


class Running(Protocol):
    """An evaluation that has been started, wherever: :class:`ServerProcess` is one."""

    def converse(self, progress: Progress) -> ServerRun:
        """See it to its end.  Errors: LowmemError, of the whole."""

    def kill(self) -> None:
        """End it, from whatever thread: :meth:`converse` then raises ServerError."""


def run_server(request: Evaluation, progress: Progress, stderr: TextIO) -> ServerRun:
    """Have the server evaluate in a process of its own; what it goes through is shown by ``progress``.

    Errors: as :meth:`ServerProcess.converse`.  If this process is interrupted, the server is killed.
    """
    with on_interrupt(_kill_children):
        return ServerProcess(request, stderr).converse(progress)


class ServerProcess:
    """A server that has been started, and is given its request on its standard input.

    Errors: EnvironmentFault where the system starts no process.
    """

    def __init__(self, request: Evaluation, stderr: TextIO) -> None:
        self._request, self._stderr = request, reports(stderr)
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                child.command("cluster.evaluation" if request.ray else "server.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
            )
        except OSError as error:  # no process, or no memory for one
            raise os_fault(error, "start", "the server's process") from error

    def converse(self, progress: Progress) -> ServerRun:
        """Tell the server what it is asked, hear it out, and wait for its end.

        Errors: its own, if it says that it cannot evaluate; ServerError if it ended otherwise, was killed by a signal,
        or left a picture out.  Whatever is raised, it has ended.
        """
        try:
            lines = self._hear(progress)
            self._process.wait()
        except BaseException:
            self.kill()
            self._process.wait()
            raise
        pictures = sorted((line for line in lines if "job" in line), key=lambda line: line["job"])
        for line in lines:
            if "job" not in line:  # it cannot evaluate at all
                raise_told(line)
        _check(self._process.returncode, [line["job"] for line in pictures], len(self._request.jobs))
        steps = [Ended(*step) for line in lines for step in line.get("steps", ())]
        peak_bytes = max((line.get("peak_bytes", 0) for line in pictures), default=0)
        return ServerRun(time.monotonic() - self._started, peak_bytes, pictures, steps)

    def kill(self) -> None:
        """End it now, from whatever thread; :meth:`converse` then raises ServerError."""
        self._process.kill()

    def _hear(self, progress: Progress) -> list[dict[str, Any]]:
        """Return what it answers, without its progress, which is shown; what it says on stderr is passed on."""
        server = self._process
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        passing_on = threading.Thread(target=self._pass_on, args=(server.stderr, progress), daemon=True)
        passing_on.start()
        with suppress(BrokenPipeError):  # it ended before it was told; how, its exit code says
            server.stdin.write(self._request.to_json())
            server.stdin.close()
        lines = []
        for fields in map(_parse, server.stdout):
            if "progress" in fields:
                replay(fields["progress"], progress)
            else:
                lines.append(fields)
        passing_on.join()
        return lines

    def _pass_on(self, said: Iterable[str], progress: Progress) -> None:
        for text in said:
            progress.pass_on(text, self._stderr)


def _parse(line: str) -> dict[str, Any]:
    """Return a line of JSON; whatever a library may have printed between them is passed over."""
    with suppress(ValueError):
        fields = json.loads(line)
        return fields if isinstance(fields, dict) else {}
    return {}


def _kill_children() -> None:
    """Kill every child of this process, also one that is being started and has no Popen object yet (Linux)."""
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            for pid in children.read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def _check(code: int, answered: list[int], jobs: int) -> None:
    """Raise the error that an exit code (negative: a signal) stands for, or jobs without an answer."""
    if code < 0:
        number = -code
        known = number in set(signal.Signals)
        name = signal.Signals(number).name if known else f"signal {number}"
        raise ServerError(f"the server was killed by {name}", _SIGNAL_HINTS.get(number, ""))
    if code not in set(ExitCode):
        raise ServerError(f"the server ended with exit code {code}")
    if code:
        raise Reported(ExitCode(code))
    if answered != list(range(jobs)):
        raise ServerError("the server ended without writing a result")
