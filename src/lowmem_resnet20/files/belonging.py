"""What an evaluation's ciphertexts belong to: its set, keys, weights and all that it computes."""

from __future__ import annotations

from ..network.parameters import ParameterSet
from ..network.resnet20 import computation
from ..network.weights import Weights
from .envelope import Belonging


def belonging(set_: ParameterSet, keys: str, weights: Weights) -> Belonging:
    """What belongs to an evaluation with these.  keys: their id."""
    return Belonging(str(set_.number), keys, weights.fingerprint, computation(set_))
