"""From a picture's content to its class: read, encrypted and decrypted here, evaluated where the settings say.

One run after the other, in one thread: the one that OpenFHE's calls and the server's processes belong to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..client import Client
from ..client.checks import Caution
from ..client.client import Named
from ..errors import raise_told, with_names
from ..files.envelope import Ciphertext as Sealed
from ..files.group import group_and_place
from ..machine.faults import explain
from ..machine.files import make_folder
from ..machine.interrupt import on_interrupt
from ..model.picture import decode_picture
from ..network.ranges import Foreseen
from ..progress.display import Progress, timed
from ..server.process import Running
from ..server.request import Job
from .drawing import place_of_numbers, png_of_numbers
from .layers import LayerProgress
from .session import DECRYPTING, DONE, EVALUATING, FAILED, STOPPED, Picture, Run, Sent, Session, told

#: Bytes of a ciphertext that are shown.
_EXCERPT = 64


class Classifier:
    """Does what the client does.

    start: starts the evaluation of a job;
    temporary: a private folder for what is on its way.
    """

    def __init__(self, client: Client, start: Callable[[Job], Running], temporary: Path) -> None:
        self._client, self._start, self._temporary = client, start, temporary

    def look(self, content: bytes, path: Path) -> tuple[np.ndarray, Foreseen | None, tuple[Caution, ...]]:
        """Read a picture as the word ``resize`` does, and see what the plain network makes of it, where the weights
        are at hand.

        Errors: PictureError.
        """
        architecture = self._client.set.architecture
        pixels = decode_picture(content, path, architecture.width, True, architecture.input_channels)
        return pixels, *self._client.foresee(pixels, str(path))

    def work(self, session: Session, steps: list[tuple[str, str]], shown: Progress) -> None:
        """Classify what comes, for ever."""
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
        with self._failing(session, run, job):
            make_folder(files)
            with timed(run.seconds, "encrypt"):
                named = [Named(picture.pixels, str(picture.path)) for picture in run.pictures]
                sent, ids = self._client.encrypt_group(named)
                sent.save(job.ciphertext)
            for picture, identity in zip(run.pictures, ids, strict=True):
                picture.id = identity
            run.sent = _shown(sent)
            session.enter(run, EVALUATING)
            with timed(run.seconds, "evaluate"):
                self._evaluate(run, job, progress)
            run.received = job.output.stat().st_size
            session.enter(run, DECRYPTING)
            self._decrypt(session, run, job)
        shutil.rmtree(files, ignore_errors=True)

    def _evaluate(self, run: Run, job: Job, progress: LayerProgress) -> None:
        running = self._start(job)
        run.stop = running.kill
        if run.stopped:
            running.kill()
        with on_interrupt(running.kill):
            done = running.converse(progress)
        progress.close()
        raise_told(done.pictures[0])

    def _decrypt(self, session: Session, run: Run, job: Job) -> None:
        group, _ = group_and_place(run.pictures[0].id, self._client.set.pictures)
        with timed(run.seconds, "decrypt"):
            numbers = self._client.decrypt_group(Sealed.load(job.output), group)
        for picture, logits in zip(run.pictures, numbers, strict=False):  # places that stayed empty come last
            with self._failing(session, run, job, picture):
                self._client.check_logits(job.output, logits)
                picture.answer = self._client.classify(logits)
                if picture.foreseen:
                    picture.plain = self._client.classify(picture.foreseen.logits)
                cautions = self._client.compare(logits, picture.foreseen, str(picture.path))
                picture.warnings = [*picture.warnings, *(told(*caution) for caution in cautions)]
                session.settle(picture, DONE)

    @contextmanager
    def _failing(self, session: Session, run: Run, job: Job, picture: Picture | None = None) -> Iterator[None]:
        """Tell what goes wrong beside ``picture``, or all of the run; the program goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as on the command line: every failure is told in words
            names = ", ".join(str(picture.path) for picture in run.pictures)
            called = {job.ciphertext: f"the encryption of {names}", job.output: f"the result of {names}"}
            known = with_names(explain(error), called)
            for failed in [picture] if picture else run.pictures:
                session.settle(failed, STOPPED if run.stopped else FAILED, None if run.stopped else known)


def _shown(sent: Sealed) -> Sent:
    """Return a view of an encrypted picture."""
    payload = sent.opened().payload
    place = place_of_numbers(payload)
    return Sent(len(sent), payload[place : place + _EXCERPT], place, png_of_numbers(payload, place))
