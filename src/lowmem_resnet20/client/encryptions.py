"""The client's own list of what it has encrypted: which picture each encryption's id stands for.

Results name the id of the encrypted picture that they answer, and nothing else travels: the names of pictures stay in
this file, ``pictures.jsonl`` in the client's key folder, a line of JSON an encryption.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..machine.files import os_fault

FILE_NAME = "pictures.jsonl"


@dataclass(frozen=True)
class Entry:
    """An encryption.

    id: of the ciphertext, in a group with the picture's place (see :mod:`..files.group`);
    pixels: digest of what was encrypted;
    name: of the picture.
    """

    id: str
    pixels: str
    name: str


def pixel_digest(pixels: np.ndarray) -> str:
    """Return a digest of pixels (colours, width, width) in [0, 1], whatever the picture's file is called."""
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.float64).tobytes()).hexdigest()


def record(folder: Path, entry: Entry) -> None:
    """Add an encryption to the list in the client's key folder.  Errors: EnvironmentFault."""
    path = folder / FILE_NAME
    line = (json.dumps(asdict(entry)) + "\n").encode()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "r+b", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # cut off: it must not spoil this one too
                line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise os_fault(error, "write", path) from error


def read_entries(folder: Path) -> dict[str, Entry]:
    """Return the encryptions by id; a line that a power cut left incomplete is left out.  Errors: EnvironmentFault."""
    path = folder / FILE_NAME
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise os_fault(error, "read", path) from error
    entries = {}
    for line in lines:
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue
        entries[entry.id] = entry
    return entries
