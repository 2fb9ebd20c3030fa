"""What a parameter set makes of many pictures: their classes beside those of the plain network, as it is simulated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..network.parameters import ParameterSet
from ..network.ranges import are_logits, reach
from ..network.weights import Weights
from .plain import PlainNetwork

#: Pictures that the plain network takes at once.
_BATCH = 50


@dataclass(frozen=True)
class Score:
    """Pictures' logits beside plain's.

    right: how many classes are; None where the pictures' own are not known;
    refused: how many are no logits (a value left its range), which are never right;
    worst, mean: largest difference of a picture's logit, over the others; NaN where there are none;
    differing: indices of other classes than plain's and of the refused;
    changes: by plain's class and the one in its place (None: refused) how many those are, the most first.
    """

    right: int | None
    refused: int
    worst: float
    mean: float
    differing: list[int]
    changes: dict[tuple[int, int | None], int]

    @classmethod
    def of(cls, weights: Weights, logits: np.ndarray, plain: np.ndarray, labels: np.ndarray | None) -> Score:
        """Compare.  logits, plain: (n, classes); labels: (n,)."""
        taken = are_logits(weights, logits)
        differences = np.abs(logits[taken] - plain[taken]).max(1)
        worst, mean = (differences.max(), differences.mean()) if taken.any() else (np.nan, np.nan)
        found, expected = logits.argmax(1), plain.argmax(1)
        differing = np.flatnonzero((found != expected) | ~taken).tolist()
        right = None if labels is None else int(((found == labels) & taken).sum())
        changes = Counter((int(expected[i]), int(found[i]) if taken[i] else None) for i in differing)
        return cls(right, int((~taken).sum()), float(worst), float(mean), differing, dict(changes.most_common()))


def plain_logits(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    """Compute (n, classes) of pictures (n, colours, width, width) in [0, 1]."""
    network = PlainNetwork(weights)
    return np.concatenate([network.logits(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)])


def foresee_all(weights: Weights, set_: ParameterSet, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute (n, classes) of pictures as :func:`plain_logits`, and (n,) of which of them a value leaves the range that
    the set can take: those that a client warns of."""
    network, logits, outside = PlainNetwork(weights), [], []
    for i in range(0, len(pixels), _BATCH):
        values = network.layers(pixels[i : i + _BATCH])
        logits.append(values["fc"])
        outside.append(np.max(list(reach(weights, set_.refresh, values).values()), axis=0) > 1)
    return np.concatenate(logits), np.concatenate(outside)


def count_right(logits: np.ndarray, labels: np.ndarray) -> int:
    """Return of how many pictures the greatest logit, (n, classes), is that of their class, (n,)."""
    return int((logits.argmax(1) == labels).sum())
