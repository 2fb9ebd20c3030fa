"""In which ciphertext, and in which place of it, each picture of a group lies."""

from __future__ import annotations

from .parameters import ParameterSet
from .regrouping import Regrouping


def regrouping(set_: ParameterSet, stage: int) -> Regrouping:
    """Return how the pictures are regrouped from a stage, counted from 1, to the next."""
    joined = set_.ciphertexts(stage + 1) < set_.ciphertexts(stage)
    return Regrouping(set_.architecture.channels[stage - 1], set_.pictures_in(stage), joined)


def places(set_: ParameterSet, stage: int) -> list[list[int]]:
    """Return, by ciphertext and place in it, the number of the picture in its group, from 0.

    A ciphertext holds pictures that follow each other; their order in it is the packing's.
    """
    if stage == 1:
        size = set_.pictures_in(1)
        return [list(range(first, first + size)) for first in range(0, set_.pictures, size)]
    before, move = places(set_, stage - 1), regrouping(set_, stage - 1)
    sources = 2 if move.joined else 1
    after = []
    for first in range(0, len(before), sources):
        ordered = [0] * move.pictures_after
        for source in range(sources):
            for place, picture in enumerate(before[first + source]):
                ordered[move.place(source, place)] = picture
        after.append(ordered)
    return after
