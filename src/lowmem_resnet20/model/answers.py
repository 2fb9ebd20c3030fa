"""The source's own answers: logits that somebody computed with it, beside those of the imported network."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WeightsError, on_one_line
from .sourcefile import ZIP_MAGIC, read_regular

#: Logits agree that differ by no more than this part of the largest: float32 leaves a thousandth of that.
AGREEMENT = 1e-3
_LARGEST_BYTES = 1 << 26
_KINDS = "an .npy or .npz array, CSV, or JSON lists, of a row of logits for each picture in its order"


def read_logits(path: Path, count: int, classes: int) -> np.ndarray:
    """Read (count, classes) logits, in the pictures' order, from npy, npz (``logits``, or its only array), CSV (with or
    without a line of names) or JSON (a list of lists, or such a list as ``logits``); told by content.

    Errors: WeightsError saying what was found; EnvironmentFault.
    """
    large = WeightsError(f"{path} is too large for logits")
    content = read_regular(path, _LARGEST_BYTES, large)
    try:
        found = np.asarray(_parsed(content, large), dtype=np.float64)
    except MemoryError:
        raise
    except WeightsError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many kinds
        raise WeightsError(f"{path} holds no logits: {on_one_line(error)}", f"what fits: {_KINDS}") from None
    if found.shape != (count, classes):
        shape = f"({count}, {classes}): a row for each picture"
        raise WeightsError(f"{path} holds an array of shape {found.shape} instead of {shape}", f"what fits: {_KINDS}")
    if not np.isfinite(found).all():
        raise WeightsError(f"{path} has values that are not finite")
    if found.min() >= 0 and np.abs(found.sum(1) - 1).max() < 1e-3:
        raise WeightsError(f"{path} holds probabilities", "give the network's logits, before softmax")
    return found


def difference(logits: np.ndarray, answers: np.ndarray) -> float:
    """Return the worst difference of a logit, (n, classes) both."""
    return float(np.abs(logits - answers).max())


def agree(logits: np.ndarray, answers: np.ndarray) -> bool:
    """Tell whether both, (n, classes), are one network's."""
    return difference(logits, answers) <= AGREEMENT * max(float(np.abs(answers).max()), 1e-6)


def _parsed(content: bytes, large: WeightsError) -> Any:
    if content.startswith(ZIP_MAGIC):
        if sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(content)).infolist()) > _LARGEST_BYTES:
            raise large
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return file["logits"] if "logits" in file or len(file.files) != 1 else file[file.files[0]]
    if content.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(content), allow_pickle=False)
    text = content.decode("utf-8-sig")
    if text.lstrip()[:1] in ("[", "{"):
        found = json.loads(text)
        return found["logits"] if isinstance(found, dict) else found
    lines = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines() if line.strip()]
    return [[float(part) for part in line] for line in (lines if _are_numbers(lines[0]) else lines[1:])]


def _are_numbers(parts: list[str]) -> bool:
    try:
        return [float(part) for part in parts] != []
    except ValueError:
        return False
