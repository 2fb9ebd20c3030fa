"""Everything of an evaluation with OpenFHE: the folder's keys stage by stage, ciphertexts as bytes, the evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import KeyFolderError
from ..files.keystore import CONTEXT, RELINEARISATION_KEY, Manifest
from ..machine.memory import return_freed_memory
from ..network.parameters import ParameterSet
from ..network.resnet20 import plan
from .ciphertexts import payload_of, read_payload
from .context import (
    checked_context,
    clear_relinearisation_keys,
    clear_rotation_keys,
    held_rotation_keys,
    hold_rotation_keys,
    load_relinearisation_key,
    load_rotation_keys,
    set_up_bootstrapping,
)
from .evaluator import OpenfheEvaluator
from .library import Ciphertext
from .trial import Trial


class OpenfheEngine:
    """One key folder, opened.  OpenFHE keeps keys process-wide: there is one at a time.

    Errors: KeyFolderError if the keys do not cover the plan of the set.
    """

    def __init__(self, folder: Path, set_: ParameterSet, manifest: Manifest) -> None:
        check_keys(manifest, set_)
        self.folder, self.set, self.manifest = folder, set_, manifest
        self.context = checked_context(folder / CONTEXT, set_)
        self.evaluator = OpenfheEvaluator(set_, self.context, self._enter_stage)
        self._trial = Trial(folder / CONTEXT)
        self._shared: Mapping[str, object] | None = None  # the keys of every stage, read once
        load_relinearisation_key(folder / RELINEARISATION_KEY, self.context)

    def read(self, payload: bytes, path: Path, *, foreign: bool) -> Ciphertext:
        if foreign:
            self._trial.check(path, payload)
        return read_payload(payload, path)

    def form(self, payload: bytes) -> None:
        """A ciphertext knows its own context."""

    def write(self, x: Ciphertext, form: None) -> bytes:
        return payload_of(x)

    def write_answer(self, x: Ciphertext, form: None) -> bytes:
        return payload_of(self.evaluator.answer(x))

    def close(self) -> None:
        self._clear()
        clear_relinearisation_keys()

    def _clear(self) -> None:
        self._trial.close()  # what others sent is read before any stage
        clear_rotation_keys()
        self.context.ClearBootstrapPrecom()
        return_freed_memory()

    def _enter_stage(self, stage: int) -> None:
        """Keys are read in a thread of their own while the others encode bootstrapping's transforms."""
        self._clear()
        slots = self.set.stage_slots(stage)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._read_rotation_keys, stage)
            set_up_bootstrapping(self.context, self.set, slots, precompute=True)
            reading.result()

    def _read_rotation_keys(self, stage: int) -> None:
        of_every_stage = set.intersection(*map(set, self.manifest.stages.values()))
        if self._shared is None:
            for name in of_every_stage:
                load_rotation_keys(self.folder / name, self.context)
            self._shared = held_rotation_keys()
            clear_rotation_keys()
        for name in self.manifest.stages[str(stage)]:
            if name not in of_every_stage:
                load_rotation_keys(self.folder / name, self.context)
        hold_rotation_keys(self._shared)


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
