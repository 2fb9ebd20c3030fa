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
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CiphertextError, EnvironmentFault, on_one_line
from ..machine import child
from ..machine.files import os_fault

if TYPE_CHECKING:  # the child sets its limits before it loads OpenFHE, and its parent need not
    from .library import Context

#: What the child may take, bytes of address space and seconds of one processor: many times what a ciphertext needs.
MOST_BYTES = 8 << 30
MOST_SECONDS = 60
#: Seconds by the clock: a machine may be so busy that a child gets little of it.
_MOST_PATIENCE = 10 * MOST_SECONDS
#: What the child says on standard output, a line each, as far as it gets: the last two of each ciphertext.
_ABLE, _OUT_OF_MEMORY, _GOOD = b"able", b"out of memory", b"good"
#: Bytes of a ciphertext's length, which goes before it; and of what a child says at its end.
_LENGTH, _LAST_WORDS = 8, 1 << 16


class Trial(AbstractContextManager):
    """Tries ciphertexts of the context in the file ``context``, one after the other in one child process.

    It is started for the first, and anew after one that ended it.
    """

    def __init__(self, context: Path) -> None:
        self._context = context
        self._child: _Child | None = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, until there is one more to try."""
        if self._child:
            self._child.end()
        self._child = None

    def check(self, path: Path, payload: bytes) -> None:
        """Try the ``payload`` that was read from ``path``.

        A child that has stood others may have ended for what they took: then this one gets a child of its own.

        Errors: CiphertextError if it is no ciphertext of the context; EnvironmentFault if that cannot be told, for want
        of memory or of processes.
        """
        if self._child and self._child.stands(payload):
            return
        self.close()
        try:
            self._child = _Child(self._context)
        except OSError as error:
            raise os_fault(error, "start a process to try", path) from error
        if not self._child.stands(payload):
            raise self._child.failure(path)


class _Child:
    """The process.  Errors: OSError where there can be none."""

    def __init__(self, context: Path) -> None:
        self._said: list[bytes] = []
        self._stderr = os.memfd_create("stderr")  # takes whatever it says, and no folder
        command = child.command("openfhe.trial", str(context))
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError:
            os.close(self._stderr)
            raise

    def stands(self, payload: bytes) -> bool:
        """Whether it says that these bytes are good.  Otherwise it has ended."""
        assert self._process.stdin and self._process.stdout
        self._late = False
        timer = threading.Timer(_MOST_PATIENCE, self._end_late)
        timer.start()
        try:
            with suppress(BrokenPipeError):
                self._process.stdin.write(len(payload).to_bytes(_LENGTH, "little") + payload)
                self._process.stdin.flush()
            for line in self._process.stdout:
                self._said.append(line.rstrip())
                if self._said[-1] == _GOOD:
                    return True
            self._process.wait()
        finally:
            timer.cancel()
        return False

    def failure(self, path: Path) -> CiphertextError | EnvironmentFault:
        """Why it has ended over the bytes that were read from ``path``."""
        code = self._process.returncode
        if self._late:
            return _untried(path, f"it took more than {_MOST_PATIENCE} s", "is the machine busy?")
        if _ABLE not in self._said or _scarce(code, self._said):
            reason = _reason(code, self._last_words())
            return _untried(path, reason, "is there memory enough, also by ulimit -v and ulimit -t?")
        if code == -signal.SIGXCPU:
            return CiphertextError(f"{path} takes more than {MOST_SECONDS} s to load")
        return CiphertextError(f"{path} holds no ciphertext of these parameters", "make it again")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin and self._process.stdout
        self._process.stdout.close()
        with suppress(BrokenPipeError):  # what it was not told
            self._process.stdin.close()
        os.close(self._stderr)

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()

    def _last_words(self) -> str:
        length = os.lseek(self._stderr, 0, os.SEEK_END)
        start = max(length - _LAST_WORDS, 0)
        return os.pread(self._stderr, _LAST_WORDS, start).decode(errors="backslashreplace")


def _scarce(code: int, said: list[bytes]) -> bool:
    """Whether a child that was able to compute has met a limit closer than ours, or been killed by the system."""
    memory = _OUT_OF_MEMORY in said and _limit(resource.RLIMIT_AS, MOST_BYTES) < MOST_BYTES
    seconds = code == -signal.SIGXCPU and _limit(resource.RLIMIT_CPU, MOST_SECONDS) < MOST_SECONDS
    return memory or seconds or code == -signal.SIGKILL


def _untried(path: Path, reason: str, hint: str) -> EnvironmentFault:
    return EnvironmentFault(f"{path} cannot be tried in a process of its own: {reason}", hint)


def _reason(code: int, words: str) -> str:
    """Why the child could not do its work, in its own last words if it had any."""
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name if -code in set(signal.Signals) else -code}"
    return next(
        (on_one_line(Exception(line)) for line in reversed(words.split("\n")) if line.strip()), "it said nothing"
    )


def _limit(what: int, most: int) -> int:
    """``most`` of a resource, or less where this process is allowed less."""
    soft, _ = resource.getrlimit(what)
    return most if soft == resource.RLIM_INFINITY else min(soft, most)


# --- in the child -----------------------------------------------------------------------------------------


def _try(context_path: Path) -> None:
    """Fail, one way or another, at the first ciphertext on standard input that cannot be computed with."""
    for what, most in (
        (resource.RLIMIT_AS, MOST_BYTES),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (_limit(what, most), resource.getrlimit(what)[1]))
    os.environ["OMP_NUM_THREADS"] = "1"  # each thread would take address space, and processors that others need
    context = _able_context(context_path)
    _say(_ABLE)
    source = sys.stdin.buffer
    while length := source.read(_LENGTH):
        try:
            _compute(context, source.read(int.from_bytes(length, "little")))
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
    _try(Path(sys.argv[1]))
