"""What a service takes: bounds that follow from its parameter set, and quotas that its operator may set."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import UsageError
from ..files.sizes import picture_bytes
from ..machine.files import read_bounded
from ..network.parameters import ParameterSet

_LONGEST_FILE = 1 << 16
#: Room for what a file has more of than is foreseen.
_OVERHEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Limits:
    """Quotas, each by its name in STORE/limits.json.

    waiting_jobs: those that have not begun;
    key_folders: those uploaded, or on their way;
    together: jobs of the same keys that one process evaluates;
    free_bytes: what stays free of the disk;
    kept_days: how long a job that is over is kept, an upload that stands still, and keys of a client that was removed.
    """

    waiting_jobs: int = 1000
    key_folders: int = 16
    together: int = 8
    free_bytes: int = 1 << 30
    kept_days: int = 30


def read_limits(path: Path) -> Limits:
    """Read a file, where there is one; what it does not name keeps its default.  Errors: UsageError."""
    if not path.exists():
        return Limits()
    names = [field.name for field in fields(Limits)]
    wrong = UsageError(f"{path} is not a JSON object of whole numbers from 1", f"its names are {', '.join(names)}")
    try:
        found = json.loads(read_bounded(path, _LONGEST_FILE, wrong, wrong))
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(found, dict) or set(found) - set(names):
        raise wrong
    if not all(type(value) is int and value > 0 for value in found.values()):
        raise wrong
    return Limits(**found)


def ciphertext_bytes(set_: ParameterSet) -> int:
    """Return what no file of an encrypted picture, or group of pictures, exceeds."""
    return picture_bytes(set_) + _OVERHEAD_BYTES


def evaluation_bytes(set_: ParameterSet) -> int:
    """Return the memory that one more picture, or group, takes in a process that evaluates several."""
    return set_.ciphertexts(1) * 2 * (set_.multiplicative_depth + 1) * set_.ring_dimension * 8
