"""Why an imported network's logits are not its source's: what would make them so, if that can be found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import WeightsError
from ..network.weights import Weights
from .answers import agree, difference
from .description import CIFAR_MEAN, CIFAR_STD
from .folding import EPSILON
from .plain import PlainNetwork
from .sources import Source

#: What is tried where answers differ: usual values of eps, and of mean and std.
_EPSILONS = (1e-5, 1e-3, 1e-2, 1e-1, 1e-4, 1e-6, 1e-8, 0.0)
_NORMALISATIONS = (
    ((0.0,), (1.0,)),
    ((0.5,), (0.5,)),
    (CIFAR_MEAN, CIFAR_STD),
    ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    ((0.1307,), (0.3081,)),
    ((0.2860,), (0.3530,)),
)
#: Pictures that it is tried on: those whose logits differ most.
_TRIED = 16
_DIFFER_HINT = "are mean, std and eps the source's, and its logits of these pictures, in this order, at this size?"


def disagreement(
    source: Path, found: Source, weights: Weights, pixels: np.ndarray, plain: np.ndarray, answers: np.ndarray
) -> WeightsError:
    """Return the error for logits that are not the source's, with what would make them so, if that can be found."""
    most = np.argsort(-np.abs(plain - answers).max(1))[:_TRIED]

    def logits(mean: tuple[float, ...], std: tuple[float, ...], epsilon: float) -> np.ndarray:
        other = replace(weights, mean=mean, std=std, parameters=found.parameters(weights.architecture, epsilon))
        return PlainNetwork(other).logits(pixels[most])

    used = EPSILON if weights.epsilon is None else weights.epsilon
    guesses = {f"eps {e:g}": partial(logits, weights.mean, weights.std, e) for e in _EPSILONS if found.has_norms}
    colours = weights.architecture.input_channels
    for mean, std in _NORMALISATIONS:
        if len(mean) in (1, colours):
            words = " ".join(
                f"{w} {','.join(f'{v:g}' for v in values)}" for w, values in (("mean", mean), ("std", std))
            )
            guesses[words] = partial(logits, mean * (colours // len(mean)), std * (colours // len(std)), used)
    fitting = next((words for words, guessed in guesses.items() if agree(guessed(), answers[most])), "")
    worst = f"{difference(plain, answers):.2g}, and the source's largest is {np.abs(answers).max():.2g}"
    return WeightsError(
        f"{source}: a logit of the imported network is off by {worst}",
        f"they agree with: {fitting}" if fitting else _DIFFER_HINT,
    )
