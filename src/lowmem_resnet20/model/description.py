"""What an imported network is told beside its weights: names of classes, mean and deviation, the side of pictures."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..errors import UsageError, WeightsError
from ..network.architecture import CIFAR10_CLASSES, Architecture
from ..network.card import check_names, numbered_classes
from .arrangement import CLASSES
from .labelled import Pictures
from .sourcefile import read_regular
from .sources import Source

#: Normalisation of the public CIFAR-10 checkpoints, for weights that bring none.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_USUAL_SIDE = 32
_LARGEST_CLASSES_FILE = 1 << 16


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of classes in a text file, a line each, in UTF-8.  Errors: WeightsError; EnvironmentFault."""
    too_large = WeightsError(f"{path} is too large for names of classes")
    try:
        text = read_regular(path, _LARGEST_CLASSES_FILE, too_large).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise WeightsError(f"{path} is not text in UTF-8", "give a name a line") from None
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if len(names) not in CLASSES:
        raise WeightsError(f"{path} has {len(names)} lines, and a network 2 to 128 classes", "give a name a line")
    check_names(names, str(path))
    return names


def given_names(found: Source, source: Path, file: Path | None) -> tuple[tuple[str, ...], str]:
    """Return the names of the classes that are given, and by what."""
    names, by = (read_classes(Path(file)), str(file)) if file else (found.classes, str(source))
    if names and len(names) != found.arrangement.classes:
        raise WeightsError(f"{by} names {len(names)} classes, and {source} has {found.arrangement.classes}")
    if names:
        check_names(names, by)
    return names, by


def or_usual_names(
    names: tuple[str, ...], by: str, pictures: Pictures, architecture: Architecture, path: Path
) -> tuple[tuple[str, ...], str]:
    if names:
        return names, by
    if pictures.classes:
        if len(pictures.classes) != architecture.classes:
            count = f"{len(pictures.classes)} folders of classes, and the network has {architecture.classes} classes"
            raise WeightsError(f"{path} has {count}", "name them all, in the network's order, with: classes FILE")
        check_names(pictures.classes, str(path))
        return pictures.classes, f"folders of {path}, in the order of their names"
    if (architecture.classes, architecture.input_channels) == (len(CIFAR10_CLASSES), 3):
        return CIFAR10_CLASSES, "CIFAR-10; others with: classes FILE"
    return numbered_classes(architecture.classes), "their numbers; others with: classes FILE"


def normalisation(
    found: Source, colours: int, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return mean and deviation by colour, and where they come from."""
    pairs = ((mean, found.mean), (std, found.std))
    told = ["words" if given else "the source" if said else "CIFAR-10's usual" for given, said in pairs]
    by = told[0] if told[0] == told[1] else f"mean: {told[0]}; std: {told[1]}"
    usual = (CIFAR_MEAN, CIFAR_STD) if colours == len(CIFAR_MEAN) else (None, None)
    mean, std = mean or found.mean or usual[0], std or found.std or usual[1]
    if mean is None or std is None:
        raise UsageError(
            "mean and std of a network of one colour are not known", "give both, such as: mean 0.5 std 0.5"
        )
    for what, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, colours):
            raise UsageError(
                f"{what} is {len(values)} numbers, and the network has {colours} colour{'s'[: colours - 1]}"
            )
    mean, std = (values * colours if len(values) == 1 else values for values in (mean, std))
    _check_normalisation(mean, std)
    return mean, std, by


def _check_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise unless they are of pixels in [0, 1]: no mean of such lies elsewhere, and no deviation above 1."""
    for name, values, fit in (
        ("mean", mean, all(0 <= m <= 1 for m in mean)),
        ("std", std, all(0 < s <= 1 for s in std)),
    ):
        if not fit:
            shown = ", ".join(f"{value:g}" for value in values)
            hint = "divide it by 255" if max(values) > 1 else "give the numbers the network was trained with"
            raise UsageError(f"{name} {shown} is not of pixels from 0 to 1", hint)


def side_of(path: Path) -> int:
    """Return the side of an npz file's pictures, from its header alone; for anything else the usual one."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
        return int(shape[-1]) if len(shape) in (3, 4) else _USUAL_SIDE
    except Exception:  # noqa: BLE001 - damaged files raise errors of many kinds
        return _USUAL_SIDE  # whoever reads it says what is wrong
