"""ResNet20 layer by layer, on any evaluator.

Between layers a ciphertext holds all channels of a layer, slot = channel * width^2 + row * width + column.
Every ReLU is preceded by a refresh; the rest of the levels is planned around that (see :mod:`.parameters`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from .architecture import Architecture, Block
from .classifier import classify
from .clear import Planned, PlanningEvaluator
from .convolution import convolution, convolve
from .downsample import gather
from .evaluator import Evaluator
from .packing import ClassifierPacking, DownsamplePacking, GatherPacking, pack
from .parameters import PICTURE_LEVELS, ParameterSet
from .scaling import Scaled

X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)
#: Raised whenever layers or packing come to compute something else with the same parameters.
COMPUTATION_VERSION = 1


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


def pack_picture(architecture: Architecture, pixels: np.ndarray) -> np.ndarray:
    """Normalised (colours, width, width) -> the slots that the client encrypts, with PICTURE_LEVELS levels."""
    blocks = np.zeros((input_channels(architecture), architecture.width, architecture.width))
    blocks[: architecture.input_channels] = pixels
    return pack(blocks)


@dataclass(frozen=True)
class Part(Generic[X]):
    """A piece of the network, between two points where one or two ciphertexts hold all there is.

    stage: the stage whose rotation keys and bootstrapping it needs; run: from the ciphertexts before it to those after.
    """

    name: str
    stage: int
    run: Callable[[tuple[X, ...]], tuple[X, ...]]


@dataclass
class Network(Generic[X]):
    """The encrypted network: ``run`` takes the packed picture to the logits (logit k in slot k)."""

    set: ParameterSet
    scaled: Scaled
    ev: Evaluator[X]
    observer: Observer[X]

    def run(self, picture: X) -> X:
        state: tuple[X, ...] = (picture,)
        stage = 0
        for part in self.parts():
            if part.stage != stage:
                stage = part.stage
                self.ev.enter_stage(stage)
            state = part.run(state)
        return state[0]

    def parts(self) -> list[Part[X]]:
        """The network in order, one stage after the other; the first part takes the packed picture alone."""
        parts = [Part("conv1", 1, self.first)]
        for block in self.set.architecture.blocks():
            if block.stride == 2:
                downsample = partial(self.downsample, block=block)
                parts.append(Part(f"{block.name}.downsample", block.stage - 1, downsample))
            parts.append(Part(block.name, block.stage, partial(self.block, block=block)))
        return [*parts, Part("head", parts[-1].stage, self.head)]

    def first(self, state: tuple[X, ...]) -> tuple[X, ...]:
        """conv1 and its ReLU; the picture's few blocks are repeated over the slots of stage 1."""
        architecture = self.set.architecture
        self.observer.step("input", "conv1")
        x = self.ev.with_slots(state[0], architecture.stage_slots(1))
        kernel, bias = self._parameters("conv1")
        empty = input_channels(architecture) - architecture.input_channels
        kernel = np.pad(kernel, ((0, 0), (0, empty), (0, 0), (0, 0)))
        return (self.relu(convolution(self.ev, x, kernel, bias, architecture.width), "input", "conv1"),)

    def block(self, state: tuple[X, ...], block: Block) -> tuple[X, ...]:
        """relu(conv2(relu(conv1(x))) + x) of x; or, from both results of ``downsample``, what comes after them."""
        stage = f"layer{block.stage}"
        first, second = f"{block.name}.conv1", f"{block.name}.conv2"
        main, shortcut = state[0], state[-1]
        if block.stride == 1:
            self.observer.step(stage, first)
            main = self._convolution(main, first, block.width)
        main = self.relu(main, stage, first)
        self.observer.step(stage, second)
        main = self._convolution(main, second, block.out_width)
        return (self.relu(self.ev.add(main, shortcut), stage, second),)

    def downsample(self, state: tuple[X, ...], block: Block) -> tuple[X, ...]:
        """Stride-2 convolution and 1x1 shortcut, both already in the next stage's packing."""
        (x,), name, stage = state, f"{block.name}.downsample", f"layer{block.stage}"
        self.observer.step(stage, f"{block.name}.conv1")
        kernel, bias = self._parameters(f"{block.name}.conv1")
        shortcut, shortcut_bias = self._parameters(name)
        packing = DownsamplePacking(kernel, bias, shortcut[:, :, 0, 0], shortcut_bias, block.width)
        both = convolve(self.ev, x, packing, self.set.copies(self.ev.slots(x)))
        self.observer.step(stage, f"{name} refresh")
        both = self.set.refresh.identity(self.ev, both)
        self.observer.step(stage, f"{name} gather")
        factors = self.scaled.gather_factors[block.name]
        branches = gather(self.ev, both, GatherPacking(block.in_channels, block.width, factors))
        return tuple(self.ev.lower(branch, 0) for branch in branches)

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

    def head(self, state: tuple[X, ...]) -> tuple[X, ...]:
        """Average pooling and the fully connected layer."""
        self.observer.step("head", "pool and fc")
        weight, bias = self._parameters("fc")
        return (classify(self.ev, state[0], ClassifierPacking(weight, bias, self.set.architecture.final_width)),)

    def _convolution(self, x: X, layer: str, width: int) -> X:
        copies = self.set.copies(self.ev.slots(x))
        return convolution(self.ev, x, *self._parameters(layer), width, copies)

    def _parameters(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        return self.scaled.parameters[f"{layer}.weight"], self.scaled.parameters[f"{layer}.bias"]


def computation(set_: ParameterSet, scaled: Scaled) -> str:
    """A fingerprint of all that an evaluation computes: set, scaled parameters, series, reach and margin.

    Two evaluations of the same give results and states that may stand for each other's.  Numbers enter rounded, for
    libraries of linear algebra differ in their last bits from one processor to another.
    """
    refresh = set_.refresh
    facts = [COMPUTATION_VERSION, set_.fingerprint, refresh.reach, refresh.identity_reach, refresh.margin]
    facts += [[f"{complex(c):.8f}" for c in coefficients] for coefficients in refresh.series]
    for arrays in (scaled.parameters, scaled.relu_factors, scaled.gather_factors, scaled.units):
        facts += [(name, *_sketch(np.asarray(arrays[name]))) for name in sorted(arrays)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _sketch(values: np.ndarray) -> tuple[str, str]:
    """Two weighted sums of an array that hardly any change leaves as they are."""
    flat = values.reshape(-1).astype(np.float64)
    return f"{np.abs(flat).sum():.6e}", f"{flat @ np.cos(np.arange(len(flat))):.6e}"


@dataclass(frozen=True)
class Plan:
    """What a set's evaluation of the network needs: by stage, rotation steps, each with the most levels left where it is
    done, and number of refreshes; and, by part of the network, the steps an observer is told of."""

    rotations: dict[int, frozenset[int]]
    levels_of: dict[int, dict[int, int]]
    refreshes: dict[int, int]
    steps: dict[str, list[tuple[str, str]]]
    output_levels: int


@dataclass
class _StepList(NoObserver):
    """Keeps the steps it is told of."""

    steps: list[tuple[str, str]] = field(default_factory=list)

    def step(self, stage: str, name: str) -> None:
        self.steps.append((stage, name))


def plan(set_: ParameterSet, evaluator: PlanningEvaluator | None = None) -> Plan:
    """Run the network on nothing: raises PlanError where levels or slots would not do."""
    ev, observer = evaluator or PlanningEvaluator(set_), _StepList()
    network = Network(set_, _unscaled(set_.architecture), ev, observer)
    slots = input_channels(set_.architecture) * set_.architecture.width**2
    state: tuple[Planned, ...] = (Planned(slots, PICTURE_LEVELS),)
    steps: dict[str, list[tuple[str, str]]] = {}
    for part in network.parts():
        ev.enter_stage(part.stage)
        observer.steps = steps[part.name] = []
        state = part.run(state)
    rotations = {stage: frozenset(steps - {0}) for stage, steps in ev.rotations.items()}
    levels_of = {stage: ev.levels_of.get(stage, {}) for stage in rotations}
    return Plan(rotations, levels_of, dict(ev.refreshes), steps, state[0].levels)


def _unscaled(architecture: Architecture) -> Scaled:
    """Parameters of the right shapes; planning looks at nothing else."""
    parameters = {name: np.zeros(shape) for name, shape in architecture.parameter_shapes().items()}
    relus = architecture.relu_channels()
    ones = {name: np.ones(channels) for name, channels in relus.items()}
    factors = {block.name: np.ones((2, block.out_channels)) for block in architecture.blocks()}
    return Scaled(architecture, parameters, dict.fromkeys(relus, 1.0), factors, ones)
