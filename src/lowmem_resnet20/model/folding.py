"""Batch norm folded into the convolutions before it, whichever names a source has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..network.architecture import Architecture

#: What batch norm adds to a variance, unless a network says otherwise: PyTorch's default.
EPSILON = 1e-5


@dataclass(frozen=True)
class Layer:
    """The modules that a layer of the network is, by the source's names.

    convolution: with or without a bias;
    norm: the batch norm behind it, with or without scale and shift; "" where there is none.
    """

    convolution: str
    norm: str = ""


@np.errstate(all="ignore")  # absurd numbers, or a variance 0 without an eps: who saves what comes out looks
def fold(
    tensors: Mapping[str, np.ndarray],
    layers: Mapping[str, Layer],
    linear: str,
    architecture: Architecture,
    epsilon: float = EPSILON,
) -> dict[str, np.ndarray]:
    """Make the folded parameters (float32) of an architecture.

    tensors: float64, by the source's names; layers: by the architecture's names, a shortcut that has no parameters left
    out; linear: the source's name of the fully connected layer, whose bias may be missing.
    """
    folded = {"fc.weight": tensors[f"{linear}.weight"]}
    folded["fc.bias"] = tensors.get(f"{linear}.bias", np.zeros(len(folded["fc.weight"])))
    for name, layer in layers.items():
        folded[f"{name}.weight"], folded[f"{name}.bias"] = _folded(tensors, layer, epsilon)
    for block in architecture.blocks():
        name = f"{block.name}.downsample"
        if block.stride > 1 and name not in layers:
            folded[f"{name}.weight"] = _padding(block.in_channels, block.out_channels)
            folded[f"{name}.bias"] = np.zeros(block.out_channels)
    return {name: np.asarray(folded[name], dtype=np.float32) for name in architecture.parameter_shapes()}


def _folded(tensors: Mapping[str, np.ndarray], layer: Layer, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    weight = tensors[f"{layer.convolution}.weight"]
    bias = tensors.get(f"{layer.convolution}.bias", np.zeros(len(weight)))
    if not layer.norm:
        return weight, bias
    mean, variance = (tensors[f"{layer.norm}.{part}"] for part in ("running_mean", "running_var"))
    factor = tensors.get(f"{layer.norm}.weight", np.ones(len(mean))) / np.sqrt(variance + epsilon)
    shift = tensors.get(f"{layer.norm}.bias", np.zeros(len(mean)))
    return weight * factor[:, None, None, None], shift + (bias - mean) * factor


def _padding(inputs: int, outputs: int) -> np.ndarray:
    """(outputs, inputs, 1, 1) kernel of a shortcut without parameters, option A of He et al., section 4.2, as
    F.pad(x[:, :, ::2, ::2], ...) of the best-known ResNet20 for CIFAR-10 has it: every second row and column is kept,
    and a quarter of the new channels is padded with zeros on either side."""
    kernel = np.zeros((outputs, inputs, 1, 1))
    kernel[np.arange(inputs) + outputs // 4, np.arange(inputs)] = 1
    return kernel
