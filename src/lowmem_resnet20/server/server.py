"""The server: evaluates the network on an encrypted picture with evaluation keys alone.

It reads keys/expN/server, the weights and ciphertexts.  Nothing here can decrypt; no function takes a secret key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import CiphertextError, EnvironmentFault, LowmemError, WeightsError, naming, on_one_line
from ..files.envelope import (
    CHECKPOINT,
    LOGITS,
    PICTURE,
    Ciphertext,
    Facts,
    belonging,
    read_envelope,
    write_envelope,
)
from ..files.group import split
from ..files.keystore import MANIFEST, SERVER, Manifest, check_coverage, keys_set, open_folder
from ..files.resume import Unfinished
from ..machine.files import make_folder, os_errors, private_folder
from ..machine.memory import available_bytes
from ..network.engines import NATIVE, WITH_OPENFHE
from ..network.evaluator import Incomputable
from ..network.parameters import PICTURE_LEVELS, ParameterSet
from ..network.resnet20 import Network, Part, Plan, input_slots, plan
from ..network.scaling import scale
from ..network.weights import Weights, weights_given
from ..progress.display import Progress, Shown, Step, format_bytes, progress_of
from .engine import Engine
from .request import Job


@dataclass
class Outcome:
    """A job that was evaluated, or could not be.

    seconds: spent on this picture alone, without what all pictures share;
    error: why there is no result.
    """

    job: Job
    seconds: float = 0.0
    error: LowmemError | None = None


#: Opens the engine that a folder's keys are for.
Opening = Callable[[Path, ParameterSet, Manifest, Progress], Engine[Any]]


class Server(AbstractContextManager):
    """Evaluates the network on encrypted pictures, with the evaluation keys of one folder, which stay open.

    folder: keys/expN, of which server/ alone is read, or a copy of server/; checked once, when this is made;
    weights: the network's, or the file of them; by default the program's own;
    progress: called with stage and name as each step of an evaluation begins, or a display;
    set_: the parameter set that the keys must be of, or its number; None for any;
    anyway: though there seems to be less memory than the set needs;
    opening: what opens an engine in the place of :func:`open_engine`.

    Sets 1 to 4 are evaluated by OpenFHE, which keeps keys process-wide, so one server at a time, and which may end the
    process on keys that are not what they seem; OMP_NUM_THREADS, which is set where it is not, says its threads.  The
    other sets are compiled on their first use on a machine, into the user's cache folder, and have as many threads as
    the process may use, until :meth:`close`.

    warnings: what the machine lacks, in messages each with a hint; the work goes on without.

    Errors: KeyFolderError, WeightsError, PlanError, EnvironmentFault.
    """

    def __init__(
        self,
        folder: str | Path,
        weights: Weights | str | Path | None = None,
        progress: Shown = None,
        *,
        set_: ParameterSet | int | None = None,
        anyway: bool = False,
        opening: Opening | None = None,
    ) -> None:
        folder, self.progress = Path(folder), progress_of(progress)
        side = folder / SERVER if (folder / SERVER).is_dir() or not (folder / MANIFEST).exists() else folder
        weights = weights_given(weights)
        self.set = keys_set(side, set_, weights.architecture)
        if weights.architecture != self.set.architecture:
            raise WeightsError(f"the weights are for another network than the keys, which serve {self.set.networks}")
        if not anyway:
            check_memory(self.set)
        self.progress.start(f"evaluating with parameter set {self.set.number}")
        self.progress.step("keys", "checking")
        manifest = open_folder(side, self.set)
        self.scaled, self.belonging = scale(weights, self.set.refresh), belonging(self.set, manifest.keys, weights)
        self.engine = (opening or open_engine)(side, self.set, manifest, self.progress)
        self.warnings = self.engine.warnings()
        self._closed = False

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of keys, threads and memory: nothing can be evaluated after."""
        self._closed = True
        self.engine.close()

    def evaluate(
        self, sent: Ciphertext | Iterable[Ciphertext], checkpoints: str | Path | None = None
    ) -> list[Ciphertext]:
        """Return the encrypted logits of each encrypted picture, or group of pictures.

        checkpoints: a folder for the ciphertexts after each convolution, refresh and ReLU, which only the client can
        read; of several pictures each has a folder in it, 1, 2 ..

        Errors: CiphertextError, EnvironmentFault: the first of any picture; :meth:`evaluate_files` keeps the others'
        results.
        """
        with as_files(sent, checkpoints) as jobs:
            for outcome in self.evaluate_files(jobs):
                if outcome.error:
                    raise outcome.error
            return [Ciphertext(job.output.read_bytes()) for job in jobs]

    def evaluate_files(self, jobs: Sequence[Job], *, resume: bool = False) -> list[Outcome]:
        """Evaluate the network on each encrypted picture, or group of pictures; writes the encrypted logits.

        All jobs pass through a stage before the next, so that the keys of each are loaded once.  After each part of
        the network what there is of a picture is kept beside its output (see :mod:`..files.resume`); ``resume`` goes
        on from there, and leaves a picture alone whose result is there.

        Errors: EnvironmentFault of the whole; ValueError after :meth:`close`.  What is wrong with one picture is in its
        outcome, and the others go on.
        """
        if self._closed:
            raise ValueError("this server is closed")
        self.progress.step("keys", "encrypted pictures")
        what = "group " if self.set.pictures > 1 else ""
        labels = [f"{what}{i + 1}/{len(jobs)} " if len(jobs) > 1 else "" for i in range(len(jobs))]
        with ExitStack() as held:
            pictures = [_Picture(Outcome(job), self, label) for job, label in zip(jobs, labels, strict=True)]
            for picture in pictures:
                held.callback(picture.let_go)
                with picture.trying():
                    picture.read(resume)
            self._evaluate_by_stages(pictures)
        return [picture.outcome for picture in pictures]

    def _evaluate_by_stages(self, pictures: Sequence[_Picture]) -> None:
        planned = plan(self.set)
        self.progress.expect(_steps(planned, pictures))
        for stage in sorted(planned.rotations):
            waiting = [picture for picture in pictures if picture.has_work(stage)]
            if waiting:
                self.progress.step(*_loading(stage))
                self.engine.evaluator.enter_stage(stage)
            for picture in waiting:
                with picture.trying():
                    picture.evaluate(stage)


@contextmanager
def as_files(sent: Ciphertext | Iterable[Ciphertext], checkpoints: str | Path | None = None) -> Iterator[list[Job]]:
    """Write ciphertexts into a folder for the time of the context, in which errors call them what their owner does.

    Gives a job for each; checkpoints: as of :meth:`Server.evaluate`.
    """
    ciphertexts = [sent] if isinstance(sent, Ciphertext) else list(sent)
    with private_folder("lowmem-resnet20-") as folder:
        jobs, names = [], {}
        for i, ciphertext in enumerate(ciphertexts, 1):
            kept = Path(checkpoints, *([f"{i}"] if len(ciphertexts) > 1 else [])) if checkpoints else None
            jobs.append(Job(folder / f"{i}.ct", folder / f"{i}.result.ct", kept))
            with os_errors("write", jobs[-1].ciphertext):
                jobs[-1].ciphertext.write_bytes(ciphertext)
            names[jobs[-1].ciphertext] = str(ciphertext.path)
        with naming(names):
            yield jobs


def open_engine(folder: Path, set_: ParameterSet, manifest: Manifest, progress: Progress) -> Engine[Any]:
    """Open the engine that a folder's keys are for, if they do what it asks of them.  Only OpenFHE's loads OpenFHE."""
    check_coverage(folder, manifest, set_)
    if set_.engine == NATIVE:
        return _open_native(folder, set_, manifest, progress)
    from ..openfhe.engine import OpenfheEngine

    return OpenfheEngine(folder, set_, manifest)


def _open_native(folder: Path, set_: ParameterSet, manifest: Manifest, progress: Progress) -> Engine[Any]:
    try:
        from ..native.engine import NativeEngine
    except (ImportError, OSError) as error:  # numba and the library it compiles with
        raise EnvironmentFault(f"the native evaluator cannot be loaded: {on_one_line(error)}", WITH_OPENFHE) from error
    compiling = partial(progress.step, "native", "compiling, the first time on this machine")
    return NativeEngine(folder, set_, manifest.files, compiling)


def check_memory(set_: ParameterSet) -> None:
    """Raise EnvironmentFault unless this process can have the memory that the set was measured to take: it would be
    killed half way."""
    available = available_bytes()
    if available < set_.server_bytes:
        raise EnvironmentFault(
            f"parameter set {set_.number} takes {format_bytes(set_.server_bytes)} of memory, "
            f"and {format_bytes(available)} are free",
            "close other programs, or take a set that needs less; the word anyway tries all the same",
        )


def _loading(stage: int) -> tuple[str, str]:
    return "keys", f"rotation keys and bootstrapping, stage {stage}"


def _steps(planned: Plan, pictures: Sequence[_Picture]) -> list[Step]:
    """Return all that will be shown, in order."""
    steps = []
    for stage in sorted(planned.rotations):
        waiting = [picture for picture in pictures if picture.has_work(stage)]
        steps += [Step(*_loading(stage), "loading")] if waiting else []
        for picture in waiting:
            for part in picture.ahead:
                if part.stage == stage:
                    kinds = ((layer, name, name.partition(" ")[2]) for layer, name in planned.steps[part.name])
                    steps += [Step(picture.label + layer, name, kind) for layer, name, kind in kinds]
    return steps


@dataclass
class _Picture:
    """One picture, or group of pictures, on its way through the network, whose steps and values it observes.

    label: goes before the stage where there are several jobs;
    ahead: the parts still to come;
    state: the ciphertexts so far;
    picture: id of the encryption;
    form: of the files that the engine writes its ciphertexts in;
    unfinished: the folder that keeps the state.
    """

    outcome: Outcome
    server: Server
    label: str
    ahead: list[Part[Any]] = field(default_factory=list)
    state: tuple[Any, ...] = ()
    picture: str = ""
    form: Any = None
    unfinished: Unfinished | None = None

    def read(self, resume: bool) -> None:
        """Read the encrypted picture, or what an evaluation of it that was killed has left."""
        job = self.outcome.job
        envelope = read_envelope(job.ciphertext)
        envelope.expect(PICTURE, self.server.belonging)
        payloads = split(envelope.payload, self.server.set.ciphertexts(1), job.ciphertext)
        ciphertexts = tuple(self.server.engine.read(payload, job.ciphertext) for payload in payloads)
        for ciphertext in ciphertexts:
            self._check(ciphertext)
        self.picture, self.form = envelope.facts.picture, self.server.engine.form(payloads[0])
        unfinished = Unfinished(job.output, self.server.belonging, self.picture)
        if resume and unfinished.is_finished():
            return
        unfinished.begin(resume=resume)
        self.unfinished = unfinished
        network = Network(self.server.set, self.server.scaled, self.server.engine.evaluator, self)
        self.ahead, self.state = network.parts(), ciphertexts
        if resume:
            self._take_up(unfinished)
        if job.checkpoints is not None:
            make_folder(job.checkpoints)

    def _take_up(self, unfinished: Unfinished) -> None:
        """Go on after the last complete part, if one was left."""
        names = [part.name for part in self.ahead]
        kept = unfinished.load(names)
        if kept:
            done, files = kept
            self.ahead = self.ahead[names.index(done) + 1 :]
            self.state = tuple(self.server.engine.read(file.payload, file.path) for file in files)

    def _check(self, ciphertext: Any) -> None:
        evaluator = self.server.engine.evaluator
        slots = input_slots(self.server.set)
        if evaluator.slots(ciphertext) != slots or evaluator.levels(ciphertext) < PICTURE_LEVELS:
            path = self.outcome.job.ciphertext
            raise CiphertextError(f"{path} is not a picture of {slots} slots with a level to compute on")

    def has_work(self, stage: int) -> bool:
        return not self.outcome.error and any(part.stage == stage for part in self.ahead)

    def evaluate(self, stage: int) -> None:
        """Run the parts of a stage, each kept when it is complete; after the last of all, write the result."""
        assert self.unfinished is not None
        started = time.monotonic()
        while self.ahead and self.ahead[0].stage == stage:
            part = self.ahead[0]
            self.state = part.run(self.state)
            self.ahead.pop(0)
            if self.ahead:
                self.unfinished.save(part.name, [self.server.engine.write(x, self.form) for x in self.state])
        if not self.ahead:
            logits = self.server.engine.write_answer(self.state[0], self.form)
            write_envelope(self.outcome.job.output, logits, Facts.of(self.server.belonging, LOGITS, self.picture))
            self.unfinished.remove()
        self.outcome.seconds += time.monotonic() - started

    def let_go(self) -> None:
        """Unlock what is kept beside the output."""
        if self.unfinished is not None:
            self.unfinished.end()

    def step(self, stage: str, name: str) -> None:
        """Show that a step of the network begins."""
        self.server.progress.step(self.label + stage, name)

    def value(self, name: str, x: Any) -> None:
        """Leave a value of the network as a checkpoint, where there is a folder."""
        if self.outcome.job.checkpoints is not None:
            facts = Facts.of(self.server.belonging, CHECKPOINT, self.picture, name)
            payload = self.server.engine.write_answer(x, self.form)
            write_envelope(self.outcome.job.checkpoints / f"{name}.ct", payload, facts)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Keep an error that concerns this picture alone."""
        try:
            yield
        except (CiphertextError, EnvironmentFault) as error:
            self.outcome.error = error
        except Incomputable as error:
            self.outcome.error = CiphertextError(f"{self.outcome.job.ciphertext} cannot be evaluated: {error}")
