#!/usr/bin/env python
"""Train the ResNet20 of lowmem-resnet20 on CIFAR-10, for use under encryption.

    scripts/train.py --data DIR --run NAME            trains, or goes on where the run was interrupted
    scripts/train.py --data DIR --run NAME --export FILE     folds, calibrates and writes a weight file
    scripts/train.py --data DIR --evaluate FILE       accuracy of a weight file on the test pictures

DIR holds npz files: train_exact.npz and test_exact*.npz (``x`` uint8 (n, 3, 32, 32), ``y``), train_jpeg.npz and
test_jpeg.npz (``bytes`` and ``offsets`` of JPEG files one after the other, ``y``); or else the CIFAR-10 files
that torchvision knows.  Test pictures are read by --evaluate alone.

Where a training picture is there both exact and as JPEG, the pairs also train a small restoration network that
cleans the others (--restore).  Large inputs of the ReLUs are discouraged (--tail-penalty), because the encrypted
network approximates the ReLU relative to the largest.  Checkpoints and a log (JSON lines) go to training/NAME.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track
from torch import nn

from lowmem_resnet20.plain import PlainNetwork, ResNet, calibrate, fold
from lowmem_resnet20.scaling import fold_units, trunks
from lowmem_resnet20.weights import Weights, load_weights, save_weights

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
FOLDER = Path(__file__).resolve().parents[1] / "training"
Pictures = tuple[torch.Tensor, torch.Tensor]  # uint8 (n, 3, 32, 32), labels (n,)
#: Steps from one on which large ReLU inputs are penalised, so many times as hard, to the next.
PENALTY_EVERY = 4


# --- data -------------------------------------------------------------------------------------------------


def read_npz(path: Path) -> Pictures:
    """Pictures and labels of an npz file, exact or JPEG."""
    with np.load(path, allow_pickle=False) as file:
        labels = torch.from_numpy(file["y"].astype(np.int64))
        if "x" in file:
            return torch.from_numpy(file["x"]), labels
        stream, offsets = file["bytes"].tobytes(), file["offsets"]
    pictures = [np.asarray(Image.open(io.BytesIO(stream[a:b])).convert("RGB")) for a, b in pairwise(offsets)]
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy()), labels


def match(exact: Pictures, jpeg: Pictures) -> torch.Tensor:
    """(exact,) index of each exact picture's JPEG copy: its nearest neighbour within the class."""
    index = torch.empty(len(exact[0]), dtype=torch.int64)
    for label in exact[1].unique():
        ours, theirs = (torch.nonzero(labels == label)[:, 0] for labels in (exact[1], jpeg[1]))
        a, b = (p[i].flatten(1).float() / 255 for p, i in ((exact[0], ours), (jpeg[0], theirs)))
        distance = (b * b).sum(1) - 2 * a @ b.T
        index[ours] = theirs[distance.argmin(1)]
    return index


def training_pictures(folder: Path, restore: bool) -> tuple[Pictures, Pictures]:
    """Two copies of the training set, exact (or cleaned) and JPEG, in the same order."""
    if not (folder / "train_jpeg.npz").exists():
        from torchvision.datasets import CIFAR10

        data = CIFAR10(str(folder), train=True)
        exact = torch.from_numpy(data.data.transpose(0, 3, 1, 2).copy()), torch.tensor(data.targets)
        return exact, exact
    jpeg = read_npz(folder / "train_jpeg.npz")
    exact = read_npz(folder / "train_exact.npz")
    index = match(exact, jpeg)
    clean = jpeg[0].clone()
    if restore:
        restorer = train_restorer(exact[0], jpeg[0][index])
        clean = torch.cat([restored(restorer, batch) for batch in jpeg[0].split(500)])
    clean[index] = exact[0]
    return (clean, jpeg[1]), jpeg


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


# --- training ---------------------------------------------------------------------------------------------


class TailPenalty:
    """An activation that also sums, over the ReLUs, how far inputs lie beyond ``deviations`` of their channel's rms.

    It looks at the first ``pictures`` of a batch, and on one step in PENALTY_EVERY alone, for it costs half as much
    as the network itself.
    """

    def __init__(self, deviations: float = 4.0, pictures: int = 24) -> None:
        self.deviations, self.pictures = deviations, pictures
        self.total: torch.Tensor | float = 0.0

    def __call__(self, name: str, x: torch.Tensor) -> torch.Tensor:
        seen = x[: self.pictures]
        rms = seen.detach().square().mean((0, 2, 3), keepdim=True).sqrt() + 1e-3
        beyond = F.relu(seen.abs() / rms - self.deviations)
        self.total = self.total + beyond.square().mean(dtype=torch.float32)
        return F.relu(x)


class Run:
    """Model, averaged model and optimizer of one training run, with its checkpoint file."""

    def __init__(self, args: argparse.Namespace, steps_an_epoch: int) -> None:
        torch.manual_seed(args.seed)
        self.args, self.epoch = args, 0
        self.device = torch.device(args.device)
        self.model = ResNet().to(self.device, memory_format=torch.channels_last)
        if args.compile:
            self.model.compile()
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, args.rate, momentum=0.9, nesterov=True)
        total = args.epochs * steps_an_epoch
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, args.rate, total_steps=total, pct_start=0.2, cycle_momentum=False
        )

    def step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
        """One optimizer step; returns the loss and the number of right answers."""
        x, y = x.to(self.device), y.to(self.device)
        penalty = TailPenalty()
        penalised = self.args.tail_penalty and self.schedule.last_epoch % PENALTY_EVERY == 0
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(x, penalty) if penalised else self.model(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=self.args.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.args.tail_penalty * PENALTY_EVERY * penalty.total).backward()
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        return loss.item(), int((logits.argmax(1) == y).sum())

    @torch.no_grad()
    def _update_average(self) -> None:
        state = self.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [state[n] for n in floats], 1 - self.args.averaging)

    def averaged_model(self) -> ResNet:
        model = ResNet().to(self.device, memory_format=torch.channels_last)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self, path: Path) -> None:
        parts = {"epoch": self.epoch, "average": self.average, "arguments": str(vars(self.args))}
        for part in ("model", "optimizer", "schedule"):
            parts[part] = getattr(self, part).state_dict()
        temporary = path.with_suffix(".partial")
        torch.save(parts, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        parts = torch.load(path, map_location=self.device, weights_only=True)
        for part in ("model", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(parts[part])
        self.average, self.epoch = parts["average"], parts["epoch"]


def train(args: argparse.Namespace, clean: Pictures, jpeg: Pictures) -> Run:
    """Train to args.epochs, going on from the run's checkpoint if it has one; the same seed gives the same run."""
    folder = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    labels = clean[1]
    held_out = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))[: args.held_out]
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held_out] = False
    kept = torch.nonzero(kept)[:, 0]
    run = Run(args, steps_an_epoch=len(kept) // args.batch)
    if checkpoint.exists():
        run.load(checkpoint)
    while run.epoch < args.epochs:
        started = time.monotonic()
        generator = torch.Generator().manual_seed(args.seed * 100_003 + run.epoch)
        order = kept[torch.randperm(len(kept), generator=generator)]
        losses, right, seen = [], 0, 0
        run.model.train()
        batches = order[: len(order) // args.batch * args.batch].split(args.batch)
        for batch in track(batches, f"epoch {run.epoch + 1}", disable=not sys.stderr.isatty()):
            as_jpeg = torch.rand(len(batch), generator=generator) < args.jpeg
            pictures = torch.where(as_jpeg[:, None, None, None], jpeg[0][batch], clean[0][batch])
            loss, correct = run.step(augment(pictures, generator, args.cutout), labels[batch])
            losses.append(loss)
            right, seen = right + correct, seen + len(batch)
        run.epoch += 1
        run.save(checkpoint)
        accuracies = {}
        if len(held_out):
            model = run.averaged_model()
            for name, pictures in (("clean", clean), ("jpeg", jpeg)):
                accuracies[f"held_out_{name}"] = accuracy(model, pictures[0][held_out], labels[held_out])
        line = {"epoch": run.epoch, "loss": float(np.mean(losses)), "train_accuracy": right / seen, **accuracies}
        line |= {"rate": run.schedule.get_last_lr()[0], "seconds": time.monotonic() - started}
        with open(folder / "log.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        print(" ".join(f"{k} {v:.4g}" for k, v in line.items()), file=sys.stderr, flush=True)
        if not math.isfinite(line["loss"]):
            raise SystemExit("training diverged: take a lower --rate")
    return run


@torch.no_grad()
def accuracy(model: ResNet, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    device = next(model.parameters()).device
    right = 0
    for x, y in zip(pictures.split(500), labels.split(500)):
        x = normalise(x.to(device)).contiguous(memory_format=torch.channels_last)
        right += int((model(x).argmax(1).cpu() == y).sum())
    return right / len(labels)


# --- results ----------------------------------------------------------------------------------------------


def export(run: Run, path: Path, clean: Pictures, jpeg: Pictures, count: int = 20_000) -> None:
    """Fold the averaged model and calibrate its bounds on ``count`` training pictures, clean and JPEG.

    They are drawn from all over the set, for files of pictures may be sorted by class.
    """
    parameters = fold(run.average)
    chosen = torch.randperm(len(clean[0]), generator=torch.Generator().manual_seed(2))[:count]
    batches = (p[0][batch].numpy() / 255 for p in (clean, jpeg) for batch in chosen.split(250))
    save_weights(path, unit_bounds(calibrate(parameters, MEAN, STD, batches)))


def unit_bounds(weights: Weights) -> Weights:
    """The same network, each layer scaled so that its largest bound is 1.

    ReLUs and convolutions are homogeneous, so a layer's scale is free if the next one makes up for it; the layers
    that meet in a stage's shortcuts share theirs.
    """
    largest = {name: float(bound.max()) for name, bound in weights.bounds.items()}
    for trunk in trunks(weights.architecture):
        largest |= dict.fromkeys(trunk, max(largest[name] for name in trunk))
    units = {name: np.full(len(bound), largest[name]) for name, bound in weights.bounds.items()}
    shortcuts = {block.name: units[f"{block.name}.conv2"] for block in weights.architecture.blocks()}
    folded = fold_units(weights, units, units, shortcuts)
    parameters = {name: array.astype(np.float32) for name, array in folded.items()}
    bounds = {name: (bound / units[name]).astype(np.float32) for name, bound in weights.bounds.items()}
    return replace(weights, parameters=parameters, bounds=bounds)


def evaluate(weights: Weights, folder: Path) -> None:
    """Print the accuracy of the folded network on every set of test pictures."""
    network = PlainNetwork(weights)
    for name, (pictures, labels) in test_pictures(folder):
        found = np.concatenate([network.logits(batch.numpy() / 255).argmax(1) for batch in pictures.split(250)])
        right = int((found == labels.numpy()).sum())
        print(f"{name}: {right} of {len(labels)} right, {100 * right / len(labels):.2f}%")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--run", default="resnet20", help="name of the run")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.4, help="highest learning rate")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--smoothing", type=float, default=0.05, help="label smoothing")
    parser.add_argument("--cutout", type=int, default=8, help="side of the erased square, pixels")
    parser.add_argument("--jpeg", type=float, default=0.4, help="part of the pictures shown as JPEG")
    parser.add_argument("--tail-penalty", type=float, default=0.1)
    parser.add_argument("--averaging", type=float, default=0.998, help="decay of the weight average, by step")
    parser.add_argument("--held-out", type=int, default=1000, help="training pictures kept for the log")
    parser.add_argument("--restore", action="store_true", help="clean the JPEG pictures by a network first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for all")
    parser.add_argument(
        "--compile", action="store_true", help="compile the model: a sixth faster, needs a C++ compiler"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weight file when trained")
    parser.add_argument("--now", action="store_true", help="with --export: from the last checkpoint, without training")
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="only measure a weight file")
    args = parser.parse_args(argv)
    args.folder = FOLDER / args.run
    return args


def main() -> None:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate(load_weights(args.evaluate), args.data)
        return
    clean, jpeg = training_pictures(args.data, args.restore and not args.now)
    if args.now:
        run = Run(args, steps_an_epoch=1)
        run.load(args.folder / "checkpoint.pt")
    else:
        run = train(args, clean, jpeg)
    if args.export:
        export(run, args.export, clean, jpeg)


if __name__ == "__main__":
    main()
