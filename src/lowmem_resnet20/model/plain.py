"""A weight file's network in the clear, in double precision: what encrypted results are compared with.

PyTorch computes its convolutions where it is installed, numpy where not; the rest is ``network/forward.py`` either way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..network import forward
from ..network.weights import Weights

try:
    import torch
    from torch.nn.functional import conv2d
except (ImportError, OSError):  # or it is there in part: a library of its own is missing, or a folder was left over
    torch = None  # type: ignore[assignment]


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 1) -> np.ndarray:
    """Compute :func:`.forward.convolve` with PyTorch."""
    inputs, kernel, shift = (torch.from_numpy(np.array(values, dtype=np.float64)) for values in (x, weight, bias))
    return conv2d(inputs, kernel, shift, stride, weight.shape[-1] // 2).numpy()


class PlainNetwork:
    """A weight file's network.  library: name and version of what computes its convolutions."""

    library = f"PyTorch {torch.__version__}" if torch else f"numpy {np.__version__}"

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute (classes,) for one picture (colours, width, width) in [0, 1], (n, classes) for n of them."""
        return self.layers(pixels)["fc"]

    def layers(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the values on the way, as :func:`.forward.forward` names them."""
        return forward.forward(self.weights, pixels, convolve=convolve if torch else forward.convolve)


@np.errstate(over="ignore")  # who saves the bounds looks
def calibrate(weights: Weights, batches: Iterable[np.ndarray]) -> tuple[Weights, np.ndarray]:
    """Return weights whose bounds are the largest absolute input of each ReLU, by channel, over batches of pictures,
    and whose largest logit is theirs, whatever they were before; and the logits (n, classes) of all pictures.

    batches: (n, colours, width, width) in [0, 1] each.
    """
    channels = weights.architecture.relu_channels()
    zeros = {name: np.zeros(count, np.float32) for name, count in channels.items()}
    network = PlainNetwork(weights)
    bounds, found = dict(zeros), []
    for pixels in batches:
        layers = network.layers(pixels)
        found.append(layers["fc"])
        for name, values in layers.items():
            if name in bounds:
                largest = np.abs(values).max((0, 2, 3)).astype(np.float32)
                bounds[name] = np.maximum(bounds[name], largest)
    logits = np.concatenate(found)
    return replace(weights, bounds=bounds, largest_logit=float(np.abs(logits).max())), logits
