"""From a picture's content to its class: read, encrypted and decrypted here, evaluated where the request says.

One run after the other, in one thread: the one that OpenFHE's calls and the server's processes belong to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli import endings
from ..cli.evaluate import raise_error
from ..cli.named import evaluation
from ..cli.output import Classification, Printer
from ..cli.pictures import Group, Item, compare, foresee_range
from ..cli.words import Request
from ..client import client
from ..errors import with_names
from ..files.envelope import read_envelope
from ..files.group import group_and_place
from ..machine.files import make_folder
from ..machine.interrupt import on_interrupt
from ..model.picture import decode_picture
from ..progress.display import make_progress, timed
from ..server.process import ServerProcess
from ..server.request import Job
from .drawing import place_of_numbers, png_of_numbers
from .layers import LayerProgress
from .session import DECRYPTING, DONE, EVALUATING, FAILED, STOPPED, Ciphertext, Picture, Run, Session, Told, told

if TYPE_CHECKING:
    from ..network.parameters import ParameterSet
    from ..network.weights import Weights

#: Bytes of a ciphertext that are shown.
_EXCERPT = 64


class _Hearing(Printer):
    """Keeps the warnings of the command line's checks, for the page."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.warnings: list[Told] = []

    def warning(self, message: str, hint: str) -> None:
        self.warnings.append(told(message, hint))


class Classifier:
    """What the client does.  folder: the keys; temporary: a private folder for what is on its way."""

    def __init__(
        self,
        request: Request,
        printer: Printer,
        set_: ParameterSet,
        folder: Path,
        weights: Weights,
        temporary: Path,
    ) -> None:
        self._request, self._printer = request, printer
        self._set, self._folder, self._weights, self._temporary = set_, folder, weights, temporary

    def look(self, content: bytes, path: Path) -> tuple[Item, list[Told]]:
        """Read a picture as the word ``resize`` does, and what the plain network makes of it.  Errors: PictureError."""
        hearing = _Hearing()
        item = Item(path, decode_picture(content, path, self._set.architecture.width, resize=True))
        foresee_range(hearing, item, self._set, self._weights)
        return item, hearing.warnings

    def work(self, session: Session, steps: list[tuple[str, str]]) -> None:
        """Classify what comes, for ever."""
        shown = make_progress(max(self._request.verbose, 0) or -1, self._printer.stderr)
        progress = LayerProgress(steps, lambda run: session.tell(("run", run.number)), shown)
        while True:
            run = session.next_run()
            progress.follow(run)
            self._classify(session, run, progress)
            progress.follow(None)
            progress.close()
            session.tell(("run", run.number))

    def _classify(self, session: Session, run: Run, progress: LayerProgress) -> None:
        files = self._temporary / str(run.number)
        job = Job(files / "1.ct", files / "result.ct")
        group = Group([picture.item for picture in run.pictures], job)
        with self._failing(session, run, group):
            make_folder(files)
            group.encrypt(self._folder, self._set, self._weights, job.ciphertext)
            run.sent = _shown(job.ciphertext)
            run.seconds = group.seconds
            session.enter(run, EVALUATING)
            with timed(run.seconds, "evaluate"):
                self._evaluate(run, job, progress)
            run.received = job.output.stat().st_size
            session.enter(run, DECRYPTING)
            self._decrypt(session, run, group, job)
        shutil.rmtree(files, ignore_errors=True)

    def _evaluate(self, run: Run, job: Job, progress: LayerProgress) -> None:
        asked = evaluation(self._request, [job])
        if self._request.server:
            from ..remote.evaluation import run_remotely

            done = run_remotely(self._request, asked, progress, self._printer, partial(_stoppable, run))
        else:
            process = ServerProcess(asked, self._printer.stderr)
            _stoppable(run, process.kill)
            with on_interrupt(process.kill):
                done = process.converse(progress)
        progress.close()
        raise_error(done.pictures[0])

    def _decrypt(self, session: Session, run: Run, group: Group, job: Job) -> None:
        identity, _ = group_and_place(group.items[0].id, self._set.pictures)
        with group.timed("decrypt"):
            numbers = client.decrypt_group(self._folder, self._set, job.output, self._weights, identity)
        for picture, logits in zip(run.pictures, numbers, strict=False):  # places that stayed empty come last
            with self._failing(session, run, group, picture):
                client.check_logits(job.output, self._weights, logits)
                picture.answer, picture.item.logits = Classification.of(logits), logits
                hearing = _Hearing()
                compare(hearing, picture.item, self._weights)
                picture.warnings = [*picture.warnings, *hearing.warnings]
                session.settle(picture, DONE)

    @contextmanager
    def _failing(self, session: Session, run: Run, group: Group, picture: Picture | None = None) -> Iterator[None]:
        """What goes wrong is told beside ``picture``, or all of the run; the program goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as on the command line: every failure is told in words
            known = with_names(endings.explain(error), group.files)
            for failed in [picture] if picture else run.pictures:
                session.settle(failed, STOPPED if run.stopped else FAILED, None if run.stopped else known)


def _stoppable(run: Run, stop: Callable[[], None]) -> None:
    """Have ``stop`` called when the user stops the run; at once, if that was before."""
    run.stop = stop
    if run.stopped:
        stop()


def _shown(path: Path) -> Ciphertext:
    """A view of an encrypted picture's file."""
    payload = read_envelope(path).payload
    place = place_of_numbers(payload)
    excerpt = payload[place : place + _EXCERPT]
    return Ciphertext(path.stat().st_size, excerpt, place, png_of_numbers(payload, place))
