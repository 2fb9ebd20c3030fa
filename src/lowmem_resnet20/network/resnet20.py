"""The network layer by layer, on any evaluator.

Between layers a ciphertext holds all channels of a layer, of one picture or of several (see :mod:`.packing`); a group
of pictures may need more than one, which go through a part of the network one after the other.  Every ReLU is preceded
by a refresh; the rest of the levels is planned around that (see :mod:`.parameters`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from .architecture import Architecture, Block
from .classifier import classify
from .clear import Planned, PlanningEvaluator
from .convolution import convolve
from .downsample import gather
from .evaluator import Evaluator
from .fingerprint import fingerprint
from .packing import (
    ClassifierPacking,
    ConvolutionPacking,
    DownsamplePacking,
    GatherPacking,
    logit_parts,
    pack,
    unpack_logits,
)
from .parameters import GATHER_LEVELS, PICTURE_LEVELS, ParameterSet
from .regrouping import places, regrouping
from .scaling import SCALING_CHOICES, Scaled

X = TypeVar("X")
Y = TypeVar("Y")
X_contra = TypeVar("X_contra", contravariant=True)
#: Raised whenever layers, packing or an engine come to compute something else of the same choices.
COMPUTATION_VERSION = 3


class Observer(Protocol[X_contra]):
    """Told of each layer as it begins, and shown values as they come to be."""

    def step(self, stage: str, name: str) -> None: ...

    def value(self, name: str, x: X_contra) -> None: ...


class NoObserver:
    """Sees nothing."""

    def step(self, stage: str, name: str) -> None:
        pass

    def value(self, name: str, x: object) -> None:
        pass


def input_channels(architecture: Architecture) -> int:
    """Blocks of the encrypted picture: its colours, filled up with empty channels to a power of two."""
    return 1 << (architecture.input_channels - 1).bit_length()


def input_slots(set_: ParameterSet) -> int:
    """Slots of each ciphertext of an encrypted picture or group."""
    return set_.pictures_in(1) * input_channels(set_.architecture) * set_.architecture.width**2


def pack_pictures(architecture: Architecture, pictures: np.ndarray) -> np.ndarray:
    """Normalised (pictures, colours, width, width) -> slots of a ciphertext, encrypted with PICTURE_LEVELS levels."""
    blocks = np.zeros((len(pictures), input_channels(architecture), architecture.width, architecture.width))
    blocks[:, : architecture.input_channels] = pictures
    return pack(blocks)


def pack_group(set_: ParameterSet, pictures: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Return the slots of each of a group's ciphertexts.

    pictures: normalised (colours, width, width), or None for a place that stays empty, in their order; places that are
    not given are empty too.
    """
    architecture = set_.architecture
    group = np.zeros((set_.pictures, architecture.input_channels, architecture.width, architecture.width))
    for number, picture in enumerate(pictures):
        if picture is not None:
            group[number] = picture
    return [pack_pictures(architecture, group[numbers]) for numbers in places(set_, 1)]


def group_logits(set_: ParameterSet, slots: np.ndarray) -> np.ndarray:
    """(pictures, classes) of the slots of a result, in the group's order."""
    architecture = set_.architecture
    [numbers] = places(set_, len(architecture.channels))
    width, channels = architecture.final_width, architecture.channels[-1]
    found = unpack_logits(slots, set_.pictures, architecture.classes, width, channels)
    logits = np.empty_like(found)
    logits[numbers] = found
    return logits


def logit_slots(set_: ParameterSet) -> int:
    """Return how many slots of a result hold all logits: those of each picture's first channel, or for many classes
    all."""
    architecture = set_.architecture
    several = logit_parts(architecture.classes, architecture.final_width) > 1
    return set_.pictures * architecture.final_width**2 * (architecture.channels[-1] if several else 1)


@dataclass(frozen=True)
class Part(Generic[X]):
    """A piece of the network, between two points where few ciphertexts hold all there is: one for each of the stage's,
    or, of main branch and shortcut, two.

    stage: the stage whose rotation keys and bootstrapping it needs;
    run: from the ciphertexts before it to those after.
    """

    name: str
    stage: int
    run: Callable[[tuple[X, ...]], tuple[X, ...]]


@dataclass(frozen=True)
class _OfSome(Generic[X]):
    """An observer of some of a group's pictures, numbers ``first`` to ``last`` from 1, in ciphertext ``number``."""

    observer: Observer[X]
    number: int
    first: int
    last: int

    def step(self, stage: str, name: str) -> None:
        self.observer.step(f"{stage}, pictures {self.first}-{self.last}", name)

    def value(self, name: str, x: X) -> None:
        self.observer.value(value_name(name, self.number), x)


def value_name(name: str, number: int) -> str:
    """Return the name of a value in the ``number``-th of several ciphertexts, from 0."""
    return f"{name}-{number + 1}"


@dataclass
class Network(Generic[X]):
    """The encrypted network: ``run`` takes the packed pictures to the logits (see :mod:`.classifier`)."""

    set: ParameterSet
    scaled: Scaled
    ev: Evaluator[X]
    observer: Observer[X]

    def run(self, *pictures: X) -> X:
        state: tuple[X, ...] = pictures
        stage = 0
        for part in self.parts():
            if part.stage != stage:
                stage = part.stage
                self.ev.enter_stage(stage)
            state = part.run(state)
        return state[0]

    def parts(self) -> list[Part[X]]:
        """Return the network in order, one stage after the other; the first part takes the packed pictures alone."""
        parts = [Part("conv1", 1, self.first)]
        for block in self.set.architecture.blocks():
            if block.stride == 2:
                downsample = partial(self.downsample, block=block)
                parts.append(Part(f"{block.name}.downsample", block.stage - 1, downsample))
            parts.append(Part(block.name, block.stage, partial(self.block, block=block)))
        return [*parts, Part("head", parts[-1].stage, self.head)]

    def first(self, state: tuple[X, ...]) -> tuple[X, ...]:
        """conv1 and its ReLU; the pictures' few blocks are repeated over the slots of stage 1."""
        return tuple(network._first(x) for network, x in self._each(1, state))

    def block(self, state: tuple[X, ...], block: Block) -> tuple[X, ...]:
        """relu(conv2(relu(conv1(x))) + x) of each x; or, from both results of ``downsample``, what comes after them."""
        pairs = zip(state[0::2], state[1::2], strict=True) if block.stride == 2 else zip(state, state, strict=True)
        each = self._each(block.stage, list(pairs))
        return tuple(network._block(main, shortcut, block) for network, (main, shortcut) in each)

    def downsample(self, state: tuple[X, ...], block: Block) -> tuple[X, ...]:
        """Stride-2 convolution and 1x1 shortcut, both already in the next stage's packing, by turns."""
        strided = [network._strided(x, block) for network, x in self._each(block.stage - 1, state)]
        sources = len(strided) // self.set.ciphertexts(block.stage)
        each = self._each(block.stage, [strided[i : i + sources] for i in range(0, len(strided), sources)])
        return tuple(branch for network, ys in each for branch in network._gathered(ys, block))

    def head(self, state: tuple[X, ...]) -> tuple[X, ...]:
        """Average pooling and the fully connected layer."""
        self.observer.step("head", "pool and fc")
        packing = ClassifierPacking(*self._parameters("fc"), self.set.architecture.final_width, self.set.pictures)
        return (classify(self.ev, state[0], packing),)

    def _each(self, stage: int, items: Sequence[Y]) -> Iterator[tuple[Network[X], Y]]:
        """Yield the network for each ciphertext of a stage, whose observer is told which it is, and its item."""
        for number, (item, pictures) in enumerate(zip(items, places(self.set, stage), strict=True)):
            observer = self.observer
            if len(items) > 1:
                observer = _OfSome(observer, number, min(pictures) + 1, max(pictures) + 1)
            yield replace(self, observer=observer), item

    def _first(self, picture: X) -> X:
        architecture = self.set.architecture
        self.observer.step("input", "conv1")
        x = self.ev.with_slots(picture, self.set.stage_slots(1))
        kernel, bias = self._parameters("conv1")
        empty = input_channels(architecture) - architecture.input_channels
        kernel = np.pad(kernel, ((0, 0), (0, empty), (0, 0), (0, 0)))
        packing = ConvolutionPacking(kernel, bias, architecture.width, self.set.pictures_in(1))
        return self.relu(convolve(self.ev, x, packing), "input", "conv1")

    def _block(self, main: X, shortcut: X, block: Block) -> X:
        stage = f"layer{block.stage}"
        first, second = f"{block.name}.conv1", f"{block.name}.conv2"
        if block.stride == 1:
            self.observer.step(stage, first)
            main = self._convolution(main, first, block)
        main = self.relu(main, stage, first)
        self.observer.step(stage, second)
        main = self._convolution(main, second, block)
        return self.relu(self.ev.add(main, shortcut), stage, second)

    def _strided(self, x: X, block: Block) -> X:
        """Return both branches' convolutions, refreshed."""
        name, stage = f"{block.name}.downsample", f"layer{block.stage}"
        self.observer.step(stage, f"{block.name}.conv1")
        kernel, bias = self._parameters(f"{block.name}.conv1")
        shortcut, shortcut_bias = self._parameters(name)
        move = regrouping(self.set, block.stage - 1)
        packing = DownsamplePacking(kernel, bias, shortcut[:, :, 0, 0], shortcut_bias, block.width, move)
        both = convolve(self.ev, x, packing, self.set.copies(self.ev.slots(x)))
        self.observer.step(stage, f"{name} refresh")
        return self.ev.lower(self.set.refresh.identity(self.ev, both), GATHER_LEVELS)

    def _gathered(self, ys: Sequence[X], block: Block) -> tuple[X, ...]:
        """Main branch and shortcut of the pictures in ``ys``."""
        self.observer.step(f"layer{block.stage}", f"{block.name}.downsample gather")
        factors = self.scaled.gather_factors[block.name]
        packing = GatherPacking(block.width, factors, regrouping(self.set, block.stage - 1))
        return tuple(self.ev.lower(branch, 0) for branch in gather(self.ev, ys, packing))

    def relu(self, x: X, stage: str, name: str) -> X:
        """Refresh and ReLU; leaves the levels that a convolution needs."""

        def refreshed(x: X) -> None:
            self.observer.value(f"{name}.refresh", x)
            self.observer.step(stage, f"{name} relu")

        self.observer.value(name, x)
        self.observer.step(stage, f"{name} refresh")
        x = self.set.refresh.relu(self.ev, x, self.scaled.relu_factors[name], refreshed)
        x = self.ev.lower(x, self.set.convolution_levels(self.ev.slots(x)))
        self.observer.value(f"{name}.relu", x)
        return x

    def _convolution(self, x: X, layer: str, block: Block) -> X:
        packing = ConvolutionPacking(*self._parameters(layer), block.out_width, self.set.pictures_in(block.stage))
        return convolve(self.ev, x, packing, self.set.copies(self.ev.slots(x)))

    def _parameters(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        return self.scaled.parameters[f"{layer}.weight"], self.scaled.parameters[f"{layer}.bias"]


def computation(set_: ParameterSet) -> str:
    """Return a fingerprint of all that an evaluation computes with given weights: the choices of set, network, series
    and scaling, and the versions of the code that follows them.

    Two evaluations of the same give results and states that may stand for each other's.
    """
    return fingerprint({"version": COMPUTATION_VERSION, "set": set_.choices, "scaling": SCALING_CHOICES})


@dataclass(frozen=True)
class Plan:
    """The needs of a set's evaluation of the network.

    rotations: by stage, the steps;
    levels_of: by stage and step, the most levels left where it is done;
    refreshes: by stage, their number;
    steps: by part of the network, those that an observer is told of;
    values: names of those that an observer is shown;
    output_levels: levels left of the logits.
    """

    rotations: dict[int, frozenset[int]]
    levels_of: dict[int, dict[int, int]]
    refreshes: dict[int, int]
    steps: dict[str, list[tuple[str, str]]]
    values: list[str]
    output_levels: int


@dataclass
class _Names(NoObserver):
    """Keeps the steps it is told of, and the names of the values."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def step(self, stage: str, name: str) -> None:
        self.steps.append((stage, name))

    def value(self, name: str, x: object) -> None:
        self.values.append(name)


def plan(set_: ParameterSet, evaluator: PlanningEvaluator | None = None) -> Plan:
    """Run the network on nothing: raises PlanError where levels or slots would not do."""
    ev, observer = evaluator or PlanningEvaluator(set_), _Names()
    network = Network(set_, _unscaled(set_.architecture), ev, observer)
    state: tuple[Planned, ...] = (Planned(input_slots(set_), PICTURE_LEVELS),) * set_.ciphertexts(1)
    steps: dict[str, list[tuple[str, str]]] = {}
    for part in network.parts():
        ev.enter_stage(part.stage)
        observer.steps = steps[part.name] = []
        state = part.run(state)
    rotations = {stage: frozenset(steps - {0}) for stage, steps in ev.rotations.items()}
    levels_of = {stage: ev.levels_of.get(stage, {}) for stage in rotations}
    return Plan(rotations, levels_of, dict(ev.refreshes), steps, observer.values, state[0].levels)


def _unscaled(architecture: Architecture) -> Scaled:
    """Parameters of the right shapes; planning looks at nothing else."""
    parameters = {name: np.zeros(shape) for name, shape in architecture.parameter_shapes().items()}
    relus = architecture.relu_channels()
    ones = {name: np.ones(channels) for name, channels in relus.items()}
    factors = {block.name: np.ones((2, block.out_channels)) for block in architecture.blocks()}
    return Scaled(architecture, parameters, dict.fromkeys(relus, 1.0), factors, ones)
