"""A process of the cluster that evaluates pictures: it opens the keys once, and keeps them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import told, with_names
from ..machine.faults import explain
from ..machine.files import os_errors
from ..machine.memory import peak_resident_bytes
from ..machine.variables import THREADS
from .keycache import cache_folder, scratch_folder

if TYPE_CHECKING:
    from ..network.parameters import ParameterSet
    from ..server.server import Server


@dataclass(frozen=True)
class Answer:
    """A worker's answer to a picture.

    line: seconds, peak_bytes, and error, hint and exit_code if it failed;
    result: the file of encrypted logits;
    checkpoints: files by name.
    """

    line: dict[str, Any]
    result: bytes = b""
    checkpoints: dict[str, bytes] = field(default_factory=dict)


class Worker:
    """Opens the keys once, and evaluates pictures.

    cores: threads of what it computes with, set before any of it is loaded.
    """

    def __init__(self, cores: int) -> None:
        for name in (THREADS, "OMP_NUM_THREADS"):
            os.environ[name] = str(cores)
        self._server: Server | None = None

    def open(self, set_: ParameterSet, keys: str, weights: bytes, *, anyway: bool) -> dict[str, Any]:
        """Check the keys in the folder ``keys`` of this machine and open them; the error if they cannot be.

        weights: the file's content; anyway: though there seems to be too little memory.
        """
        try:
            self._server = _open(set_, Path(keys), weights, anyway=anyway)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run's own process tells it in a line
            return told(explain(error))
        return {}

    def evaluate(self, picture: bytes, name: str, checkpoints: bool) -> Answer:
        """Evaluate the file of an encrypted picture, or group, which whoever sent it knows as ``name``."""
        assert self._server is not None
        try:
            with scratch_folder(cache_folder()) as folder:
                return _evaluate(self._server, folder, picture, name, checkpoints)
        except Exception as error:  # noqa: BLE001
            return Answer({"seconds": 0.0, "peak_bytes": peak_resident_bytes()} | told(explain(error)))


def _open(set_: ParameterSet, keys: Path, weights: bytes, *, anyway: bool) -> Server:
    from ..network.weights import load_weights
    from ..server.server import Server

    with scratch_folder(cache_folder()) as folder:
        file = folder / "weights"
        with os_errors("write", file):
            file.write_bytes(weights)
        loaded = load_weights(file)
    return Server(keys, loaded, set_=set_, anyway=anyway)


def _evaluate(server: Server, folder: Path, picture: bytes, name: str, checkpoints: bool) -> Answer:
    from ..server.request import Job

    job = Job(folder / "picture.ct", folder / "result.ct", folder / "checkpoints" if checkpoints else None)
    with os_errors("write", folder):
        job.ciphertext.write_bytes(picture)
    [outcome] = server.evaluate_files([job])
    line: dict[str, Any] = {"seconds": outcome.seconds, "peak_bytes": peak_resident_bytes()}
    if outcome.error:
        return Answer(line | told(with_names(outcome.error, {job.ciphertext: name})))
    with os_errors("read", folder):
        left = {path.name: path.read_bytes() for path in job.checkpoints.iterdir()} if job.checkpoints else {}
        return Answer(line, job.output.read_bytes(), left)
