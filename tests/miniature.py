"""A small network and insecure parameters for it: the same code on a ring of dimension 2^12, in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, Architecture
from lowmem_resnet20.network.card import numbered_classes
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.network.refresh import ChebyshevRefresh, FunctionalRefresh, NativeRefresh
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

#: For the native evaluator, with each of its ways to do a refresh.
INSECURE_NATIVE_SET = replace(
    INSECURE_FUNCTIONAL_SET,
    refresh=NativeRefresh(15, "least time"),
    scaling_bits=28,
    first_modulus_bits=29,
    large_digits=6,
)
INSECURE_LEAN_SET = replace(INSECURE_NATIVE_SET, number=5, refresh=NativeRefresh(15, "fewest keys"))
INSECURE_SHORT_NATIVE_SET = replace(INSECURE_NATIVE_SET, architecture=INSECURE_SHORT_SET.architecture)
#: The most that encryption may change a logit of the native sets, of up to 9.  By keys the worst of a group of set 7 is
#: off by 0.002 to 0.008, once in 16 by 0.015, where raising the modulus brought a coefficient beyond four deviations
#: (see native/refresh/exponential.py); of sets 5 and 6 by 0.007 at most.  Two pictures differ by 0.19 or more.
NATIVE_NOISE = 3e-2


def random_parameters(architecture: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Folded parameters that keep values of about the same size from layer to layer."""
    random = np.random.default_rng(seed)
    parameters = {}
    for name, shape in architecture.parameter_shapes().items():
        deviation = np.sqrt(1.4 / np.prod(shape[1:])) if len(shape) > 1 else 0.3
        parameters[name] = random.normal(0, deviation, shape).astype(np.float32)
    return parameters


def random_weights(architecture: Architecture = ARCHITECTURE, seed: int = 0) -> Weights:
    """Random parameters with bounds and largest logit measured on random pictures, by the network in numpy, half as
    high again: the few random pictures stand for the many that real weights are calibrated on."""
    random = np.random.default_rng(seed)
    parameters = random_parameters(architecture, seed)
    mean, std = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
    zeros = {name: np.zeros(channels, np.float32) for name, channels in architecture.relu_channels().items()}
    mean, std = mean[: architecture.input_channels], std[: architecture.input_channels]
    names = CIFAR10_CLASSES if architecture.classes == 10 else numbered_classes(architecture.classes)
    weights = Weights(architecture, names, mean, std, 0.0, "", parameters, zeros)
    bounds, largest_logit = dict(zeros), 0.0
    for _ in range(8):
        found = forward(weights, random_picture(architecture, random))
        largest_logit = max(largest_logit, 1.5 * float(np.abs(found["fc"]).max()))
        for name, values in found.items():
            if name in bounds:
                bounds[name] = np.maximum(bounds[name], 1.5 * np.abs(values).max((1, 2)).astype(np.float32))
    return replace(weights, bounds=bounds, largest_logit=largest_logit)


def random_picture(architecture: Architecture, random: np.random.Generator) -> np.ndarray:
    return random.uniform(0, 1, (architecture.input_channels, architecture.width, architecture.width))
