"""What a parameter set would compute, in numpy: its approximated ReLU, and noise of the size of its refreshes'."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..network.clear import Clear, ClearEvaluator
from ..network.parameters import PICTURE_LEVELS, ParameterSet
from ..network.resnet20 import Network, NoObserver, group_logits, pack_group
from ..network.scaling import scale
from ..network.weights import Weights


def simulate(
    set_: ParameterSet, weights: Weights, pixels: np.ndarray, noise: float, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield (.., classes) logits, of as many pictures as the set evaluates together at a time.

    pixels: (n, colours, width, width) in [0, 1]; noise: standard deviation at each refresh, in the unit of the scaled
    values; seed: of the noise of the first pictures, counted on by picture.  Values out of range give numbers without
    bound, see :func:`..network.ranges.are_logits`.
    """
    scaled = scale(weights, set_.refresh)
    for start in range(0, len(pixels), set_.pictures):
        group = pixels[start : start + set_.pictures]
        packed = [Clear(slots, PICTURE_LEVELS) for slots in pack_group(set_, list(map(weights.normalise, group)))]
        network = Network(set_, scaled, ClearEvaluator(set_, noise, seed + start), NoObserver())
        with np.errstate(all="ignore"):  # a value out of range grows without bound
            yield group_logits(set_, network.run(*packed).values)[: len(group)]
