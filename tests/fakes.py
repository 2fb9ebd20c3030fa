"""Stand-ins for the modules behind the command line, so that its own tests take no encryption.

``install`` puts them where the command line imports them from.  What they were called with is in ``calls``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from lowmem_resnet20.client.encryptions import Entry, pixel_digest
from lowmem_resnet20.errors import CiphertextError, KeyFolderError
from lowmem_resnet20.files import group as groups
from lowmem_resnet20.machine.files import new_folder
from lowmem_resnet20.network.ranges import Foreseen

LOGITS = np.array([-0.5, -2.25, 1, 2, -1.5, 9.125, -1, -1, -0.25, -1.5])
PLAIN_LOGITS = LOGITS + np.array([0.25, *[0.0] * 9])

calls: list[tuple] = []
entries: dict[str, Entry] = {}
trials: list[str] = []


def write_ciphertext(path: Path, kind: str, picture: str, payload: bytes) -> str:
    """A file as of the program, with bytes that are no ciphertext; returns their digest."""
    digest = hashlib.sha256(payload).hexdigest()
    facts = {"set": "1", "keys": "k", "weights": "w", "computation": "c", "kind": kind, "picture": picture, "layer": ""}
    line = json.dumps(facts | {"sha256": digest})
    path.write_bytes(b"lowmem-resnet20 ciphertext 2\n" + line.encode() + b"\n" + payload)
    return digest


def picture_id(content: bytes) -> str:
    """The id of an encrypted picture, from its file's content."""
    return json.loads(content.splitlines()[1])["sha256"]


def logits_of(number: int) -> np.ndarray:
    """Those of the number-th encryption: each picture's greatest is another's."""
    return np.roll(LOGITS, number)


def generate_keys(set_, folder: Path, progress, seal) -> None:
    """Notes what becomes of a secret key that reads b"secret"."""
    calls.append(("generate_keys", set_.number, folder))
    progress.start("generating keys")
    progress.step("keys", "rotation keys")
    with new_folder(folder) as new:
        (new / "client").mkdir()
        (new / "client" / "secret.key").write_bytes(seal(b"secret"))


def encrypt_picture(folder: Path, set_, pixels, weights, output: Path, name: str) -> str:
    calls.append(("encrypt_picture", folder, set_.number, pixels.shape, name, output))
    identity = write_ciphertext(output, "picture", "", b"picture %d" % len(entries))
    entries[identity] = Entry(identity, pixel_digest(pixels), name)
    return identity


def encrypt_group(folder: Path, set_, group, weights, output: Path) -> list[str]:
    if set_.pictures == 1:
        [named] = group
        return [encrypt_picture(folder, set_, named.pixels, weights, output, named.name)]
    calls.append(("encrypt_group", folder, set_.number, [named and named.name for named in group], output))
    identity = write_ciphertext(output, "picture", "", b"group %d" % len(entries))
    ids = [groups.picture_id(identity, place, set_.pictures) for place in range(len(group))]
    for identity, named in zip(ids, group, strict=True):
        if named:
            entries[identity] = Entry(identity, pixel_digest(named.pixels), named.name)
    return ids


class Named(SimpleNamespace):
    def __init__(self, pixels, name: str) -> None:
        super().__init__(pixels=pixels, name=name)


def check_decryption(folder: Path, set_) -> None:
    """Where there are keys, their secret one may be refused."""
    if (folder / "client" / "refused").exists():
        raise KeyFolderError(f"{folder / 'client' / 'secret.key'} can be read by others", "chmod 600 it")


def check_encryption(folder: Path, set_) -> None:
    check_decryption(folder, set_)


def encryptions(folder: Path, set_) -> dict[str, Entry]:
    return dict(entries)


def decrypt_logits(folder: Path, set_, ciphertext: Path, weights, picture: str) -> np.ndarray:
    calls.append(("decrypt_logits", folder, set_.number, ciphertext))
    answered = json.loads(ciphertext.read_bytes().splitlines()[1])["picture"]
    assert answered == picture
    return logits_of(list(entries).index(picture) if picture in entries else 0)


def decrypt_group(folder: Path, set_, ciphertext: Path, weights, group: str, trial: str) -> list[np.ndarray]:
    """Of each place the logits of that encryption; of an empty one numbers that are none; by place where
    nothing is known of the group."""
    assert trial == trials[-1]
    if set_.pictures == 1:
        return [decrypt_logits(folder, set_, ciphertext, weights, group)]
    calls.append(("decrypt_group", folder, set_.number, ciphertext))
    assert json.loads(ciphertext.read_bytes().splitlines()[1])["picture"] == group
    ids = [groups.picture_id(group, place, set_.pictures) for place in range(set_.pictures)]
    if not entries:
        return [logits_of(place) for place in range(set_.pictures)]
    return [logits_of(list(entries).index(i)) if i in entries else np.full(10, np.nan) for i in ids]


def trial_of(folder: Path) -> nullcontext:
    """What several results are to share."""
    trials.append(f"the trial of {folder}")
    return nullcontext(trials[-1])


def check_logits(ciphertext: Path, weights, numbers) -> None:
    """They are logits."""


def inspect_checkpoints(folder: Path, set_, checkpoints: Path, weights, pixels, picture: str, trial: str) -> list[str]:
    assert trial == trials[-1]
    calls.append(("inspect_checkpoints", folder, set_.number, checkpoints, pixels.shape, picture))
    return ["conv1", "conv1.refresh"]


def table(layers: list[str]) -> str:
    return "\n".join(layers)


def self_test(progress) -> None:
    calls.append(("self_test",))
    progress.start("self-test")


def check_memory(set_) -> None:
    calls.append(("check_memory", set_.number))


def evaluate(folder: Path, set_, jobs, weights, progress, *, resume) -> list[SimpleNamespace]:
    """Fails for ciphertexts named bad.ct."""
    progress.start("evaluating")
    progress.step("layer1", "block 0")
    outcomes = []
    for job in jobs:
        calls.append(("evaluate", folder, set_.number, job.ciphertext, job.output, job.checkpoints, resume))
        error = (
            CiphertextError(f"{job.ciphertext} is bad", "make it again") if job.ciphertext.name == "bad.ct" else None
        )
        outcomes.append(SimpleNamespace(job=job, seconds=2.0, error=error))
    return outcomes


def foresee(weights, refresh, pixels) -> Foreseen:
    """In range but for black pictures."""
    return Foreseen(LOGITS, "layer2.0.conv1", 0.75 if pixels.any() else 1.5)


def alike(weights, logits, foreseen) -> bool:
    """Whichever encryption's they are."""
    return sorted(logits) == sorted(foreseen.logits)


class PlainNetwork:
    library = "numpy 2"

    def __init__(self, weights) -> None:
        self.weights = weights

    def logits(self, pixels) -> np.ndarray:
        return PLAIN_LOGITS


def load_weights(path: Path):
    calls.append(("load_weights", path))
    return SimpleNamespace(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def default_weights_path() -> Path:
    return Path("default-weights")


def import_weights(source: Path, out: Path, pictures: Path, mean=None, std=None, *, epsilon=None) -> SimpleNamespace:
    calls.append(("import_weights", source, out, pictures, mean, std, epsilon))
    return SimpleNamespace(
        parameters=272474,
        pictures=3,
        useful_pictures=2,
        too_few="few" in pictures.name,
        largest_bound=7.25,
        epsilon=epsilon or 1e-5,
        difference=None,
    )


MODULES = {
    "client": (
        generate_keys,
        Named,
        encrypt_group,
        check_encryption,
        check_decryption,
        encryptions,
        decrypt_group,
        trial_of,
        check_logits,
        self_test,
    ),
    "inspection": (inspect_checkpoints, table),
    "server": (check_memory, evaluate),
    "network.ranges": (foresee, alike),
    "model.plain": (PlainNetwork,),
    "network.weights": (load_weights, default_weights_path),
    "model.importing": (import_weights,),
}


def install() -> None:
    """Replace the modules for the rest of the process; pytest's monkeypatch undoes it where it is used."""
    calls.clear()
    entries.clear()
    trials.clear()
    for name, members in MODULES.items():
        module = ModuleType(f"lowmem_resnet20.{name}")
        for member in members:
            setattr(module, member.__name__, member)
        sys.modules[module.__name__] = module
        package, _, last = module.__name__.rpartition(".")
        setattr(importlib.import_module(package), last, module)
