"""Pictures with the classes that they are of: folders named by class, an npz file; or pictures without."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import PictureError, on_one_line
from ..machine.files import os_fault
from ..network.architecture import Architecture
from .picture import decode_picture, is_named_as_picture, pictures_in, read_picture
from .sourcefile import LARGEST_BYTES, ZIP_MAGIC

#: Names of classes that a hint lists.
_SHOWN = 12


@dataclass(frozen=True)
class Pictures:
    """Pictures as a network takes them.

    pixels: (n, colours, width, width), uint8;
    y: (n,) the class of each, as an index; None where nothing tells;
    names: of each, for the reader;
    classes: what the folders are called, in the order of their names; empty where they are not folders of classes.
    """

    pixels: np.ndarray
    y: np.ndarray | None
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()

    @cached_property
    def x(self) -> np.ndarray:
        """The pixels in [0, 1], float64."""
        return self.pixels / 255.0

    def some(self, count: int) -> Pictures:
        """Return ``count`` of them, or all where there are no more, evenly spaced, for they may be sorted by class."""
        count = min(count, len(self.pixels))
        chosen = np.arange(count) * len(self.pixels) // count
        labels = None if self.y is None else self.y[chosen]
        return replace(self, pixels=self.pixels[chosen], y=labels, names=tuple(self.names[i] for i in chosen))


def read_pictures(path: Path, architecture: Architecture, classes: Sequence[str] = ()) -> Pictures:
    """Read ``path``: a picture, a folder of pictures, a folder of class folders, or an npz file.

    Pictures in folders are cropped and scaled as the word ``resize`` does.  Folders are named by class, in any case of
    letters; hidden ones are no part of it.  An npz file holds ``x``, uint8 (n, colours, width, width) or (n, width,
    width) for one colour, or JPEG files one after the other (``bytes``, ``offsets``); and perhaps ``y``, (n,).

    classes: names by index; without, class folders are numbered in the order of their names.

    Errors: PictureError, also for a folder or label that is none of the classes, and for what class folders would
    leave out: pictures beside them, folders in them; EnvironmentFault.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise PictureError(f"there are no pictures {path}", "give .png or .jpg files, or an npz with x")
    folders = class_folders(path)
    if folders:
        return _of_classes(path, folders, architecture, classes)
    if _is_zip(path):
        return _of_npz(path, architecture, classes)
    files = pictures_in(path)
    return Pictures(_read(files, architecture), None, tuple(map(str, files)))


def class_folders(path: Path) -> list[Path]:
    """Return the folders in a folder, by name, without hidden ones.  Errors: EnvironmentFault."""
    if not os.path.isdir(path):
        return []
    try:
        found = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    except OSError as error:
        raise os_fault(error, "read", path) from error
    return found


def picture_files(path: Path) -> list[Path]:
    """Return the files that :func:`read_pictures` reads.  Errors: as of it."""
    return [file for folder in class_folders(path) for file in pictures_in(folder)] or pictures_in(path)


def label_of(name: str, classes: Sequence[str], path: Path) -> int:
    """Return the index of a folder's class.  Errors: PictureError."""
    for said in (_composed, lambda text: _composed(text).casefold()):
        found = [index for index, known in enumerate(classes) if said(known) == said(name)]
        if len(found) == 1:
            return found[0]
    more = ", .." if len(classes) > _SHOWN else ""
    raise PictureError(
        f"{path} is named by no class of the network", f"its classes are {', '.join(classes[:_SHOWN])}{more}"
    )


def _composed(name: str) -> str:
    """Return a name with each accent in its letter: some systems keep those of files apart."""
    return unicodedata.normalize("NFC", name)


def _of_classes(path: Path, folders: list[Path], architecture: Architecture, classes: Sequence[str]) -> Pictures:
    names = tuple(_composed(folder.name) for folder in folders)
    beside = [file for file in path.iterdir() if is_named_as_picture(file)]
    if beside:
        raise PictureError(f"{min(beside)} is in none of the class folders of {path}", "move it into that of its class")
    files, labels = [], []
    for folder in folders:
        label = label_of(folder.name, classes or names, folder)
        if inside := class_folders(folder):
            raise PictureError(f"{inside[0]} is a folder in a class folder", "only NAME/PICTURE is read: move it")
        found = pictures_in(folder)
        files += found
        labels += [label] * len(found)
    return Pictures(_read(files, architecture), np.array(labels), tuple(map(str, files)), names)


def _read(files: list[Path], architecture: Architecture) -> np.ndarray:
    width, colours = architecture.width, architecture.input_channels
    pixels = np.empty((len(files), colours, width, width), np.uint8)
    for number, file in enumerate(files):
        pixels[number] = np.rint(read_picture(file, width, resize=True, colours=colours) * 255)
    return pixels


def _is_zip(path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError as error:
        raise os_fault(error, "read", path) from error


def _of_npz(path: Path, architecture: Architecture, classes: Sequence[str]) -> Pictures:
    width, colours = architecture.width, architecture.input_channels
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_BYTES:
            raise PictureError(
                f"{path} unpacks to more than {LARGEST_BYTES >> 30} GiB", "give fewer pictures at a time"
            )
        with np.load(path, allow_pickle=False) as file:
            x = file["x"] if "x" in file else _decoded(file["bytes"].tobytes(), file["offsets"], path, width)
            x = np.asarray(x)  # a member that is no array is bytes
            y = file["y"].astype(np.int64) if "y" in file else None
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many kinds
        raise PictureError(f"{path} holds no pictures x: {on_one_line(error)}") from None
    if colours == 1 and x.ndim == 3:
        x = x[:, None]
    if x.dtype != np.uint8 or x.shape[1:] != (colours, width, width) or not len(x):
        raise PictureError(f"{path}: x is {x.dtype} {x.shape} instead of uint8 (n, {colours}, {width}, {width})")
    if y is not None and (y.shape != x.shape[:1] or y.min() < 0 or y.max() >= (len(classes) or architecture.classes)):
        raise PictureError(f"{path}: y is not a class of the {len(classes) or architecture.classes} for each picture")
    return Pictures(x, y, tuple(f"{path.name}[{i}]" for i in range(len(x))))


def _decoded(stream: bytes, offsets: np.ndarray, path: Path, width: int) -> np.ndarray:
    pictures = []
    for number, (start, end) in enumerate(pairwise(offsets)):
        pixels = decode_picture(stream[start:end], Path(f"{path}[{number}]"), width)
        pictures.append(np.rint(pixels * 255).astype(np.uint8))
    return np.stack(pictures)
