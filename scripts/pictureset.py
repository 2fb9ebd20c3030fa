"""Sets of pictures for the scripts: from an npz file, or from folders."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES


@dataclass(frozen=True)
class Pictures:
    """x: (n, 3, 32, 32) in [0, 1]; y: (n,) labels; names: of each picture."""

    x: np.ndarray
    y: np.ndarray
    names: list[str]


def read_pictures(path: Path, count: int | None) -> Pictures:
    """From an npz file or a folder with sub-folders named by class; with ``count`` so many, evenly spaced, for they
    may be sorted by class."""
    found = list(_in_folder(path) if path.is_dir() else _in_npz(path))
    if not found:
        sys.exit(f"{path} has no sub-folders named by class with pictures in them")
    if count and count < len(found):
        found = [found[i * len(found) // count] for i in range(count)]
    x, y, names = zip(*found, strict=True)
    return Pictures(np.stack(x), np.array(y), list(names))


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, uint8 (n, 3, 32, 32), and labels (n,) of an npz file, exact or JPEG."""
    with np.load(path, allow_pickle=False) as file:
        labels = file["y"].astype(np.int64)
        if "x" in file:
            return file["x"], labels
        stream, offsets = file["bytes"].tobytes(), file["offsets"]
    pictures = [np.asarray(Image.open(io.BytesIO(stream[a:b])).convert("RGB")) for a, b in pairwise(offsets)]
    return np.stack(pictures).transpose(0, 3, 1, 2).copy(), labels


def _in_npz(path: Path) -> Iterator[tuple[np.ndarray, int, str]]:
    for i, (picture, label) in enumerate(zip(*read_npz(path), strict=True)):
        yield picture / 255.0, int(label), f"{path.name}[{i}]"


def _in_folder(path: Path) -> Iterator[tuple[np.ndarray, int, str]]:
    for label, name in enumerate(CIFAR10_CLASSES):
        for file in sorted((path / name.lower()).glob("*")):
            yield read_picture(file, resize=True), label, str(file)
