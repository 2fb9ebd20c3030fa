"""The server as a child process: started, watched and measured by the client's command line.

It is given file names and never the secret key; what it says on stderr is passed through.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .errors import ExitCode, Reported, ServerError
from .job import Evaluation
from .machine import child
from .machine.interrupt import on_interrupt
from .terminal.progress import Ended
from .terminal.streams import reports

_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGKILL: "probably for want of memory: close other programs, or use a machine with more",
    signal.SIGABRT: "OpenFHE refused something, see the lines above: are the keys of this version and set?",
}


@dataclass(frozen=True)
class ServerRun:
    """What one run of the server took, and what it answered.

    peak_bytes: the most memory it had in RAM, as it says itself (what the system tells of a child starts from the peak
    of its parent); pictures: its line of JSON for each job, in their order: seconds, peak_bytes, and error, hint and
    exit_code of one that failed; steps: those it went through, as :class:`.terminal.progress.Ended`.
    """

    seconds: float
    peak_bytes: int
    pictures: list[dict[str, Any]]
    steps: list[Ended]


def run_server(request: Evaluation, stderr: TextIO) -> ServerRun:
    """Have the server evaluate in a process of its own, which is given the request on its standard input.

    Errors: Reported if it ended with one of this program's exit codes; ServerError if it ended otherwise, was killed
    by a signal, or left a picture out.  If this process is interrupted, it is killed.
    """
    started = time.monotonic()
    stderr = reports(stderr)
    with on_interrupt(_kill_children):
        server = subprocess.Popen(
            child.command("worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr if _has_descriptor(stderr) else subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        )
        try:
            answer = _converse(server, request.to_json(), stderr)
            server.wait()
        except BaseException:
            server.kill()
            server.wait()
            raise
    lines = _parse(answer)
    pictures = sorted((line for line in lines if "job" in line), key=lambda line: line["job"])
    _check(server.returncode, [line["job"] for line in pictures], len(request.jobs))
    steps = [Ended(*step) for line in lines for step in line.get("steps", ())]
    peak_bytes = max((line.get("peak_bytes", 0) for line in pictures), default=0)
    return ServerRun(time.monotonic() - started, peak_bytes, pictures, steps)


def _converse(server: subprocess.Popen[str], request: str, stderr: TextIO) -> str:
    """Tell the server what it is asked; returns all that it answers, and passes on what it says on stderr meanwhile."""
    assert server.stdin is not None and server.stdout is not None
    relay = threading.Thread(target=stderr.writelines, args=(server.stderr or (),), daemon=True)
    relay.start()
    with suppress(BrokenPipeError):  # it ended before it was told; how, its exit code says
        server.stdin.write(request)
        server.stdin.close()
    answer = server.stdout.read()
    relay.join()
    return answer


def _parse(text: str) -> list[dict[str, Any]]:
    """The lines of JSON; whatever a library may have printed between them is passed over."""
    lines = []
    for line in text.splitlines():
        with suppress(ValueError):
            fields = json.loads(line)
            lines += [fields] if isinstance(fields, dict) else []
    return lines


def _kill_children() -> None:
    """Kill every child of this process, also one that is being started and has no Popen object yet (Linux)."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def _has_descriptor(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return False
    return True


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
