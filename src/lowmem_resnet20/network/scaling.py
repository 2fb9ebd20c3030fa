"""Weights scaled so that every ciphertext fits the range in which it is refreshed and the ReLU is approximated.

The encrypted value of a channel is its real value divided by the channel's *unit*.  Units are folded
into weights and biases, so they cost nothing; a pre-activation's unit is its calibrated bound with a
margin, over the reach of the set's refresh, so the encrypted pre-activation lies in [-reach, reach].  What a
downsampling block refreshes without a ReLU lies within the reach of that; gathering it changes the unit.

A shortcut adds two vectors, so both must have the same unit: within a stage the trunk's unit is one profile
over the channels times one number for each block.  The ReLU between two blocks multiplies by the ratio of their
numbers, folded into its coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .architecture import Architecture, Block
from .fingerprint import Choice
from .refresh import Refresh
from .weights import Weights

#: Least bound of a channel, as a part of its layer's largest: a channel quiet in calibration may wake up.
LEAST_BOUND = 0.1
#: What decides how weights are scaled, beside a refresh's reach and margin, for fingerprints.  version: raised whenever
#: the functions here come to scale otherwise.
SCALING_CHOICES: dict[str, Choice] = {"version": 1, "least bound": LEAST_BOUND}


@dataclass(frozen=True)
class Scaled:
    """A network ready to be packed.

    parameters: scaled weights by name, float64;
    relu_factors: by ReLU, the number its result is multiplied by;
    gather_factors: by downsampling block, (2, channels) from the units in which main branch and shortcut are refreshed
    to those of the ReLU of the one and of the trunk;
    units: (channels,) by ReLU, real value = encrypted value * unit before the ReLU, and
    * unit / relu_factor after it.
    """

    architecture: Architecture
    parameters: Mapping[str, np.ndarray]
    relu_factors: Mapping[str, float]
    gather_factors: Mapping[str, np.ndarray]
    units: Mapping[str, np.ndarray]

    def output_unit(self, relu: str) -> np.ndarray:
        return self.units[relu] / self.relu_factors[relu]


def scale(weights: Weights, refresh: Refresh) -> Scaled:
    """Choose units from the calibrated bounds and the refresh's margin, and fold them into the parameters."""
    reach, identity_reach = refresh.reach, refresh.identity_reach
    units, relu_factors = _units(weights, refresh.margin / reach)
    outputs = {relu: unit / relu_factors[relu] for relu, unit in units.items()}
    inputs, shortcuts, factors, source = dict(units), {}, {}, "conv1"
    for block in weights.architecture.blocks():
        first, second = f"{block.name}.conv1", f"{block.name}.conv2"
        if block.stride == 2:
            inputs[first] = units[first] * (reach / identity_reach)
            shortcut = _shortcut_reach(weights.parameters, block, units[source] * reach) / identity_reach
            shortcuts[block.name] = shortcut
            factors[block.name] = np.stack([inputs[first] / units[first], shortcut / units[second]])
        source = second
    parameters = fold_units(weights, inputs, outputs, shortcuts)
    return Scaled(weights.architecture, parameters, relu_factors, factors, units)


def fold_units(
    weights: Weights,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    shortcuts: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Parameters, float64, between values that are divided by units, each (channels,).

    inputs, outputs: units of each ReLU's input and output; shortcuts: of each downsampling block's shortcut.
    """
    folded: dict[str, np.ndarray] = {}

    def fold(layer: str, before: np.ndarray, after: np.ndarray) -> None:
        weight, bias = (np.asarray(weights.parameters[f"{layer}.{part}"], np.float64) for part in ("weight", "bias"))
        folded[f"{layer}.weight"] = weight * before[None, :, None, None] / after[:, None, None, None]
        folded[f"{layer}.bias"] = bias / after

    fold("conv1", np.ones(weights.architecture.input_channels), inputs["conv1"])
    source = "conv1"
    for block in weights.architecture.blocks():
        first, second = f"{block.name}.conv1", f"{block.name}.conv2"
        fold(first, outputs[source], inputs[first])
        fold(second, outputs[first], inputs[second])
        if block.stride == 2:
            fold(f"{block.name}.downsample", outputs[source], shortcuts[block.name])
        source = second
    folded["fc.weight"] = np.asarray(weights.parameters["fc.weight"], np.float64) * outputs[source]
    folded["fc.bias"] = np.asarray(weights.parameters["fc.bias"], np.float64)
    return folded


def _units(weights: Weights, margin: float) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Unit of each pre-activation, ``margin`` times its bound, and the factor of each ReLU."""
    bounds = {name: _reach(bound) for name, bound in weights.bounds.items()}
    units = {name: margin * bound for name, bound in bounds.items()}
    relu_factors = dict.fromkeys(units, 1.0)
    for trunk in trunks(weights.architecture):
        profile = np.max([bounds[name] for name in trunk], axis=0)
        sizes = [margin * float(np.max(bounds[name] / profile)) for name in trunk]
        for name, size in zip(trunk, sizes, strict=True):
            units[name] = size * profile
        for name, size, following in zip(trunk, sizes, sizes[1:], strict=False):
            relu_factors[name] = size / following
    return units, relu_factors


def _reach(bound: np.ndarray) -> np.ndarray:
    """Bounds with a floor for channels that hardly moved during calibration."""
    bound = np.asarray(bound, dtype=np.float64)
    largest = float(bound.max()) or 1.0
    return np.maximum(bound, LEAST_BOUND * largest)


def trunks(architecture: Architecture) -> list[list[str]]:
    """Return, by stage, the ReLUs of the trunk: those whose results meet in additions."""
    trunks: dict[int, list[str]] = {1: ["conv1"]}
    for block in architecture.blocks():
        trunks.setdefault(block.stage, []).append(f"{block.name}.conv2")
    return list(trunks.values())


def _shortcut_reach(given: Mapping[str, np.ndarray], block: Block, input_bound: np.ndarray) -> np.ndarray:
    """(outputs,) the most the 1x1 shortcut can reach on inputs in [0, input_bound]."""
    kernel = np.asarray(given[f"{block.name}.downsample.weight"], np.float64)[:, :, 0, 0] * input_bound
    bias = np.asarray(given[f"{block.name}.downsample.bias"], np.float64)
    highest = np.clip(kernel, 0, None).sum(axis=1) + bias
    lowest = np.clip(kernel, None, 0).sum(axis=1) + bias
    return _reach(np.maximum(np.abs(highest), np.abs(lowest)))
