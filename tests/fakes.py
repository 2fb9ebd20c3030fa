"""Stand-ins for what is behind the command line, so that its own tests take no encryption.

``install`` puts them where the command line imports them from.  What they were called with is in ``calls``.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fake_worker import ciphertext_of
from lowmem_resnet20.client import client
from lowmem_resnet20.client.encryptions import Entry, pixel_digest
from lowmem_resnet20.client.sealing import encoded, sealer
from lowmem_resnet20.errors import CiphertextError, KeyFolderError
from lowmem_resnet20.files.envelope import Ciphertext
from lowmem_resnet20.files.group import group_and_place
from lowmem_resnet20.files.group import picture_id as id_in_group
from lowmem_resnet20.machine.files import new_folder
from lowmem_resnet20.network.card import Card
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.ranges import Foreseen
from lowmem_resnet20.network.weights import Weights, weights_given

LOGITS = np.array([-0.5, -2.25, 1, 2, -1.5, 9.125, -1, -1, -0.25, -1.5])
PLAIN_LOGITS = LOGITS + np.array([0.25, *[0.0] * 9])

calls: list[tuple] = []
entries: dict[str, Entry] = {}


@cache
def own_weights() -> Weights:
    """Return the program's."""
    return weights_given(None)


def write_ciphertext(path: Path, kind: str, picture: str, payload: bytes) -> str:
    """Write a file as the program does, with bytes that are no ciphertext; returns their digest."""
    ciphertext = ciphertext_of(kind, picture, payload)
    ciphertext.save(path)
    return ciphertext.opened().digest


def picture_id(content: bytes) -> str:
    """Return the id of an encrypted picture, from its file's content."""
    return json.loads(content.splitlines()[1])["sha256"]


def logits_of(number: int) -> np.ndarray:
    """Return those of the number-th encryption: each picture's greatest is another's."""
    return np.roll(LOGITS, number)


def generate_keys(set_, folder: Path, passphrase=None, progress=None) -> None:
    """Note what becomes of a secret key that reads b"secret"."""
    calls.append(("generate_keys", set_.number, folder))
    seal = bytes if passphrase is None else sealer(encoded(passphrase))
    progress.start("generating keys")
    progress.step("keys", "rotation keys")
    with new_folder(folder) as new:
        (new / "client").mkdir()
        (new / "client" / "secret.key").write_bytes(seal(b"secret"))


class Client(client.Client):
    """The client without keys: its list of encryptions is ``entries``; logits tell the number of the encryption."""

    def __init__(self, folder, weights=None, passphrase=None, set_=0) -> None:
        self.folder, self.set = Path(folder), parameter_set(set_)
        if (self.folder / "client" / "refused").exists():
            raise KeyFolderError(f"{self.folder / 'client' / 'secret.key'} can be read by others", "chmod 600 it")
        calls.append(("load_weights", weights))
        network = own_weights()
        self.weights, self.card = (None, weights) if isinstance(weights, Card) else (network, network.card)
        self._foreseen = {}

    def unlock(self) -> None:
        calls.append(("unlock", self.folder))

    def encryptions(self) -> dict[str, Entry]:
        return dict(entries)

    def encrypt_group(self, group) -> tuple[Ciphertext, list[str]]:
        if self.set.pictures == 1:
            [named] = group
            calls.append(("encrypt_picture", self.folder, self.set.number, named.pixels.shape, named.name))
        else:
            calls.append(("encrypt_group", self.folder, self.set.number, [named and named.name for named in group]))
        sent = self.seal(b"picture %d" % len(entries), group)
        ids = [id_in_group(sent.opened().digest, place, self.set.pictures) for place in range(len(group))]
        for identity, named in zip(ids, group, strict=True):
            if named:
                entries[identity] = Entry(identity, pixel_digest(named.pixels), named.name)
        return sent, ids

    def seal(self, payload: bytes, group) -> Ciphertext:
        return ciphertext_of("picture", "", payload)

    def decrypt_group(self, result: Ciphertext, group: str | None = None) -> np.ndarray:
        """Return of each place the logits of that encryption; of an empty one numbers that are none; by place where
        nothing is known of the group."""
        calls.append(("decrypt_group", self.folder, self.set.number, result.path))
        ids = self.answered(result)
        assert group in (None, group_and_place(ids[0], self.set.pictures)[0])
        if not entries:
            return np.array([logits_of(place) for place in range(self.set.pictures)])
        known = list(entries)
        unknown = logits_of(0) if self.set.pictures == 1 else np.full(10, np.nan)
        return np.array([logits_of(known.index(i)) if i in known else unknown for i in ids])

    def check_logits(self, path: Path, numbers) -> None:
        """They are logits."""


def inspect_checkpoints(client: Client, checkpoints: Path, pixels, picture: str) -> list[str]:
    calls.append(("inspect_checkpoints", client.folder, client.set.number, checkpoints, pixels.shape, picture))
    return ["conv1", "conv1.refresh"]


def table(layers: list[str]) -> str:
    return "\n".join(layers)


def self_test(progress) -> None:
    calls.append(("self_test",))
    progress.start("self-test")


class Server:
    """The server in its own process.  Fails for ciphertexts named bad.ct."""

    warnings = (("it is slow", "buy another"),)

    def __init__(self, folder: Path, weights, progress, *, set_: int, anyway: bool) -> None:
        calls.append(("Server", folder, weights, set_, anyway))
        self.folder, self.progress = folder, progress

    def __enter__(self):
        self.progress.start("evaluating")
        self.progress.step("layer1", "block 0")
        return self

    def __exit__(self, *_) -> None:
        """It holds nothing."""

    def evaluate_files(self, jobs, *, resume: bool) -> list[SimpleNamespace]:
        outcomes = []
        for job in jobs:
            calls.append(("evaluate", self.folder, job.ciphertext, job.output, job.checkpoints, resume))
            bad = CiphertextError(f"{job.ciphertext} is bad", "make it again")
            outcomes.append(SimpleNamespace(seconds=2.0, error=bad if job.ciphertext.name == "bad.ct" else None))
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


def import_weights(source: Path, out: Path, pictures: Path, mean=None, std=None, **words) -> SimpleNamespace:
    """Pictures called ``few`` are too few, those called ``labelled`` have classes, and there are no others."""
    assert words.pop("processes") >= 1
    words.pop("progress")
    calls.append(("import_weights", source, out, pictures, mean, std, words))
    right = {"plain": (1, 20), "set 6": (2, 20)} if pictures.name == "labelled" else {}
    return SimpleNamespace(
        architecture="ResNet-20",
        classes="CIFAR-10",
        normalisation="words",
        parameters=272474,
        pictures=3,
        useful_pictures=2,
        too_few="few" in pictures.name,
        largest_bound=7.25,
        epsilon=words["epsilon"] or 1e-5,
        difference=1e-6 if words["logits"] else None,
        right=right,
        compared=bool(right or words["logits"]),
        rarely_right=bool(right),
    )


PLACES = {
    "client": (generate_keys, Client),
    "client.checks": (foresee, alike),
    "client.precision": (inspect_checkpoints, table),
    "client.selftest": (self_test,),
    "server.worker": (Server,),
    "model.plain": (PlainNetwork,),
    "model.importing": (import_weights,),
}


def install(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Put the stand-ins in their places: while ``monkeypatch`` holds, or for the rest of the process."""
    calls.clear()
    entries.clear()
    if not monkeypatch:
        sys.modules.setdefault("torch", None)  # no stand-in needs it, and it takes longer to load than all else
    put: Callable[[Any, str, object], None] = monkeypatch.setattr if monkeypatch else setattr
    for name, members in PLACES.items():
        module = importlib.import_module(f"lowmem_resnet20.{name}")
        for member in members:
            put(module, member.__name__, member)
