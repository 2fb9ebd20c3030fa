"""A small network and insecure parameters for it: the same code on a ring of dimension 2^12, in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.network.refresh import ChebyshevRefresh, FunctionalRefresh
from lowmem_resnet20.network.weights import Weights

ARCHITECTURE = Architecture(width=16, channels=(4, 8, 16), blocks_per_stage=1)

INSECURE_SET = ParameterSet(
    number=1,
    refresh=ChebyshevRefresh(59),
    scaling_bits=48,
    first_modulus_bits=52,
    large_digits=3,
    level_budget=(3, 3),
    dim1=(8, 4),
    log2_ring=12,
    architecture=ARCHITECTURE,
    security="HEStd_NotSet",
)


INSECURE_FUNCTIONAL_SET = ParameterSet(
    number=6,
    refresh=FunctionalRefresh(27),
    scaling_bits=36,
    first_modulus_bits=37,
    large_digits=3,
    level_budget=(3, 3),
    dim1=(0, 0),
    most_copies=8,
    log2_ring=12,
    architecture=ARCHITECTURE,
    security="HEStd_NotSet",
)

#: Two stages, whose keys are loaded by turns, and no more: the shortest evaluation that has all kinds of parts.
INSECURE_SHORT_SET = replace(
    INSECURE_FUNCTIONAL_SET, architecture=Architecture(width=16, channels=(4, 8), blocks_per_stage=1)
)


def random_parameters(architecture: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Folded parameters that keep values of about the same size from layer to layer."""
    random = np.random.default_rng(seed)
    parameters = {}
    for name, shape in architecture.parameter_shapes().items():
        deviation = np.sqrt(1.4 / np.prod(shape[1:])) if len(shape) > 1 else 0.3
        parameters[name] = random.normal(0, deviation, shape).astype(np.float32)
    return parameters


def random_weights(architecture: Architecture = ARCHITECTURE, seed: int = 0) -> Weights:
    """Random parameters with bounds measured on random pictures, by the numpy network below, half as high again:
    the few random pictures stand for the many that real weights are calibrated on."""
    random = np.random.default_rng(seed)
    parameters = random_parameters(architecture, seed)
    mean, std = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
    zeros = {name: np.zeros(channels, np.float32) for name, channels in architecture.relu_channels().items()}
    weights = Weights(architecture, parameters, mean, std, zeros)
    bounds = dict(zeros)
    for _ in range(8):
        for name, values in forward(weights, random_picture(architecture, random)).items():
            if name in bounds:
                bounds[name] = np.maximum(bounds[name], 1.5 * np.abs(values).max((1, 2)).astype(np.float32))
    return Weights(architecture, parameters, mean, std, bounds)


def random_picture(architecture: Architecture, random: np.random.Generator) -> np.ndarray:
    return random.uniform(0, 1, (architecture.input_channels, architecture.width, architecture.width))


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 1) -> np.ndarray:
    """A convolution by its definition: (channels, width, width) in float64, zero padding."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, weight.astype(np.float64)) + bias[:, None, None]


def forward(weights: Weights, pixels: np.ndarray, relu=lambda name, x: np.maximum(x, 0)) -> dict[str, np.ndarray]:
    """The network by its definition, without torch: each ReLU's input by name, ``fc`` for the logits."""
    p, kept = weights.parameters, {}

    def layer(name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        return convolve(x, p[f"{name}.weight"], p[f"{name}.bias"], stride)

    def activate(name: str, x: np.ndarray) -> np.ndarray:
        kept[name] = x
        return relu(name, x)

    x = activate("conv1", layer("conv1", weights.normalise(pixels)))
    for block in weights.architecture.blocks():
        y = activate(f"{block.name}.conv1", layer(f"{block.name}.conv1", x, block.stride))
        shortcut = layer(f"{block.name}.downsample", x, block.stride) if block.stride > 1 else x
        x = activate(f"{block.name}.conv2", layer(f"{block.name}.conv2", y) + shortcut)
    kept["fc"] = p["fc.weight"].astype(np.float64) @ x.mean((1, 2)) + p["fc.bias"]
    return kept
