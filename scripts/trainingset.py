"""Pictures for training and testing: read, matched, cleaned of JPEG's loss, augmented.

They are one of:

* class folders (NAME/*.png) or an npz file, as :func:`lowmem_resnet20.model.labelled.read_pictures` takes them;
* CIFAR-10 or CIFAR-100 as torchvision has it on disk: its folder there, or the one that this lies in;
* a folder of npz files of CIFAR-10: train_exact.npz and test_exact*.npz (``x`` uint8 (n, 3, 32, 32), ``y``),
  train_jpeg.npz and test_jpeg.npz (``bytes`` and ``offsets`` of JPEG files one after the other, ``y``).

The latter two have test pictures of their own.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lowmem_resnet20.errors import PictureError
from lowmem_resnet20.model.description import CIFAR_MEAN, CIFAR_STD
from lowmem_resnet20.model.labelled import class_folders, read_pictures
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, RESNET20, Architecture
from lowmem_resnet20.network.card import numbered_classes

Pictures = tuple[torch.Tensor, torch.Tensor]  # uint8 (n, colours, width, width), labels (n,)
#: The folders that torchvision unpacks its sets into, and its names for them.
TORCHVISION = {"cifar-10-batches-py": "CIFAR10", "cifar-100-python": "CIFAR100"}


# --- reading ----------------------------------------------------------------------------------------------


def torchvision_set(path: Path, train: bool) -> Any:
    """The set of torchvision that lies at or in ``path``, its files as they were published; None if there is none."""
    found = [folder for folder in (path, *(path / name for name in TORCHVISION)) if folder.name in TORCHVISION]
    found = [folder for folder in found if folder.is_dir()]
    if not found:
        return None
    if len(found) > 1:
        raise PictureError(f"{path} holds CIFAR-10 and CIFAR-100", f"name one of them, such as {found[-1]}")
    from torchvision import datasets

    try:
        return getattr(datasets, TORCHVISION[found[0].name])(str(found[0].parent), train=train)
    except RuntimeError:  # its check of the files, which it does before it reads them
        raise PictureError(f"{found[0]} is not as it was published", "download and unpack it again") from None


def classes_of(path: Path) -> tuple[str, ...]:
    """Names of the classes that pictures are of: of folders, those that torchvision has, or of an npz file numbers."""
    if (path / "train_jpeg.npz").exists():
        return CIFAR10_CLASSES
    if data := torchvision_set(path, train=False):
        return tuple(data.classes)
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                return numbered_classes(int(file["y"].max()) + 1)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise PictureError(f"{path} is no npz file with labels y") from None
    if folders := class_folders(path):
        return tuple(folder.name for folder in folders)
    raise PictureError(f"there are no class folders in {path}", "put the pictures in folders NAME/*.png")


def read_labelled(path: Path, architecture: Architecture = RESNET20, classes: Sequence[str] = ()) -> Pictures:
    """Pictures and labels of class folders or an npz file.  Errors: PictureError, also where there are no labels."""
    pictures = read_pictures(path, architecture, classes)
    if pictures.y is None:
        raise PictureError(f"{path} does not say which classes its pictures are of", "put them in folders NAME/*.png")
    return torch.from_numpy(np.ascontiguousarray(pictures.pixels)), torch.from_numpy(pictures.y)


def _read(path: Path, train: bool, architecture: Architecture, classes: Sequence[str]) -> Pictures:
    data = torchvision_set(path, train)
    if data is None:
        return read_labelled(path, architecture, classes)
    if (architecture.width, architecture.input_channels) != (32, 3) or len(data.classes) != len(classes):
        kind = f"32x32 pictures of 3 colours in {len(data.classes)} classes"
        raise PictureError(f"{path} holds {kind}, and the network is a {architecture}")
    return torch.from_numpy(data.data.transpose(0, 3, 1, 2).copy()), torch.tensor(data.targets)


def match(exact: Pictures, jpeg: Pictures) -> torch.Tensor:
    """(exact,) index of each exact picture's JPEG copy: its nearest neighbour within the class."""
    index = torch.empty(len(exact[0]), dtype=torch.int64)
    for label in exact[1].unique():
        ours, theirs = (torch.nonzero(labels == label)[:, 0] for labels in (exact[1], jpeg[1]))
        a, b = (p[i].flatten(1).float() / 255 for p, i in ((exact[0], ours), (jpeg[0], theirs)))
        distance = (b * b).sum(1) - 2 * a @ b.T
        index[ours] = theirs[distance.argmin(1)]
    return index


@dataclass(frozen=True)
class TrainingSet:
    """clean, jpeg: uint8 (n, colours, width, width), the same pictures in the same order; clean ones are exact at the
    indices ``exact`` and cleaned JPEG elsewhere.  labels: (n,).  classes: their names.  mean, std: the normalisation of
    pixels in [0, 1], by colour."""

    clean: torch.Tensor
    jpeg: torch.Tensor
    labels: torch.Tensor
    exact: torch.Tensor
    classes: tuple[str, ...] = CIFAR10_CLASSES
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD

    @property
    def has_jpeg(self) -> bool:
        """Whether the pictures differ from their JPEG copies."""
        return self.jpeg is not self.clean

    def measured(self) -> TrainingSet:
        """The same, normalised by the mean and deviation of its own pixels, to four digits."""
        values, sums = np.arange(256) / 255, []
        for colour in range(self.clean.shape[1]):
            counts = np.bincount(self.clean[:, colour].numpy().ravel(), minlength=256) / self.clean[:, 0].numel()
            mean = float(counts @ values)
            sums.append((round(mean, 4), round(float(np.sqrt(counts @ (values - mean) ** 2)), 4)))
        mean, std = zip(*sums, strict=True)
        if min(std) <= 0:
            raise PictureError("all pixels of the pictures are the same")
        return replace(self, mean=mean, std=std)

    def shown(self, batch: torch.Tensor, jpeg: float, transplant: float, generator: torch.Generator) -> torch.Tensor:
        """The pictures ``batch`` (indices), each as JPEG with probability ``jpeg``, clean otherwise.

        A clean one that is not exact becomes, with probability ``transplant``, its JPEG plus what JPEG took from
        some exact picture: the fine detail of an exact picture, if not its own.
        """
        draws = torch.rand((2, len(batch), 1, 1, 1), generator=generator)
        clean = self.clean[batch]
        if transplant and len(self.exact) < len(self.labels):
            donor = self.exact[torch.randint(len(self.exact), (len(batch),), generator=generator)]
            taken = self.clean[donor].short() - self.jpeg[donor].short()
            detailed = (self.jpeg[batch].short() + taken).clamp(0, 255).byte()
            own = torch.isin(batch, self.exact)[:, None, None, None]
            clean = torch.where((draws[1] < transplant) & ~own, detailed, clean)
        return torch.where(draws[0] < jpeg, self.jpeg[batch], clean)


def training_set(
    path: Path, restore: bool, architecture: Architecture = RESNET20, classes: tuple[str, ...] = CIFAR10_CLASSES
) -> TrainingSet:
    """All training pictures; with ``restore`` a network trained on the exact ones cleans the others."""
    if not (path / "train_jpeg.npz").exists():
        exact, labels = _read(path, True, architecture, classes)
        return TrainingSet(exact, exact, labels, torch.arange(len(exact)), classes)
    jpeg = read_labelled(path / "train_jpeg.npz", architecture, classes)
    exact = read_labelled(path / "train_exact.npz", architecture, classes)
    index = match(exact, jpeg)
    clean = jpeg[0].clone()
    if restore:
        restorer = train_restorer(exact[0], jpeg[0][index])
        clean = torch.cat([restored(restorer, batch) for batch in jpeg[0].split(500)])
    clean[index] = exact[0]
    return TrainingSet(clean, jpeg[0], jpeg[1], index, classes)


def test_pictures(path: Path, architecture: Architecture, classes: Sequence[str]) -> Iterator[tuple[str, Pictures]]:
    """Name and pictures of each set to test on: the test pictures that belong to ``path``, or those that it is."""
    files = sorted(path.glob("test_*.npz")) if path.is_dir() else []
    for file in files:
        yield file.stem, read_labelled(file, architecture, classes)
    if not files:
        yield path.stem, _read(path, False, architecture, classes)


# --- restoration ------------------------------------------------------------------------------------------


class Restorer(nn.Module):
    """Predicts what JPEG took away: pictures in [0, 1] to pictures in [0, 1]."""

    def __init__(self, width: int = 48, depth: int = 5) -> None:
        super().__init__()
        sizes = [3, *[width] * depth, 3]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x - 0.5
        for layer in self.layers[:-1]:
            y = F.relu(layer(y))
        return x + self.layers[-1](y)


def train_restorer(exact: torch.Tensor, jpeg: torch.Tensor, epochs: int = 12) -> Restorer:
    """Fit on pairs (n, 3, 32, 32); the last tenth is held out and the gain on it printed."""
    torch.manual_seed(0)
    model = Restorer().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    train = len(exact) * 9 // 10
    steps = epochs * -(-train // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(train).split(64):
            x, y = jpeg[batch].float() / 255, exact[batch].float() / 255
            if torch.rand(()) < 0.5:
                x, y = x.flip(3), y.flip(3)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.mse_loss(model(x).float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    before = F.mse_loss(jpeg[train:].float(), exact[train:].float()) ** 0.5
    after = F.mse_loss(restored(model, jpeg[train:]).float(), exact[train:].float()) ** 0.5
    print(f"restoration: rms error of a held-out pixel {before:.2f} -> {after:.2f} of 255", file=sys.stderr)
    return model


@torch.no_grad()
def restored(model: Restorer, pictures: torch.Tensor) -> torch.Tensor:
    """uint8 to uint8."""
    with torch.autocast("cpu", torch.bfloat16):
        return (model(pictures.float() / 255).float() * 255).round().clamp(0, 255).byte()


# --- augmentation -----------------------------------------------------------------------------------------


def augment(
    pictures: torch.Tensor,
    generator: torch.Generator,
    cutout: int,
    flip: bool = True,
    mean: Sequence[float] = CIFAR_MEAN,
    std: Sequence[float] = CIFAR_STD,
) -> torch.Tensor:
    """uint8 (n, colours, w, w) -> normalised float: random crop of a reflecting border of an eighth of the width, flip,
    one square erased."""
    n, _, width, _ = pictures.shape
    border = width // 8
    x = F.pad(pictures.float(), (border,) * 4, mode="reflect")
    offset = torch.randint(0, 2 * border + 1, (2, n, 1), generator=generator)
    span = torch.arange(width)
    rows, columns = offset[0] + span, offset[1] + span
    if flip:
        flipped = torch.rand(n, generator=generator) < 0.5
        columns[flipped] = columns[flipped].flip(1)
    picture = torch.arange(n)
    x = x[picture[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    x = normalise(x, mean, std)
    if cutout:
        centre = torch.randint(0, width, (2, n, 1), generator=generator)
        near = [(span - c).abs() * 2 < cutout for c in centre]
        x = x.masked_fill((near[0][:, :, None] & near[1][:, None, :])[:, None], 0)
    return x.contiguous(memory_format=torch.channels_last)


def normalise(
    pictures: torch.Tensor, mean: Sequence[float] = CIFAR_MEAN, std: Sequence[float] = CIFAR_STD
) -> torch.Tensor:
    """0..255 -> what the network takes."""
    shift, factor = (torch.tensor(v, device=pictures.device).view(-1, 1, 1) for v in (mean, std))
    return (pictures.float() / 255 - shift) / factor
