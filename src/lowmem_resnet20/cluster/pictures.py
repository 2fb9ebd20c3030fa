"""The pictures of a run, as files of the machine that it was started on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LowmemError, told
from ..files.envelope import PICTURE, Belonging, read_envelope
from ..files.resume import Unfinished
from ..machine.files import atomic_write, make_folder, os_errors
from ..server.request import Job
from .worker import Answer


@dataclass
class Picture:
    """A picture, or group.

    job: its files;
    line: what became of it, as JSON, once that is known;
    deaths: of workers that had it.
    """

    job: Job
    line: dict[str, Any] | None = None
    deaths: int = 0
    _unfinished: Unfinished | None = field(default=None, repr=False)

    def begin(self, ours: Belonging, *, resume: bool) -> None:
        """See whether it can be evaluated, and keep others from writing its result.

        With ``resume`` a result that is there already is left alone.
        """
        with self._trying():
            envelope = read_envelope(self.job.ciphertext)
            envelope.expect(PICTURE, ours)
            unfinished = Unfinished(self.job.output, ours, envelope.facts.picture)
            if resume and unfinished.is_finished():
                self.line = {"seconds": 0.0, "peak_bytes": 0}
                return
            unfinished.begin(resume=resume)
            self._unfinished = unfinished

    def read(self) -> bytes | None:
        """Read its file; None if that cannot be read any more, which is then what became of it."""
        with self._trying(), os_errors("read", self.job.ciphertext):
            return self.job.ciphertext.read_bytes()
        return None

    def finish(self, answer: Answer) -> None:
        """Write what a worker has computed."""
        self.line = answer.line
        if "error" not in answer.line:
            with self._trying():
                self._write(answer)

    def fail(self, error: LowmemError) -> None:
        self.line = {"seconds": 0.0, "peak_bytes": 0} | told(error)

    def let_go(self) -> None:
        """Let others write its result again."""
        if self._unfinished is not None:
            self._unfinished.end()

    def _write(self, answer: Answer) -> None:
        if self.job.checkpoints is not None:
            make_folder(self.job.checkpoints)
            for name, content in answer.checkpoints.items():
                atomic_write(self.job.checkpoints / Path(name).name, content)
        atomic_write(self.job.output, answer.result)
        if self._unfinished is not None:
            self._unfinished.remove()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Note an error as what became of this picture alone."""
        try:
            yield
        except LowmemError as error:
            self.fail(error)
