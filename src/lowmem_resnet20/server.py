"""The server: evaluates the network on an encrypted picture with evaluation keys alone.

It reads keys/expN/server, the weights and ciphertexts.  Nothing here can decrypt; no function takes a secret key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .engine import Engine
from .errors import CiphertextError, EnvironmentFault, LowmemError, WeightsError, on_one_line
from .fhe.belonging import belonging
from .fhe.envelope import CHECKPOINT, LOGITS, PICTURE, Belonging, Facts, read_envelope, write_envelope
from .fhe.group import split
from .fhe.keystore import SERVER, Manifest, open_folder
from .fhe.resume import Unfinished
from .job import Job
from .machine.files import make_folder
from .machine.memory import available_bytes
from .network.engines import NATIVE, WITH_OPENFHE
from .network.parameters import PICTURE_LEVELS, ParameterSet
from .network.resnet20 import Network, Part, Plan, input_slots, plan
from .network.scaling import Scaled, scale
from .network.weights import Weights
from .terminal.progress import Progress, Step, format_bytes


@dataclass(frozen=True)
class Opened:
    """A key folder that is open, and what is computed with it: pictures may come until its engine is closed.

    scaled: the weights as the set's refresh wants them; belonging: of the pictures it is for.
    """

    set: ParameterSet
    engine: Engine[Any]
    scaled: Scaled
    belonging: Belonging


@dataclass
class Outcome:
    """What became of a job.  seconds: spent on this picture alone, without what all pictures share; error: why there
    is no result."""

    job: Job
    seconds: float = 0.0
    error: LowmemError | None = None


def evaluate(
    folder: Path,
    set_: ParameterSet,
    jobs: Sequence[Job],
    weights: Weights,
    progress: Progress,
    *,
    resume: bool = False,
    opening: Callable[[Path, ParameterSet, Manifest, Progress], Engine[Any]] | None = None,
) -> list[Outcome]:
    """Evaluate the network on each encrypted picture, or group of pictures; writes the encrypted logits.

    All jobs pass through a stage before the next, so that the keys of each are loaded once.  After each part of
    the network what there is of a picture is kept beside its output (see :mod:`.fhe.resume`); ``resume`` goes on from
    there, and leaves a picture alone whose result is there.  folder: keys/expN, of which server/ alone is read.

    Errors: KeyFolderError, WeightsError, PlanError, EnvironmentFault, before the first layer.  What is wrong with one
    picture is in its outcome, and the others go on.
    """
    progress.start(f"evaluating with parameter set {set_.number}")
    opened = open_server(folder / SERVER, set_, weights, progress, opening)
    with closing(opened.engine):
        return evaluate_with(opened, jobs, progress, resume=resume)


def open_server(
    folder: Path,
    set_: ParameterSet,
    weights: Weights,
    progress: Progress,
    opening: Callable[[Path, ParameterSet, Manifest, Progress], Engine[Any]] | None = None,
) -> Opened:
    """Check a server's key folder, keys/expN/server or a copy, and open it.  Errors: as :func:`evaluate`."""
    if weights.architecture != set_.architecture:
        raise WeightsError(f"the weights are for another network than the keys, which serve {set_.networks}")
    progress.step("keys", "checking")
    manifest = open_folder(folder, set_)
    scaled, ours = scale(weights, set_.refresh), belonging(set_, manifest.keys, weights)
    return Opened(set_, (opening or open_engine)(folder, set_, manifest, progress), scaled, ours)


def evaluate_with(opened: Opened, jobs: Sequence[Job], progress: Progress, *, resume: bool = False) -> list[Outcome]:
    """As :func:`evaluate`, with keys that stay open."""
    progress.step("keys", "encrypted pictures")
    what = "group " if opened.set.pictures > 1 else ""
    labels = [f"{what}{i + 1}/{len(jobs)} " if len(jobs) > 1 else "" for i in range(len(jobs))]
    with ExitStack() as held:
        pictures = [_Picture(Outcome(job), opened, progress, label) for job, label in zip(jobs, labels, strict=True)]
        for picture in pictures:
            held.callback(picture.let_go)
            with picture.trying():
                picture.read(resume)
        _evaluate_by_stages(opened, pictures, progress)
    return [picture.outcome for picture in pictures]


def open_engine(folder: Path, set_: ParameterSet, manifest: Manifest, progress: Progress) -> Engine[Any]:
    """The engine that a folder's keys are for.  Only OpenFHE's loads OpenFHE."""
    if set_.engine == NATIVE:
        return _open_native(folder, set_, manifest, progress)
    from .fhe.openfhe_engine import OpenfheEngine

    return OpenfheEngine(folder, set_, manifest)


def _open_native(folder: Path, set_: ParameterSet, manifest: Manifest, progress: Progress) -> Engine[Any]:
    try:
        from .native.engine import NativeEngine
    except (ImportError, OSError) as error:  # numba and the library it compiles with
        raise EnvironmentFault(f"the native evaluator cannot be loaded: {on_one_line(error)}", WITH_OPENFHE) from error
    compiling = partial(progress.step, "native", "compiling, the first time on this machine")
    return NativeEngine(folder, set_, manifest.files, compiling)


def _evaluate_by_stages(opened: Opened, pictures: Sequence[_Picture], progress: Progress) -> None:
    planned = plan(opened.set)
    progress.expect(_steps(planned, pictures))
    for stage in sorted(planned.rotations):
        waiting = [picture for picture in pictures if picture.has_work(stage)]
        if waiting:
            progress.step(*_loading(stage))
            opened.engine.evaluator.enter_stage(stage)
        for picture in waiting:
            with picture.trying():
                picture.evaluate(stage)


def check_memory(set_: ParameterSet) -> None:
    """That this process can have the memory the set was measured to take; it would be killed half way."""
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
    """All that will be shown, in order."""
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

    label: goes before the stage where there are several jobs; ahead: the parts still to come; state: the
    ciphertexts so far; picture: id of the encryption; form: what the engine writes its ciphertexts in.
    """

    outcome: Outcome
    opened: Opened
    progress: Progress
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
        envelope.expect(PICTURE, self.opened.belonging)
        payloads = split(envelope.payload, self.opened.set.ciphertexts(1), job.ciphertext)
        ciphertexts = tuple(self.opened.engine.read(payload, job.ciphertext, foreign=True) for payload in payloads)
        for ciphertext in ciphertexts:
            self._check(ciphertext)
        self.picture, self.form = envelope.facts.picture, self.opened.engine.form(payloads[0])
        unfinished = Unfinished(job.output, self.opened.belonging, self.picture)
        if resume and unfinished.is_finished():
            return
        unfinished.begin(resume=resume)
        self.unfinished = unfinished
        network = Network(self.opened.set, self.opened.scaled, self.opened.engine.evaluator, self)
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
            self.state = tuple(self.opened.engine.read(file.payload, file.path, foreign=False) for file in files)

    def _check(self, ciphertext: Any) -> None:
        evaluator = self.opened.engine.evaluator
        slots = input_slots(self.opened.set)
        if evaluator.slots(ciphertext) != slots or evaluator.levels(ciphertext) < PICTURE_LEVELS:
            path = self.outcome.job.ciphertext
            raise CiphertextError(f"{path} is not a picture of {slots} slots with a level to compute on")

    def has_work(self, stage: int) -> bool:
        return not self.outcome.error and any(part.stage == stage for part in self.ahead)

    def evaluate(self, stage: int) -> None:
        """The parts of a stage, each kept when it is complete; after the last of all, the result."""
        assert self.unfinished is not None
        started = time.monotonic()
        while self.ahead and self.ahead[0].stage == stage:
            part = self.ahead[0]
            self.state = part.run(self.state)
            self.ahead.pop(0)
            if self.ahead:
                self.unfinished.save(part.name, [self.opened.engine.write(x, self.form) for x in self.state])
        if not self.ahead:
            logits = self.opened.engine.write_answer(self.state[0], self.form)
            write_envelope(self.outcome.job.output, logits, Facts.of(self.opened.belonging, LOGITS, self.picture))
            self.unfinished.remove()
        self.outcome.seconds += time.monotonic() - started

    def let_go(self) -> None:
        """Of what is kept beside the output."""
        if self.unfinished is not None:
            self.unfinished.end()

    def step(self, stage: str, name: str) -> None:
        """A step of the network begins."""
        self.progress.step(self.label + stage, name)

    def value(self, name: str, x: Any) -> None:
        """A value of the network, left as a checkpoint where there is a folder."""
        if self.outcome.job.checkpoints is not None:
            facts = Facts.of(self.opened.belonging, CHECKPOINT, self.picture, name)
            payload = self.opened.engine.write_answer(x, self.form)
            write_envelope(self.outcome.job.checkpoints / f"{name}.ct", payload, facts)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Keep an error that concerns this picture alone."""
        try:
            yield
        except (CiphertextError, EnvironmentFault) as error:
            self.outcome.error = error
        except RuntimeError as error:  # OpenFHE's own, of a ciphertext that is not what it claims to be
            path = self.outcome.job.ciphertext
            self.outcome.error = CiphertextError(f"{path} cannot be evaluated: {on_one_line(error)}")
