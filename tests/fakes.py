"""Stand-ins for the modules behind the command line, so that its own tests take no encryption.

``install`` puts them where the command line imports them from.  What they were called with is in ``calls``.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from lowmem_resnet20.errors import CiphertextError
from lowmem_resnet20.machine.files import atomic_write, new_folder
from lowmem_resnet20.network.ranges import Foreseen

LOGITS = np.array([-0.5, -2.25, 1, 2, -1.5, 9.125, -1, -1, -0.25, -1.5])
PLAIN_LOGITS = LOGITS + np.array([0.25, *[0.0] * 9])

calls: list[tuple] = []


def generate_keys(set_, folder: Path, progress) -> None:
    calls.append(("generate_keys", set_.number, folder))
    progress.start("generating keys")
    progress.step("keys", "rotation keys")
    with new_folder(folder) as new:
        (new / "client").mkdir()


def encrypt_picture(folder: Path, set_, pixels, mean, std, output: Path) -> None:
    calls.append(("encrypt_picture", folder, set_.number, pixels.shape, mean, std, output))
    atomic_write(output, b"picture")


def decrypt_logits(folder: Path, set_, ciphertext: Path, weights) -> np.ndarray:
    calls.append(("decrypt_logits", folder, set_.number, ciphertext))
    return LOGITS


def inspect_checkpoints(folder: Path, set_, checkpoints: Path, weights, pixels) -> list[str]:
    calls.append(("inspect_checkpoints", folder, set_.number, checkpoints, pixels.shape))
    return ["conv1", "conv1.refresh"]


def table(layers: list[str]) -> str:
    return "\n".join(layers)


def self_test(progress) -> None:
    calls.append(("self_test",))
    progress.start("self-test")


@dataclass(frozen=True)
class Job:
    ciphertext: Path
    output: Path
    checkpoints: Path | None = None


def evaluate(folder: Path, set_, jobs, weights, progress, *, resume) -> list[SimpleNamespace]:
    """Fails for ciphertexts named bad.ct."""
    progress.start("evaluating")
    progress.step("layer1", "block 0")
    outcomes = []
    for job in jobs:
        calls.append(("evaluate", folder, set_.number, job.ciphertext, job.output, job.checkpoints, resume))
        error = CiphertextError(f"{job.ciphertext} is bad") if job.ciphertext.name == "bad.ct" else None
        if not error:
            atomic_write(job.output, b"result")
        outcomes.append(SimpleNamespace(job=job, seconds=2.0, error=error))
    return outcomes


def foresee(weights, refresh, pixels) -> Foreseen:
    """In range but for black pictures."""
    return Foreseen(LOGITS, "layer2.0.conv1", 0.75 if pixels.any() else 1.5)


def alike(weights, logits, foreseen) -> bool:
    return bool((logits == foreseen.logits).all())


class PlainNetwork:
    def __init__(self, weights) -> None:
        self.weights = weights

    def logits(self, pixels) -> np.ndarray:
        return PLAIN_LOGITS


def load_weights(path: Path):
    calls.append(("load_weights", path))
    return SimpleNamespace(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def default_weights_path() -> Path:
    return Path("default-weights")


def import_weights(source: Path, out: Path, pictures: Path, mean=None, std=None) -> SimpleNamespace:
    calls.append(("import_weights", source, out, pictures, mean, std))
    return SimpleNamespace(
        parameters=272474,
        pictures=3,
        useful_pictures=2,
        too_few="few" in pictures.name,
        largest_bound=7.25,
        difference=None,
    )


MODULES = {
    "client": (generate_keys, encrypt_picture, decrypt_logits, self_test),
    "inspection": (inspect_checkpoints, table),
    "server": (Job, evaluate),
    "network.ranges": (foresee, alike),
    "model.plain": (PlainNetwork,),
    "network.weights": (load_weights, default_weights_path),
    "model.importing": (import_weights,),
}


def install() -> None:
    """Replace the modules for the rest of the process; pytest's monkeypatch undoes it where it is used."""
    calls.clear()
    for name, members in MODULES.items():
        module = ModuleType(f"lowmem_resnet20.{name}")
        for member in members:
            setattr(module, member.__name__, member)
        sys.modules[module.__name__] = module
        package, _, last = module.__name__.rpartition(".")
        setattr(importlib.import_module(package), last, module)
