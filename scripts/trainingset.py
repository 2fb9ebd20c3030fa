"""CIFAR-10 pictures for training and testing: read, matched, cleaned of JPEG's loss, augmented.

A folder of pictures holds npz files: train_exact.npz and test_exact*.npz (``x`` uint8 (n, 3, 32, 32), ``y``),
train_jpeg.npz and test_jpeg.npz (``bytes`` and ``offsets`` of JPEG files one after the other, ``y``); or else the
CIFAR-10 files that torchvision knows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import pictureset

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
Pictures = tuple[torch.Tensor, torch.Tensor]  # uint8 (n, 3, 32, 32), labels (n,)


def read_npz(path: Path) -> Pictures:
    """Pictures and labels of an npz file, exact or JPEG."""
    pictures, labels = map(torch.from_numpy, pictureset.read_npz(path))
    return pictures, labels


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
    """clean, jpeg: uint8 (n, 3, 32, 32), the same pictures in the same order; clean ones are exact at the indices
    ``exact`` and cleaned JPEG elsewhere.  labels: (n,)."""

    clean: torch.Tensor
    jpeg: torch.Tensor
    labels: torch.Tensor
    exact: torch.Tensor

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


def training_set(folder: Path, restore: bool) -> TrainingSet:
    """All training pictures; with ``restore`` a network trained on the exact ones cleans the others."""
    if not (folder / "train_jpeg.npz").exists():
        from torchvision.datasets import CIFAR10

        data = CIFAR10(str(folder), train=True)
        exact = torch.from_numpy(data.data.transpose(0, 3, 1, 2).copy())
        return TrainingSet(exact, exact, torch.tensor(data.targets), torch.arange(len(exact)))
    jpeg = read_npz(folder / "train_jpeg.npz")
    exact = read_npz(folder / "train_exact.npz")
    index = match(exact, jpeg)
    clean = jpeg[0].clone()
    if restore:
        restorer = train_restorer(exact[0], jpeg[0][index])
        clean = torch.cat([restored(restorer, batch) for batch in jpeg[0].split(500)])
    clean[index] = exact[0]
    return TrainingSet(clean, jpeg[0], jpeg[1], index)


def test_pictures(folder: Path) -> Iterator[tuple[str, Pictures]]:
    for path in sorted(folder.glob("test_*.npz")):
        yield path.stem, read_npz(path)
    if not any(folder.glob("test_*.npz")):
        from torchvision.datasets import CIFAR10

        data = CIFAR10(str(folder), train=False)
        yield "test", (torch.from_numpy(data.data.transpose(0, 3, 1, 2).copy()), torch.tensor(data.targets))


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


def augment(pictures: torch.Tensor, generator: torch.Generator, cutout: int) -> torch.Tensor:
    """uint8 (n, 3, w, w) -> normalised float: random crop of a 4-pixel reflecting border, flip, one square erased."""
    n, _, width, _ = pictures.shape
    x = F.pad(pictures.float(), (4, 4, 4, 4), mode="reflect")
    offset = torch.randint(0, 9, (2, n, 1), generator=generator)
    span = torch.arange(width)
    rows, columns = offset[0] + span, offset[1] + span
    flip = torch.rand(n, generator=generator) < 0.5
    columns[flip] = columns[flip].flip(1)
    picture = torch.arange(n)
    x = x[picture[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    x = normalise(x)
    if cutout:
        centre = torch.randint(0, width, (2, n, 1), generator=generator)
        near = [(span - c).abs() * 2 < cutout for c in centre]
        x = x.masked_fill((near[0][:, :, None] & near[1][:, None, :])[:, None], 0)
    return x.contiguous(memory_format=torch.channels_last)


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """0..255 -> what the network takes."""
    mean, std = (torch.tensor(v, device=pictures.device).view(3, 1, 1) for v in (MEAN, STD))
    return (pictures.float() / 255 - mean) / std
