#!/usr/bin/env python
"""Train a residual network of lowmem-resnet20, for use under encryption: by default ResNet20 on CIFAR-10.

    scripts/train.py --data DIR --run NAME            trains, or goes on where the run was interrupted
    scripts/train.py --data DIR --run NAME --export FILE     folds, calibrates and writes a weight file
    scripts/train.py --data DIR --classes auto --depth 8 --export FILE   a ResNet-8 on pictures of your own
    scripts/train.py --data DIR --soup NAME NAME .. --export FILE   the mean of several runs' networks
    scripts/train.py --data DIR --evaluate FILE       accuracy of a weight file on the test pictures

DIR holds pictures as scripts/trainingset.py describes: class folders (DIR/cat/*.png), an npz file, or CIFAR-10 or
CIFAR-100 as torchvision has it.  With --classes auto the classes are those of the data, and pixels are normalised by
its mean and deviation; else they are CIFAR-10's.  Test pictures are read by --evaluate alone.

Where a training picture is there both exact and as JPEG, the pairs also train a small restoration network that
cleans the others (--restore), and lend them detail (--transplant).  Large inputs of the ReLUs are discouraged
(--tail-penalty), because the encrypted network approximates the ReLU relative to the largest.  A run of a wider network
(--wide) can teach another (--teacher), and a run can start from the network of another (--start).  A last short run
with the errors of the encrypted ReLUs in the loop (--approximate) makes the network insensitive to them.  Checkpoints
and a log (JSON lines) go to training/NAME.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track

from lowmem_resnet20.errors import LowmemError
from lowmem_resnet20.model.folding import EPSILON
from lowmem_resnet20.model.plain import calibrate
from lowmem_resnet20.model.simulation import plain_logits
from lowmem_resnet20.model.trained import Activation, ResNet, fold, relu
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, Architecture
from lowmem_resnet20.network.card import check_names
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.scaling import fold_units, scale, trunks
from lowmem_resnet20.network.weights import Weights, load_weights, save_weights
from trainingset import TrainingSet, augment, classes_of, normalise, test_pictures, training_set

FOLDER = Path(__file__).resolve().parents[1] / "training"
#: Classes as the data has them.
AUTO = "auto"
#: Blocks of a stage that networks are known by.
BLOCKS = (1, 2, 3, 5, 7, 9, 18)
#: Channels of the three stages that there are plans for.
CHANNELS = ("8/16/32", "16/32/64", "32/64/128")
#: Steps that the schedule of the rate needs.
SHORTEST = 6
#: Of small sets a batch is so many-th a part, and the average of the weights is over such a part of the steps.
BATCHES, AVERAGED = 20, 5
#: Steps from one on which large ReLU inputs are penalised, so many times as hard, to the next.
PENALTY_EVERY = 4


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


class ApproximatedReLU:
    """An activation with the error that a parameter set's series makes.  Gradients are those of the exact ReLU.

    weights: a network whose bounds are those of the one in training, or nearly.
    """

    ENTRIES = 4096

    def __init__(self, set_: ParameterSet, weights: Weights) -> None:
        reach, units = set_.refresh.reach, scale(weights, set_.refresh).units
        x = np.linspace(-reach, reach, self.ENTRIES)
        self.errors = torch.from_numpy((set_.refresh.approximated_relu(x) - np.maximum(x, 0)) / reach).float()
        self.ranges = {name: torch.from_numpy(reach * u).float()[:, None, None] for name, u in units.items()}

    def __call__(self, name: str, x: torch.Tensor) -> torch.Tensor:
        range_ = self.ranges[name].to(x.device)
        with torch.no_grad():
            place = ((x / range_).clamp(-1, 1) + 1) * ((self.ENTRIES - 1) / 2)
            error = self.errors.to(x.device)[place.round().int()] * range_
        return F.relu(x) + error


def approximations(weights: Weights, numbers: list[int]) -> list[Activation]:
    """The ReLUs of the sets of these numbers, and the exact one."""
    return [*(ApproximatedReLU(parameter_set(number), weights) for number in numbers), relu]


def architecture(args: argparse.Namespace, classes: int) -> Architecture:
    """The network that is asked for; ``--wide`` gives it so many times the channels."""
    return Architecture(
        width=args.side,
        channels=tuple(args.wide * int(c) for c in args.channels.split("/")),
        blocks_per_stage=(args.depth - 2) // 6,
        input_channels=args.colours,
        classes=classes,
    )


def averaged(folder: Path, device: torch.device) -> tuple[ResNet, Architecture]:
    """The averaged network of another run, and its shape."""
    parts = torch.load(folder / "checkpoint.pt", map_location=device, weights_only=True)
    shape = Architecture(**parts["network"])
    model = ResNet(shape).to(device, memory_format=torch.channels_last)
    model.load_state_dict(parts["average"])
    return model.eval(), shape


class Run:
    """Model, averaged model and optimizer of one training run, with its checkpoint file."""

    def __init__(self, args: argparse.Namespace, pictures: TrainingSet, steps_an_epoch: int) -> None:
        torch.manual_seed(args.seed)
        self.args, self.epoch = args, 0
        self.device = torch.device(args.device)
        self.architecture = architecture(args, len(pictures.classes))
        #: What the averaged network means, for its checkpoint.
        self.data = {"classes": pictures.classes, "mean": pictures.mean, "std": pictures.std}
        self.model = ResNet(self.architecture).to(self.device, memory_format=torch.channels_last)
        self.activations: list[Activation] = [relu]
        self.teacher = self._another(args.teacher, ("width", "input_channels", "classes")) if args.teacher else None
        if args.start:
            self.model.load_state_dict(self._another(args.start, tuple(asdict(self.architecture))).state_dict())
        if args.compile:
            self.model.compile()
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, args.rate, momentum=0.9, nesterov=True)
        total = args.epochs * steps_an_epoch
        self.averaging = max(0.0, min(args.averaging, 1 - AVERAGED / total))
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, args.rate, total_steps=max(total, SHORTEST), pct_start=0.2, cycle_momentum=False
        )

    def _another(self, name: str, alike: tuple[str, ...]) -> ResNet:
        """The averaged network of another run, which must be as this one in these sizes."""
        model, shape = averaged(FOLDER / name, self.device)
        if any(getattr(shape, size) != getattr(self.architecture, size) for size in alike):
            raise SystemExit(f"run {name} is of a {shape}, and this one is of a {self.architecture}")
        return model

    def step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
        """One optimizer step; returns the loss and the number of right answers."""
        x, y = x.to(self.device), y.to(self.device)
        penalty = TailPenalty()
        penalised = self.args.tail_penalty and self.schedule.last_epoch % PENALTY_EVERY == 0
        activation = penalty if penalised else self.activations[self.schedule.last_epoch % len(self.activations)]
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(x) if activation is relu else self.model(x, activation)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=self.args.smoothing)
        if self.teacher:
            loss = torch.lerp(loss, self._distance_from_teacher(x, logits), self.args.distil)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.args.tail_penalty * PENALTY_EVERY * penalty.total).backward()
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        return loss.item(), int((logits.argmax(1) == y).sum())

    def _distance_from_teacher(self, x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Divergence from the teacher's softened answers (Hinton, Vinyals and Dean, 2015)."""
        temperature = self.args.temperature
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            taught = F.log_softmax(self.teacher(x).float() / temperature, dim=1)
        found = F.log_softmax(logits.float() / temperature, dim=1)
        return temperature**2 * F.kl_div(found, taught, reduction="batchmean", log_target=True)

    @torch.no_grad()
    def _update_average(self) -> None:
        state = self.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [state[n] for n in floats], 1 - self.averaging)

    def averaged_model(self) -> ResNet:
        model = ResNet(self.architecture).to(self.device, memory_format=torch.channels_last)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self, path: Path) -> None:
        parts = {"epoch": self.epoch, "average": self.average, "network": asdict(self.architecture), "data": self.data}
        for part in ("model", "optimizer", "schedule"):
            parts[part] = getattr(self, part).state_dict()
        temporary = path.with_suffix(".partial")
        torch.save(parts, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        parts = torch.load(path, map_location=self.device, weights_only=True)
        if (parts["network"], parts["data"]) != (asdict(self.architecture), self.data):
            raise SystemExit(f"{path} is of other pictures or another network: give this run a name with --run")
        for part in ("model", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(parts[part])
        self.average, self.epoch = parts["average"], parts["epoch"]


def divided(args: argparse.Namespace, pictures: TrainingSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the pictures kept for the log and, in order, of the others."""
    count = len(pictures.labels)
    held_out = torch.randperm(count, generator=torch.Generator().manual_seed(1))[: args.held_out]
    trained_on = torch.ones(count, dtype=torch.bool)
    trained_on[held_out] = False
    return held_out, torch.nonzero(trained_on)[:, 0]


def train(args: argparse.Namespace, pictures: TrainingSet) -> Run:
    """Train to args.epochs, going on from the run's checkpoint if it has one; the same seed gives the same run."""
    folder = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    labels = pictures.labels
    held_out, kept = divided(args, pictures)
    again = pictures.exact[torch.isin(pictures.exact, kept)].repeat(args.exact_repeats - 1)
    epoch = torch.cat([kept, again])
    run = Run(args, pictures, steps_an_epoch=len(epoch) // args.batch)
    if args.approximate:
        weights = calibrated(run.architecture, run.average, pictures)
        run.activations = approximations(weights, args.approximate)
    if checkpoint.exists():
        run.load(checkpoint)
    while run.epoch < args.epochs:
        started = time.monotonic()
        generator = torch.Generator().manual_seed(args.seed * 100_003 + run.epoch)
        order = epoch[torch.randperm(len(epoch), generator=generator)]
        losses, right, seen = [], 0, 0
        run.model.train()
        batches = order[: len(order) // args.batch * args.batch].split(args.batch)
        for batch in track(batches, f"epoch {run.epoch + 1}", disable=not sys.stderr.isatty()):
            shown = pictures.shown(batch, args.jpeg, args.transplant, generator)
            x = augment(shown, generator, args.cutout, args.flip, pictures.mean, pictures.std)
            loss, correct = run.step(x, labels[batch])
            losses.append(loss)
            right, seen = right + correct, seen + len(batch)
        run.epoch += 1
        run.save(checkpoint)
        line = {"epoch": run.epoch, "loss": float(np.mean(losses)), "train_accuracy": right / seen}
        line |= held_out_accuracies(run, pictures, held_out)
        line |= {"rate": run.schedule.get_last_lr()[0], "seconds": time.monotonic() - started}
        with open(folder / "log.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        print(" ".join(f"{k} {v:.4g}" for k, v in line.items()), file=sys.stderr, flush=True)
        if not math.isfinite(line["loss"]):
            raise SystemExit("training diverged: take a lower --rate")
    return run


def held_out_accuracies(run: Run, pictures: TrainingSet, held_out: torch.Tensor) -> dict[str, float]:
    """Accuracy of the averaged network on training pictures it does not see; where there are JPEG copies: clean, exact
    among them, JPEG."""
    model, result = run.averaged_model(), {}
    sources = {"held_out": (pictures.clean, held_out)}
    if pictures.has_jpeg:
        exact = held_out[torch.isin(held_out, pictures.exact)]
        sources = {"held_out_clean": (pictures.clean, held_out), "held_out_exact": (pictures.clean, exact)}
        sources |= {"held_out_jpeg": (pictures.jpeg, held_out)}
    for name, (source, chosen) in sources.items():
        if len(chosen):
            x = normalise(source[chosen], pictures.mean, pictures.std)
            result[name] = accuracy(model, x, pictures.labels[chosen])
    return result


@torch.no_grad()
def accuracy(model: ResNet, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """pictures: normalised."""
    device = next(model.parameters()).device
    right = 0
    for x, y in zip(pictures.split(500), labels.split(500), strict=True):
        x = x.to(device).contiguous(memory_format=torch.channels_last)
        right += int((model(x).argmax(1).cpu() == y).sum())
    return right / len(labels)


@torch.no_grad()
def soup(args: argparse.Namespace, pictures: TrainingSet, batches: int = 40) -> dict[str, torch.Tensor]:
    """The mean of several runs' networks, its batch norm's statistics taken anew from training pictures.

    Runs of which one started from the other lie in one basin of the loss, and their mean does better than each
    (Wortsman et al., "Model soups", 2022).
    """
    device = torch.device(args.device)
    states = [averaged(FOLDER / name, device)[0].state_dict() for name in args.soup]
    model = ResNet(architecture(args, len(pictures.classes))).to(device, memory_format=torch.channels_last)
    counts = {name: value for name, value in states[0].items() if not value.is_floating_point()}
    model.load_state_dict({n: sum(s[n] for s in states) / len(states) for n in states[0] if n not in counts} | counts)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    generator, (_, kept) = torch.Generator().manual_seed(args.seed), divided(args, pictures)
    order = kept[torch.randperm(len(kept), generator=generator)]
    for batch in order.split(args.batch)[:batches]:
        shown = pictures.shown(batch, args.jpeg, args.transplant, generator)
        x = augment(shown, generator, args.cutout, args.flip, pictures.mean, pictures.std)
        model.train()(x.to(device))
    return model.state_dict()


# --- results ----------------------------------------------------------------------------------------------


def export(run: Run, path: Path, pictures: TrainingSet, count: int = 20_000) -> None:
    """Write the averaged model, folded and calibrated."""
    name = "" if pictures.classes == CIFAR10_CLASSES else run.args.run
    weights = replace(calibrated(run.architecture, run.average, pictures, count), name=name)
    save_weights(path, unit_bounds(weights))


def calibrated(
    shape: Architecture, state: Mapping[str, torch.Tensor], pictures: TrainingSet, count: int = 2_000
) -> Weights:
    """The folded network of a state dict, its bounds calibrated on ``count`` training pictures, clean and JPEG if any.

    They are drawn from all over the set, for files of pictures may be sorted by class.
    """
    chosen = torch.randperm(len(pictures.labels), generator=torch.Generator().manual_seed(2))[:count]
    sources = (pictures.clean, pictures.jpeg) if pictures.has_jpeg else (pictures.clean,)
    batches = (source[batch].numpy() / 255 for source in sources for batch in chosen.split(250))
    means = pictures.classes, pictures.mean, pictures.std
    weights, _ = calibrate(Weights(shape, *means, 0.0, "", fold(state, shape), {}, EPSILON), batches)
    return weights


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


def export_state(run: Run, path: Path, pictures: TrainingSet) -> None:
    """Write the averaged model with its batch norms, for whatever reads a state dict, and say how to import it."""
    torch.save({name: value.cpu() for name, value in run.average.items()}, path)
    mean, std = (",".join(map(str, values)) for values in (pictures.mean, pictures.std))
    words = f"import_weights {path} OUT pictures {run.args.data} mean {mean} std {std}"
    print(f"written: {path}; to import it: {words}", file=sys.stderr)


def evaluate(weights: Weights, folder: Path) -> None:
    """Print the accuracy of the folded network on every set of test pictures."""
    for name, (pictures, labels) in test_pictures(folder, weights.architecture, weights.classes):
        found = plain_logits(weights, pictures.numpy() / 255).argmax(1)
        right = int((found == labels.numpy()).sum())
        print(f"{name}: {right} of {len(labels)} right, {100 * right / len(labels):.2f}%")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the pictures")
    parser.add_argument(
        "--classes", choices=[AUTO], help="take them from the data, and its normalisation too (default: CIFAR-10's)"
    )
    parser.add_argument("--depth", type=int, choices=[2 + 6 * n for n in BLOCKS], default=20, help="ResNet-8, -14, ..")
    parser.add_argument("--channels", choices=CHANNELS, default=CHANNELS[1], help="of the three stages")
    parser.add_argument("--colours", type=int, choices=[1, 3], default=3)
    parser.add_argument("--side", type=int, default=32, help="of the pictures, a power of two")
    parser.add_argument("--run", help="name of the run (default: resnet20, by depth)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, help="(default 256; of small sets a twentieth)")
    parser.add_argument("--rate", type=float, help="highest learning rate (default 0.4 for a batch of 256)")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--smoothing", type=float, default=0.05, help="label smoothing")
    parser.add_argument("--cutout", type=int, help="side of the erased square, pixels (default a quarter of --side)")
    parser.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, help="mirror pictures (default: unless --classes auto)"
    )
    parser.add_argument("--jpeg", type=float, default=0.4, help="part of the pictures shown as JPEG")
    parser.add_argument("--transplant", type=float, default=0.5, help="part of the cleaned pictures lent detail")
    parser.add_argument("--exact-repeats", type=int, default=1, help="times an exact picture is shown an epoch")
    parser.add_argument("--wide", type=int, default=1, help="times as many channels: for a teacher")
    parser.add_argument("--start", metavar="NAME", help="the run whose network this one starts from")
    parser.add_argument("--teacher", metavar="NAME", help="the run that teaches this one")
    parser.add_argument("--distil", type=float, default=0.7, help="part of the loss that the teacher sets")
    parser.add_argument("--temperature", type=float, default=3.0, help="softens the teacher's answers")
    parser.add_argument("--tail-penalty", type=float, default=0.1)
    parser.add_argument(
        "--approximate", type=int, nargs="*", default=[], metavar="SET", help="train with these sets' ReLUs in turn"
    )
    parser.add_argument(
        "--averaging", type=float, default=0.998, help="decay of the weight average, by step; less in short runs"
    )
    parser.add_argument("--held-out", type=int, help="training pictures kept for the log (default a tenth, most 1000)")
    parser.add_argument("--restore", action="store_true", help="clean the JPEG pictures by a network first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for all")
    parser.add_argument(
        "--compile", action="store_true", help="compile the model: a sixth faster, needs a C++ compiler"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weight file when trained")
    parser.add_argument("--state", type=Path, metavar="FILE", help="write a state dict, batch norms and all, as well")
    parser.add_argument("--now", action="store_true", help="with --export: from the last checkpoint, without training")
    parser.add_argument("--soup", nargs="+", metavar="NAME", help="with --export: the mean of these runs' networks")
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="only measure a weight file")
    args = parser.parse_args(argv)
    args.run = args.run or f"resnet{args.depth}"
    args.folder = FOLDER / args.run
    args.flip = args.classes != AUTO if args.flip is None else args.flip
    args.cutout = args.side // 4 if args.cutout is None else args.cutout
    return args


def fit(args: argparse.Namespace, count: int) -> None:
    """Choose for so many pictures what was not asked for."""
    if args.held_out is None:
        args.held_out = min(1000, count // 10)
    trained_on = count - args.held_out
    if args.batch is None:
        args.batch = min(256, max(16, trained_on // BATCHES), trained_on)
    if args.rate is None:
        args.rate = 0.4 * args.batch / 256


def main() -> None:
    args = arguments()
    try:
        run(args)
    except LowmemError as error:
        raise SystemExit(f"{error}\nhint: {error.hint}" if error.hint else str(error)) from None


def run(args: argparse.Namespace) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate(load_weights(args.evaluate), args.data)
        return
    exported = args.export or args.state
    if (args.soup or args.now) and not exported:
        raise SystemExit("--soup and --now make weights to export: name a file with --export")
    classes = classes_of(args.data) if args.classes == AUTO else CIFAR10_CLASSES
    check_names(classes, str(args.data))
    shape = architecture(args, len(classes))
    if exported:
        parameter_set(6, architecture=shape)  # which refuses what no ring holds, before it is trained
    pictures = training_set(args.data, args.restore and not args.now, shape, classes)
    if args.classes == AUTO:
        pictures = pictures.measured()
    fit(args, len(pictures.labels))
    if args.soup:
        done = Run(args, pictures, steps_an_epoch=1)
        done.average = soup(args, pictures)
    elif args.now:
        done = Run(args, pictures, steps_an_epoch=1)
        done.load(args.folder / "checkpoint.pt")
    else:
        done = train(args, pictures)
    if args.export:
        export(done, args.export, pictures)
    if args.state:
        export_state(done, args.state, pictures)


if __name__ == "__main__":
    main()
