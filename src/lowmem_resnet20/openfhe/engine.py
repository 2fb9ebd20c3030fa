"""OpenFHE's engine: the folder's keys stage by stage, ciphertexts as bytes, the evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..files.keystore import CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY, Manifest
from ..machine.memory import return_freed_memory
from ..network.parameters import ParameterSet
from .ciphertexts import Strangers, payload_of
from .context import (
    checked_context,
    clear_relinearisation_keys,
    clear_rotation_keys,
    held_rotation_keys,
    hold_rotation_keys,
    load_relinearisation_key,
    load_rotation_keys,
    read_public_key,
    set_up_bootstrapping,
)
from .evaluator import OpenfheEvaluator
from .library import Ciphertext


class OpenfheEngine:
    """One key folder, opened.  OpenFHE keeps keys process-wide: there is one at a time.

    manifest: of keys that cover the plan of the set (:func:`..files.keystore.check_coverage`).  Errors: KeyFolderError.
    """

    def __init__(self, folder: Path, set_: ParameterSet, manifest: Manifest) -> None:
        self.folder, self.set, self.manifest = folder, set_, manifest
        self.context = checked_context(folder / CONTEXT, set_)
        self.evaluator = OpenfheEvaluator(set_, self.context, self._enter_stage)
        self._shared: Mapping[str, object] | None = None  # the keys of every stage, read once
        self._strangers = Strangers(self.context, read_public_key(folder / PUBLIC_KEY))
        load_relinearisation_key(folder / RELINEARISATION_KEY, self.context)

    def read(self, payload: bytes, path: Path) -> Ciphertext:
        return self._strangers.read(payload, path)

    def form(self, payload: bytes) -> None:
        """Return nothing: a ciphertext knows its own context."""

    def write(self, x: Ciphertext, form: None) -> bytes:
        return payload_of(x)

    def write_answer(self, x: Ciphertext, form: None) -> bytes:
        return payload_of(self.evaluator.answer(x))

    def warnings(self) -> list[tuple[str, str]]:
        return []

    def close(self) -> None:
        self._clear()
        clear_relinearisation_keys()

    def _clear(self) -> None:
        clear_rotation_keys()
        self.context.ClearBootstrapPrecom()
        return_freed_memory()

    def _enter_stage(self, stage: int) -> None:
        """Read keys in a thread of their own while the others encode bootstrapping's transforms."""
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
