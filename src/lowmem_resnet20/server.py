"""The server: evaluates the network on an encrypted picture with evaluation keys alone.

It reads keys/expN/server, the weights and a ciphertext.  Nothing here can decrypt; no function takes a secret key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ciphertexts import CHECKPOINT, LOGITS, PICTURE, Facts, read_ciphertext, write_ciphertext
from .context import (
    clear_relinearisation_keys,
    clear_rotation_keys,
    load_relinearisation_key,
    load_rotation_keys,
    read_context,
    return_freed_memory,
    set_up_bootstrapping,
)
from .encrypted import EncryptedEvaluator
from .errors import CiphertextError, KeyFolderError, WeightsError
from .files import os_fault
from .keystore import CONTEXT, RELINEARISATION_KEY, SERVER, Manifest, open_folder
from .network import Network, input_channels, plan
from .parameters import PICTURE_LEVELS, ParameterSet
from .progress import Progress
from .scaling import scale
from .weights import Weights


def evaluate(
    folder: Path,
    set_: ParameterSet,
    ciphertext: Path,
    output: Path,
    weights: Weights,
    progress: Progress,
    checkpoints: Path | None = None,
) -> None:
    """Evaluate the network on the picture in ``ciphertext``; writes the encrypted logits to ``output``.

    folder: keys/expN, of which server/ alone is read.  checkpoints: a folder for the ciphertexts after each
    convolution, refresh and ReLU, which only the client can read.

    Errors: KeyFolderError, CiphertextError, WeightsError, PlanError, EnvironmentFault; all before the first
    layer, but for failures to write.
    """
    if weights.architecture != set_.architecture:
        raise WeightsError("the weights are for another network than the parameter set")
    progress.start(f"evaluating with parameter set {set_.number}")
    progress.step("keys", "checking")
    manifest = open_folder(folder / SERVER, set_)
    check_keys(manifest, set_)
    progress.step("keys", "rotation keys and bootstrapping")
    context = read_context(folder / SERVER / CONTEXT)
    picture = read_ciphertext(ciphertext, PICTURE, manifest.keys)
    stages = _Stages(folder / SERVER, set_, manifest, context)
    evaluator = EncryptedEvaluator(set_, context, stages.load)
    _check_picture(evaluator, picture, ciphertext)
    if checkpoints is not None:
        _make_folder(checkpoints)
    observer = _Observer(progress, evaluator, checkpoints, manifest.keys)
    try:
        load_relinearisation_key(folder / SERVER / RELINEARISATION_KEY, context)
        logits = Network(set_, scale(weights, set_.refresh.reach), evaluator, observer).run(picture)
    finally:
        stages.clear()
        clear_relinearisation_keys()
    write_ciphertext(output, evaluator.for_client(logits), Facts(LOGITS, manifest.keys))


def check_keys(manifest: Manifest, set_: ParameterSet) -> None:
    """That the rotation keys of each stage cover the plan and bootstrapping; OpenFHE would end the process."""
    for stage, steps in plan(set_).rotations.items():
        needed = {step % set_.full_slots for step in steps} | set(manifest.bootstrapping.get(str(stage), ()))
        missing = sorted(needed - manifest.steps(stage))
        if missing:
            raise KeyFolderError(f"the keys of stage {stage} lack rotations by {', '.join(map(str, missing[:8]))}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_fault(error, "write", path) from error


def _check_picture(evaluator: EncryptedEvaluator, picture: Any, path: Path) -> None:
    architecture = evaluator.set.architecture
    slots = input_channels(architecture) * architecture.width**2
    if evaluator.slots(picture) != slots or evaluator.levels(picture) < PICTURE_LEVELS:
        raise CiphertextError(f"{path} is not a picture of {slots} slots with a level to compute on")


@dataclass
class _Stages:
    """Rotation keys and bootstrapping of one stage at a time."""

    folder: Path
    set: ParameterSet
    manifest: Manifest
    context: Any

    def load(self, stage: int) -> None:
        self.clear()
        for name in self.manifest.stages[str(stage)]:
            load_rotation_keys(self.folder / name, self.context)
        slots = self.set.architecture.stage_slots(stage)
        set_up_bootstrapping(self.context, self.set, slots, precompute=True)

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

    def step(self, stage: str, name: str) -> None:
        self.progress.step(stage, name)

    def value(self, name: str, x: Any) -> None:
        if self.checkpoints is not None:
            facts = Facts(CHECKPOINT, self.keys, name)
            write_ciphertext(self.checkpoints / f"{name}.ct", self.evaluator.for_client(x), facts)
