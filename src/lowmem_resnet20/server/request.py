"""Requests to a server's process: the line of JSON that it is given on its standard input."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """A picture to classify, or a group of pictures.

    ciphertext: the file of the encrypted picture;
    output: the file that its encrypted logits go to;
    checkpoints: a folder for the ciphertexts after each convolution, refresh and ReLU, which only the client can read.
    """

    ciphertext: Path
    output: Path
    checkpoints: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """All the pictures of one run.

    set_number: of the parameter set, 0 for that of the keys;
    folder: keys/expN, of which the server reads server/ alone;
    jobs: a picture each;
    weights: the file of them, None for the program's own;
    resume: go on where an evaluation to the same outputs was killed;
    anyway: though there seems to be too little memory;
    ray: address of the Ray cluster whose machines evaluate, empty for this machine.
    """

    set_number: int
    folder: Path
    jobs: tuple[Job, ...]
    weights: Path | None = None
    resume: bool = False
    anyway: bool = False
    ray: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        fields: dict[str, Any] = json.loads(text)
        jobs = tuple(
            Job(Path(job["ciphertext"]), Path(job["output"]), _path(job["checkpoints"])) for job in fields.pop("jobs")
        )
        folder, weights = Path(fields.pop("folder")), _path(fields.pop("weights"))
        return cls(folder=folder, weights=weights, jobs=jobs, **fields)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
