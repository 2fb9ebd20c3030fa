"""The network by its definition, in numpy: pictures in the clear, in float64, without packing or PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .weights import Weights

#: What a ReLU does: its name (see Architecture.relu_channels) and its input (.., channels, width, width).
Activation = Callable[[str, np.ndarray], np.ndarray]


def relu(name: str, x: np.ndarray) -> np.ndarray:
    """Apply the exact ReLU."""
    return np.maximum(x, 0)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 1) -> np.ndarray:
    """Convolve with zero padding: x (.., inputs, width, width), weight (outputs, inputs, k, k), k odd, and bias
    (outputs,) give (.., outputs, width / stride, width / stride) in float64."""
    if x.ndim > 3:  # one by one: the windows of a picture alone take k * k times its memory
        return np.stack([convolve(picture, weight, bias, stride) for picture in x])
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (1, *weight.shape[2:]))[:, ::stride, ::stride, 0]
    products = np.tensordot(weight.astype(np.float64), windows, ((1, 2, 3), (0, 3, 4)))
    return products + bias[:, None, None]


@np.errstate(all="ignore")  # absurd weights give what is not finite, and the callers look
def forward(
    weights: Weights,
    pixels: np.ndarray,
    activation: Activation = relu,
    convolve: Callable[..., np.ndarray] = convolve,
) -> dict[str, np.ndarray]:
    """Compute the values on the way of pictures, (.., colours, width, width) in [0, 1]; one takes ResNet20 some 10 ms.

    By name: each ReLU's input, (.., channels, width, width), and its output under ``<name>.relu``;
    ``<block>.downsample``, the result of a shortcut's 1x1 convolution; ``pool``; ``fc``, the logits, (.., classes).
    """
    p, kept = weights.parameters, {}

    def layer(name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        return convolve(x, p[f"{name}.weight"], p[f"{name}.bias"], stride)

    def activate(name: str, x: np.ndarray) -> np.ndarray:
        kept[name], kept[f"{name}.relu"] = x, activation(name, x)
        return kept[f"{name}.relu"]

    x = activate("conv1", layer("conv1", weights.normalise(pixels)))
    for block in weights.architecture.blocks():
        first, second, down = (f"{block.name}.{part}" for part in ("conv1", "conv2", "downsample"))
        y = activate(first, layer(first, x, block.stride))
        if block.stride > 1:
            x = kept[down] = layer(down, x, block.stride)
        x = activate(second, layer(second, y) + x)
    kept["pool"] = x.mean((-2, -1))
    kept["fc"] = kept["pool"] @ p["fc.weight"].astype(np.float64).T + p["fc.bias"]
    return kept
