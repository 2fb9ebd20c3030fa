"""The server: evaluates the network on an encrypted picture with evaluation keys alone.

It reads keys/expN/server, the weights and ciphertexts.  Nothing here can decrypt; no function takes a secret key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import CiphertextError, EnvironmentFault, KeyFolderError, LowmemError, WeightsError, on_one_line
from .fhe.ciphertexts import CHECKPOINT, LOGITS, PICTURE, Facts, read_ciphertext, write_ciphertext
from .fhe.context import (
    checked_context,
    clear_relinearisation_keys,
    clear_rotation_keys,
    held_rotation_keys,
    hold_rotation_keys,
    load_relinearisation_key,
    load_rotation_keys,
    set_up_bootstrapping,
)
from .fhe.keystore import CONTEXT, RELINEARISATION_KEY, SERVER, Manifest, open_folder
from .fhe.openfhe_evaluator import EncryptedEvaluator
from .fhe.resume import Run, Unfinished
from .machine.files import make_folder, sha256
from .machine.memory import available_bytes, return_freed_memory
from .network.parameters import PICTURE_LEVELS, ParameterSet
from .network.resnet20 import Network, Part, Plan, input_channels, plan
from .network.scaling import scale
from .network.weights import Weights
from .terminal.progress import Progress, Step, format_bytes


@dataclass(frozen=True)
class Job:
    """One picture to classify.  ciphertext: the encrypted picture; output: where its encrypted logits go; checkpoints:
    a folder for the ciphertexts after each convolution, refresh and ReLU, which only the client can read."""

    ciphertext: Path
    output: Path
    checkpoints: Path | None = None


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
    evaluator_type: type[EncryptedEvaluator] = EncryptedEvaluator,
) -> list[Outcome]:
    """Evaluate the network on each encrypted picture; writes the encrypted logits.

    All pictures pass through a stage before the next, so that the keys of each are loaded once.  After each part of
    the network what there is of a picture is kept beside its output (see :mod:`.fhe.resume`); ``resume`` goes on from
    there.  folder: keys/expN, of which server/ alone is read.

    Errors: KeyFolderError, WeightsError, PlanError, EnvironmentFault, before the first layer.  What is wrong with one
    picture is in its outcome, and the others go on.
    """
    if weights.architecture != set_.architecture:
        raise WeightsError("the weights are for another network than the parameter set")
    check_memory(set_)
    progress.start(f"evaluating with parameter set {set_.number}")
    progress.step("keys", "checking")
    manifest = open_folder(folder / SERVER, set_)
    check_keys(manifest, set_)
    stages = _Stages(folder / SERVER, set_, manifest)
    evaluator = evaluator_type(set_, stages.context, stages.load)
    progress.step("keys", "encrypted pictures")
    scaled = scale(weights, set_.refresh)
    pictures = []
    for i, job in enumerate(jobs):
        observer = _Observer(progress, evaluator, job.checkpoints, manifest.keys, _label(i, len(jobs)))
        pictures.append(_Picture(Outcome(job), Network(set_, scaled, evaluator, observer)))
    for picture in pictures:
        with picture.trying():
            picture.read(folder / SERVER / CONTEXT, manifest.keys, weights, resume)
    planned = plan(set_)
    progress.expect(_steps(planned, pictures))
    try:
        load_relinearisation_key(folder / SERVER / RELINEARISATION_KEY, stages.context)
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
    return [picture.outcome for picture in pictures]


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
    """That the rotation keys of each stage cover the plan and bootstrapping; OpenFHE would end the process.  And that
    what else is read is among the files that were checked."""
    for name in (CONTEXT, RELINEARISATION_KEY):
        if name not in manifest.files:
            raise KeyFolderError(f"the manifest of the keys does not name {name}")
    for stage, steps in plan(set_).rotations.items():
        needed = {step % set_.full_slots for step in steps} | set(manifest.bootstrapping.get(str(stage), ()))
        missing = sorted(needed - manifest.steps(stage))
        if missing:
            raise KeyFolderError(f"the keys of stage {stage} lack rotations by {', '.join(map(str, missing[:8]))}")


def _label(index: int, count: int) -> str:
    """Goes before the stage where there are several pictures."""
    return f"{index + 1}/{count} " if count > 1 else ""


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
                    label = picture.network.observer.label
                    kinds = ((layer, name, name.partition(" ")[2]) for layer, name in planned.steps[part.name])
                    steps += [Step(label + layer, name, kind) for layer, name, kind in kinds]
    return steps


@dataclass
class _Picture:
    """One picture on its way through the network.  ahead: the parts still to come; state: the ciphertexts so far."""

    outcome: Outcome
    network: Network
    ahead: list[Part] = field(default_factory=list)
    state: tuple[Any, ...] = ()
    unfinished: Unfinished | None = None

    def read(self, context: Path, keys: str, weights: Weights, resume: bool) -> None:
        """Read the encrypted picture, or what an evaluation of it that was killed has left."""
        job, set_ = self.outcome.job, self.network.set
        picture, _ = read_ciphertext(job.ciphertext, PICTURE, keys, context=context)
        _check_picture(self.network.ev, picture, job.ciphertext)
        run = Run(sha256(job.ciphertext), weights.fingerprint, set_.fingerprint, keys)
        self.unfinished = Unfinished.beside(job.output, run)
        parts = self.network.parts()
        kept = self.unfinished.load([part.name for part in parts]) if resume else None
        done, self.state = kept or ("", (picture,))
        self.ahead = parts[[part.name for part in parts].index(done) + 1 :] if kept else parts
        if job.checkpoints is not None:
            make_folder(job.checkpoints)

    def has_work(self, stage: int) -> bool:
        return not self.outcome.error and any(part.stage == stage for part in self.ahead)

    def evaluate(self, stage: int) -> None:
        """The parts of a stage, each kept when it is complete; after the last of all, the result."""
        started = time.monotonic()
        while self.ahead and self.ahead[0].stage == stage:
            part = self.ahead[0]
            self.state = part.run(self.state)
            self.ahead.pop(0)
            if self.ahead:
                self.unfinished.save(part.name, self.state)
        if not self.ahead:
            observer = self.network.observer
            logits = observer.evaluator.for_client(self.state[0])
            write_ciphertext(self.outcome.job.output, logits, Facts(LOGITS, observer.keys))
            self.unfinished.remove()
        self.outcome.seconds += time.monotonic() - started

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Keep an error that concerns this picture alone."""
        try:
            yield
        except (CiphertextError, EnvironmentFault) as error:
            self.outcome.error = error
        except RuntimeError as error:  # OpenFHE's own, of a ciphertext that is not what it claims to be
            self.outcome.error = CiphertextError(
                f"{self.outcome.job.ciphertext} cannot be evaluated: {on_one_line(error)}"
            )


def _check_picture(evaluator: EncryptedEvaluator, picture: Any, path: Path) -> None:
    architecture = evaluator.set.architecture
    slots = input_channels(architecture) * architecture.width**2
    if evaluator.slots(picture) != slots or evaluator.levels(picture) < PICTURE_LEVELS:
        raise CiphertextError(f"{path} is not a picture of {slots} slots with a level to compute on")


@dataclass
class _Stages:
    """Rotation keys and bootstrapping of one stage at a time.  shared: the keys of every stage, read once."""

    folder: Path
    set: ParameterSet
    manifest: Manifest
    shared: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.context = checked_context(self.folder / CONTEXT, self.set)

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


@dataclass
class _Observer:
    """Passes the network's steps on as progress, and leaves its values as checkpoints where there is a folder."""

    progress: Progress
    evaluator: EncryptedEvaluator
    checkpoints: Path | None
    keys: str
    label: str

    def step(self, stage: str, name: str) -> None:
        self.progress.step(self.label + stage, name)

    def value(self, name: str, x: Any) -> None:
        if self.checkpoints is not None:
            facts = Facts(CHECKPOINT, self.keys, name)
            write_ciphertext(self.checkpoints / f"{name}.ct", self.evaluator.for_client(x), facts)
