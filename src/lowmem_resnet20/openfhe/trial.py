"""Loads ciphertexts in a process that may die of it.

OpenFHE trusts what it reads: of bytes that are no ciphertext it may abort, or ask for any amount of memory.  So whoever
receives a ciphertext has it loaded, and computed with a little, in a child process first.  The child shows that it can
compute before it looks at the bytes: what fails earlier is the machine's fault, what fails later that of the bytes.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CiphertextError, EnvironmentFault, on_one_line
from ..files.group import join, split
from ..machine import child
from ..machine.files import os_fault

if TYPE_CHECKING:  # the child sets its limits before it loads OpenFHE, and its parent need not
    from .library import Context

#: What the child may take, bytes of address space and seconds of one processor: many times what a ciphertext needs.
MOST_BYTES = 8 << 30
MOST_SECONDS = 60
#: Seconds by the clock: a machine may be so busy that a child gets little of it.
_MOST_PATIENCE = 10 * MOST_SECONDS
#: What the child says on standard output, a line each, as far as it gets.
_ABLE, _OUT_OF_MEMORY, _GOOD = b"able", b"out of memory", b"good"


def check_ciphertext(path: Path, payload: bytes, context: Path) -> None:
    """Try the ``payload`` that was read from ``path``: as :func:`check_ciphertexts`."""
    check_ciphertexts([(path, payload)], context)


def check_ciphertexts(named: Sequence[tuple[Path, bytes]], context: Path) -> None:
    """Try payloads, each with the path that it was read from, in one process, one after the other.

    Errors: CiphertextError if one is no ciphertext of the context in the file ``context``; EnvironmentFault if that
    cannot be told, for want of memory or of processes.
    """
    command = child.command("openfhe.trial", str(context), str(len(named)))
    path, together = named[0][0], join([payload for _, payload in named])
    try:
        done = subprocess.run(command, input=together, capture_output=True, timeout=_MOST_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise _untried(path, f"it took more than {_MOST_PATIENCE} s", "is the machine busy?") from None
    except OSError as error:
        raise os_fault(error, "start a process to try", path) from error
    said = done.stdout.splitlines()
    good = said.count(_GOOD)
    if done.returncode == 0 and good == len(named):
        return
    path = named[min(good, len(named) - 1)][0]
    if _ABLE not in said or _scarce(done.returncode, said):
        raise _untried(path, _reason(done), "is there memory enough, also by ulimit -v and ulimit -t?")
    if done.returncode == -signal.SIGXCPU:
        raise CiphertextError(f"{path} takes more than {MOST_SECONDS} s to load")
    raise CiphertextError(f"{path} holds no ciphertext of these parameters", "make it again")


def _scarce(code: int, said: list[bytes]) -> bool:
    """Whether a child that was able to compute has met a limit closer than ours, or been killed by the system."""
    memory = _OUT_OF_MEMORY in said and _limit(resource.RLIMIT_AS, MOST_BYTES) < MOST_BYTES
    seconds = code == -signal.SIGXCPU and _limit(resource.RLIMIT_CPU, MOST_SECONDS) < MOST_SECONDS
    return memory or seconds or code == -signal.SIGKILL


def _untried(path: Path, reason: str, hint: str) -> EnvironmentFault:
    return EnvironmentFault(f"{path} cannot be tried in a process of its own: {reason}", hint)


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """Why the child could not do its work, in its own last words if it had any."""
    if done.returncode < 0:
        number = -done.returncode
        return f"it was killed by {signal.Signals(number).name if number in set(signal.Signals) else number}"
    words = done.stderr.decode(errors="backslashreplace").split("\n")
    return next((on_one_line(Exception(line)) for line in reversed(words) if line.strip()), "it said nothing")


def _limit(what: int, most: int) -> int:
    """``most`` of a resource, or less where this process is allowed less."""
    soft, _ = resource.getrlimit(what)
    return most if soft == resource.RLIM_INFINITY else min(soft, most)


# --- in the child -----------------------------------------------------------------------------------------


def _try(context_path: Path, count: int) -> None:
    """Fail, one way or another, unless the ``count`` ciphertexts on standard input can be computed with."""
    for what, most in (
        (resource.RLIMIT_AS, MOST_BYTES),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (_limit(what, most), resource.getrlimit(what)[1]))
    os.environ["OMP_NUM_THREADS"] = "1"  # each thread would take address space, and processors that others need
    context = _able_context(context_path)
    payload = sys.stdin.buffer.read()
    _say(_ABLE)
    for ciphertext in split(payload, count, Path("standard input")):
        try:
            _compute(context, ciphertext)
        except MemoryError:
            _say(_OUT_OF_MEMORY)
            raise
        _say(_GOOD)


def _able_context(path: Path) -> Context:
    """The context, once an encoding has shown that this process can compute with it."""
    from .context import read_context

    context = read_context(path)
    slots = context.GetRingDimension() // 2
    context.MakeCKKSPackedPlaintext([1.0] * slots, 1, 0, None, slots)
    return context


def _compute(context: Context, payload: bytes) -> None:
    from .library import BINARY, Ciphertext, openfhe

    ciphertext: Ciphertext = openfhe.DeserializeCiphertextString(payload, BINARY)
    if ciphertext.NumberCiphertextElements() != 2 or ciphertext.GetNoiseScaleDeg() not in (1, 2):
        raise ValueError("not a ciphertext as this program leaves it")
    slots, level = ciphertext.GetSlots(), ciphertext.GetLevel()
    ones = context.MakeCKKSPackedPlaintext([1.0] * slots, 1, level, None, slots)
    context.Compress(context.EvalMult(ciphertext, ones), 1)  # refuses other primes, slots or levels than the context's


def _say(word: bytes) -> None:
    os.write(sys.stdout.fileno(), word + b"\n")


if __name__ == "__main__":
    _try(Path(sys.argv[1]), int(sys.argv[2]))
