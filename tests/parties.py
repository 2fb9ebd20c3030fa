"""Client and server as tests use them: with the miniature's sets, and files for what travels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowmem_resnet20.client import Client, generate_keys, precision
from lowmem_resnet20.client.client import Named
from lowmem_resnet20.client.precision import LayerPrecision
from lowmem_resnet20.files.envelope import Ciphertext
from lowmem_resnet20.files.group import group_and_place
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.network.weights import Weights
from lowmem_resnet20.openfhe.ciphertexts import Strangers
from lowmem_resnet20.openfhe.context import read_public_key
from lowmem_resnet20.openfhe.library import Ciphertext as OpenfheCiphertext
from lowmem_resnet20.progress.display import Shown
from lowmem_resnet20.server.request import Job
from lowmem_resnet20.server.server import Outcome, Server

__all__ = [
    "decrypt_group",
    "decrypt_logits",
    "encrypt_group",
    "encrypt_picture",
    "evaluate",
    "generate_keys",
    "inspect_checkpoints",
    "read_ciphertext",
]


def encrypt_group(
    folder: Path, set_: ParameterSet, group: Sequence[Named | None], weights: Weights, output: Path
) -> list[str]:
    """Encrypt into a file; returns the id of each picture."""
    ciphertext, ids = Client(folder, weights, set_=set_).encrypt_group(group)
    ciphertext.save(output)
    return ids


def encrypt_picture(
    folder: Path, set_: ParameterSet, pixels: np.ndarray, weights: Weights, output: Path, name: str = "picture"
) -> str:
    return encrypt_group(folder, set_, [Named(pixels, name)], weights, output)[0]


def decrypt_group(
    folder: Path, set_: ParameterSet, path: Path, weights: Weights, group: str | None = None
) -> np.ndarray:
    """(pictures, classes) in a result's file."""
    return Client(folder, weights, set_=set_).decrypt_group(Ciphertext.load(path), group)


def decrypt_logits(
    folder: Path, set_: ParameterSet, path: Path, weights: Weights, picture: str | None = None
) -> np.ndarray:
    """(classes,) of one picture, by the id of its encryption, or in the first place."""
    client = Client(folder, weights, set_=set_)
    group, place = group_and_place(picture, set_.pictures) if picture else (None, 0)
    logits = client.decrypt_group(Ciphertext.load(path), group)[place]
    client.check_logits(path, logits)
    return logits


def inspect_checkpoints(
    folder: Path, set_: ParameterSet, checkpoints: Path, weights: Weights, pixels: np.ndarray, picture: str
) -> list[LayerPrecision]:
    return precision.inspect_checkpoints(Client(folder, weights, set_=set_), checkpoints, pixels, picture)


def read_ciphertext(folder: Path, set_: ParameterSet, path: Path, kind: str, weights: Weights) -> OpenfheCiphertext:
    """A file's ciphertext as OpenFHE's object, once all about it has been checked."""
    client = Client(folder, weights, set_=set_)
    envelope = Ciphertext.load(path).opened()
    envelope.expect(kind, client.belonging)
    return Strangers(client.context, read_public_key(folder / "client" / "public.key")).read(envelope.payload, path)


def evaluate(
    folder: Path,
    set_: ParameterSet,
    jobs: Sequence[Job],
    weights: Weights,
    progress: Shown = None,
    *,
    resume: bool = False,
) -> list[Outcome]:
    with Server(folder, weights, progress, set_=set_) as server:
        return server.evaluate_files(jobs, resume=resume)
