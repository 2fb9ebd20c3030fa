"""Tells whether a picture's values stay in the ranges of the refreshes, and whether what comes back are its logits.

Encrypted values are seen by nobody, and one beyond the range of its ReLU's series gives a wrong number without a word:
a Chebyshev series grows without bound, a Fourier series repeats.  So a client that has the weights as well as the
picture computes the network in the clear and looks.  One that has the network's card alone knows the largest logit, and
looks at the numbers that come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import WeightsError
from .card import Described
from .forward import forward
from .refresh import Refresh
from .scaling import scale
from .weights import Weights

#: Numbers beyond so many times the largest calibrated logit are no logits.
LARGEST_LOGIT = 2.0
#: Logits that differ from the plain network's by more than this part of the largest calibrated one are suspicious; with
#: the program's weights the sets' own errors stay below half of it (see README).
LARGEST_DIFFERENCE = 0.2


@dataclass(frozen=True)
class Foreseen:
    """A picture in the plain network.

    logits: (classes,);
    layer: the one whose values come furthest, a ReLU's input by the name of the convolution before it or
    ``<block>.downsample``;
    reached: how far, 1 at the end of the range in which its channel is refreshed.
    """

    logits: np.ndarray
    layer: str
    reached: float

    @property
    def in_range(self) -> bool:
        """Tell whether the encrypted network can compute every value."""
        return self.reached <= 1


def foresee(weights: Weights, refresh: Refresh, pixels: np.ndarray) -> Foreseen:
    """Evaluate the plain network on ``pixels``, (colours, width, width) in [0, 1], beside the refresh's ranges.

    Errors: WeightsError where the weights give numbers that are not finite.
    """
    values = forward(weights, pixels)
    reached = {name: float(part) for name, part in reach(weights, refresh, values).items()}
    if not np.isfinite([*reached.values(), *values["fc"]]).all():
        raise WeightsError("the weights give numbers that are not finite")
    layer = max(reached, key=reached.__getitem__)
    return Foreseen(values["fc"], layer, reached[layer])


def reach(weights: Weights, refresh: Refresh, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return how far into its range each refreshed value comes, 1 at the end, by layer: () or, of many pictures, (n,).

    values: those of the plain network on the way, (.., channels, width, width) each.
    """
    largest = {name: np.abs(values[name]).max((-2, -1)) / end for name, end in ranges(weights, refresh).items()}
    return {name: parts.max(-1) for name, parts in largest.items()}


def are_logits(network: Described, numbers: np.ndarray) -> np.ndarray:
    """Tell whether ``numbers``, (.., classes), are what this network can give: () or, of many pictures, (..)."""
    return np.abs(numbers).max(-1) <= LARGEST_LOGIT * network.largest_logit


def alike(network: Described, logits: np.ndarray, foreseen: Foreseen) -> bool:
    """Tell whether ``logits``, (classes,), are the plain network's but for errors of encryption and approximation."""
    return bool(np.abs(logits - foreseen.logits).max() <= LARGEST_DIFFERENCE * network.largest_logit)


def ranges(weights: Weights, refresh: Refresh) -> Mapping[str, np.ndarray]:
    """(channels,) the largest absolute value that is refreshed as it should be, in the plain network's unit, by ReLU
    and by ``<block>.downsample``."""
    scaled = scale(weights, refresh)
    ends = {name: refresh.reach * unit for name, unit in scaled.units.items()}
    for block, (_, factors) in scaled.gather_factors.items():
        ends[f"{block}.downsample"] = refresh.identity_reach * factors * scaled.units[f"{block}.conv2"]
    return ends
