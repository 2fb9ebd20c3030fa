"""The service as a process with real keys of the miniature: a whole round trip, and what becomes of jobs when it is killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20 import client as encryption
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.terminal.progress import SilentProgress
from miniature import random_picture
from serving import SET, Process, upload_folder, wait_for, weights

WEIGHTS = weights()


class Owner:
    """A client with keys of its own: encrypts numbered pictures, and compares what comes back."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.ciphertext = folder / "p.ct"
        encryption.generate_keys(SET, folder / "exp6", SilentProgress())

    def picture(self, number: int) -> np.ndarray:
        return random_picture(SET.architecture, np.random.default_rng([self.seed, number]))

    def encrypt(self, number: int) -> bytes:
        encryption.encrypt_picture(self.folder / "exp6", SET, self.picture(number), WEIGHTS, self.ciphertext, "p")
        return self.ciphertext.read_bytes()

    def difference(self, number: int, result: bytes) -> float:
        """Of the decrypted logits from the picture's in the clear, at worst."""
        path = self.folder / "r.ct"
        path.write_bytes(result)
        logits = encryption.decrypt_logits(self.folder / "exp6", SET, path, WEIGHTS)
        return float(np.abs(logits - forward(WEIGHTS, self.picture(number))["fc"]).max())


@pytest.fixture(scope="module")
def owner(tmp_path_factory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner"), 1)


def test_a_round_trip(owner, tmp_path):
    with Process(tmp_path / "store") as process, process.client() as client:
        name = upload_folder(client, owner.folder / "exp6" / "server")
        job = client.post("/v1/jobs", params={"keys": name}, content=owner.encrypt(0)).json()["job"]
        found = wait_for(client, job, seconds=400)
        print(found, process.log.read_text())
        assert found["state"] == "done", found
        assert owner.difference(0, client.get(f"/v1/jobs/{job}/result").content) < 0.1
        assert process.end(15) == 143
        print(process.log.read_text())
