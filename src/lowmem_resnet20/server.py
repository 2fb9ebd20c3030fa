"""The server: evaluates the network on an encrypted picture with evaluation keys alone.

It reads keys/expN/server, the weights and ciphertexts.  Nothing here can decrypt; no function takes a secret key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .errors import CiphertextError, EnvironmentFault, KeyFolderError, LowmemError, WeightsError, on_one_line
from .fhe.ciphertexts import belonging, read_ciphertext, write_ciphertext
from .fhe.context import (
    clear_relinearisation_keys,
    clear_rotation_keys,
    held_rotation_keys,
    hold_rotation_keys,
    load_relinearisation_key,
    load_rotation_keys,
    read_context,
    set_up_bootstrapping,
)
from .fhe.envelope import CHECKPOINT, LOGITS, PICTURE, Belonging, Facts
from .fhe.keystore import CONTEXT, RELINEARISATION_KEY, SERVER, Manifest, open_folder
from .fhe.library import Ciphertext
from .fhe.openfhe_evaluator import OpenfheEvaluator
from .fhe.resume import Unfinished
from .job import Job
from .machine.files import make_folder
from .machine.memory import available_bytes, return_freed_memory
from .network.parameters import PICTURE_LEVELS, ParameterSet
from .network.resnet20 import Network, Part, Plan, input_channels, plan
from .network.scaling import Scaled, scale
from .network.weights import Weights
from .terminal.progress import Progress, Step, format_bytes


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
    evaluator_type: type[OpenfheEvaluator] = OpenfheEvaluator,
) -> list[Outcome]:
    """Evaluate the network on each encrypted picture; writes the encrypted logits.

    All pictures pass through a stage before the next, so that the keys of each are loaded once.  After each part of
    the network what there is of a picture is kept beside its output (see :mod:`.fhe.resume`); ``resume`` goes on from
    there, and leaves a picture alone whose result is there.  folder: keys/expN, of which server/ alone is read.

    Errors: KeyFolderError, WeightsError, PlanError, EnvironmentFault, before the first layer.  What is wrong with one
    picture is in its outcome, and the others go on.
    """
    if weights.architecture != set_.architecture:
        raise WeightsError("the weights are for another network than the parameter set")
    check_memory(set_)
    progress.start(f"evaluating with parameter set {set_.number}")
    progress.step("keys", "checking")
    stages = _open_keys(folder / SERVER, set_)
    evaluator = evaluator_type(set_, stages.context, stages.load)
    progress.step("keys", "encrypted pictures")
    scaled = scale(weights, set_.refresh)
    ours = belonging(set_, stages.manifest.keys, weights)
    labels = [f"{i + 1}/{len(jobs)} " if len(jobs) > 1 else "" for i in range(len(jobs))]
    with ExitStack() as held:
        pictures = [
            _Picture(Outcome(job), evaluator, scaled, ours, progress, label)
            for job, label in zip(jobs, labels, strict=True)
        ]
        for picture in pictures:
            held.callback(picture.let_go)
            with picture.trying():
                picture.read(folder / SERVER / CONTEXT, resume)
        _evaluate_by_stages(stages, evaluator, pictures, progress)
    return [picture.outcome for picture in pictures]


def _evaluate_by_stages(
    stages: _Stages, evaluator: OpenfheEvaluator, pictures: Sequence[_Picture], progress: Progress
) -> None:
    planned = plan(stages.set)
    progress.expect(_steps(planned, pictures))
    try:
        stages.load_relinearisation_key()
        for stage in sorted(planned.rotations):
            waiting = [picture for picture in pictures if picture.has_work(stage)]
            if waiting:
                progress.step(*_loading(stage))
                evaluator.enter_stage(stage)
            for picture in waiting:
                with picture.trying():
                    picture.evaluate(stage)
    finally:
        stages.clear()
        clear_relinearisation_keys()


def check_memory(set_: ParameterSet) -> None:
    """That this machine has the memory the set was measured to take; it would be killed half way."""
    available = available_bytes()
    if available < set_.server_bytes:
        raise EnvironmentFault(
            f"parameter set {set_.number} takes {format_bytes(set_.server_bytes)} of memory, "
            f"and {format_bytes(available)} are free",
            "close other programs, or take a set that needs less",
        )


def check_keys(manifest: Manifest, set_: ParameterSet) -> None:
    """That the rotation keys of each stage cover the plan and bootstrapping; OpenFHE would end the process."""
    for stage, steps in plan(set_).rotations.items():
        needed = {step % set_.full_slots for step in steps} | set(manifest.bootstrapping.get(str(stage), ()))
        missing = sorted(needed - manifest.steps(stage))
        if missing:
            raise KeyFolderError(f"the keys of stage {stage} lack rotations by {', '.join(map(str, missing[:8]))}")


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
    """One picture on its way through the network, whose steps and values it observes.

    label: goes before the stage where there are several pictures; ahead: the parts still to come; state: the
    ciphertexts so far; picture: id of the encrypted picture.
    """

    outcome: Outcome
    evaluator: OpenfheEvaluator
    scaled: Scaled
    belonging: Belonging
    progress: Progress
    label: str
    ahead: list[Part[Ciphertext]] = field(default_factory=list)
    state: tuple[Ciphertext, ...] = ()
    picture: str = ""
    unfinished: Unfinished | None = None

    def read(self, context: Path, resume: bool) -> None:
        """Read the encrypted picture, or what an evaluation of it that was killed has left."""
        job = self.outcome.job
        ciphertext, facts = read_ciphertext(job.ciphertext, PICTURE, self.belonging, context=context)
        _check_picture(self.evaluator, ciphertext, job.ciphertext)
        self.picture = facts.picture
        unfinished = Unfinished(job.output, self.belonging, self.picture)
        if resume and unfinished.is_finished():
            return
        unfinished.begin(resume=resume)
        self.unfinished = unfinished
        parts = Network(self.evaluator.set, self.scaled, self.evaluator, self).parts()
        names = [part.name for part in parts]
        kept = unfinished.load(names) if resume else None
        done, self.state = kept or ("", (ciphertext,))
        self.ahead = parts[names.index(done) + 1 :] if kept else parts
        if job.checkpoints is not None:
            make_folder(job.checkpoints)

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
                self.unfinished.save(part.name, self.state)
        if not self.ahead:
            logits = self.evaluator.for_client(self.state[0])
            write_ciphertext(self.outcome.job.output, logits, Facts.of(self.belonging, LOGITS, self.picture))
            self.unfinished.remove()
        self.outcome.seconds += time.monotonic() - started

    def let_go(self) -> None:
        """Of what is kept beside the output."""
        if self.unfinished is not None:
            self.unfinished.end()

    def step(self, stage: str, name: str) -> None:
        """A step of the network begins."""
        self.progress.step(self.label + stage, name)

    def value(self, name: str, x: Ciphertext) -> None:
        """A value of the network, left as a checkpoint where there is a folder."""
        if self.outcome.job.checkpoints is not None:
            facts = Facts.of(self.belonging, CHECKPOINT, self.picture, name)
            write_ciphertext(self.outcome.job.checkpoints / f"{name}.ct", self.evaluator.for_client(x), facts)

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


def _check_picture(evaluator: OpenfheEvaluator, picture: Ciphertext, path: Path) -> None:
    architecture = evaluator.set.architecture
    slots = input_channels(architecture) * architecture.width**2
    if evaluator.slots(picture) != slots or evaluator.levels(picture) < PICTURE_LEVELS:
        raise CiphertextError(f"{path} is not a picture of {slots} slots with a level to compute on")


def _open_keys(folder: Path, set_: ParameterSet) -> _Stages:
    manifest = open_folder(folder, set_)
    check_keys(manifest, set_)
    return _Stages(folder, set_, manifest)


@dataclass
class _Stages:
    """Rotation keys and bootstrapping of one stage at a time.  shared: the keys of every stage, read once."""

    folder: Path
    set: ParameterSet
    manifest: Manifest
    shared: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        self.context = read_context(self.folder / CONTEXT)

    def load_relinearisation_key(self) -> None:
        load_relinearisation_key(self.folder / RELINEARISATION_KEY, self.context)

    def load(self, stage: int) -> None:
        """Keys are read in a thread of their own while the others encode bootstrapping's transforms."""
        self.clear()
        slots = self.set.architecture.stage_slots(stage)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._read_rotation_keys, stage)
            set_up_bootstrapping(self.context, self.set, slots, precompute=True)
            reading.result()

    def _read_rotation_keys(self, stage: int) -> None:
        of_every_stage = set.intersection(*map(set, self.manifest.stages.values()))
        if self.shared is None:
            for name in of_every_stage:
                load_rotation_keys(self.folder / name, self.context)
            self.shared = held_rotation_keys()
            clear_rotation_keys()
        for name in self.manifest.stages[str(stage)]:
            if name not in of_every_stage:
                load_rotation_keys(self.folder / name, self.context)
        hold_rotation_keys(self.shared)

    def clear(self) -> None:
        clear_rotation_keys()
        self.context.ClearBootstrapPrecom()
        return_freed_memory()
