"""Where the pictures and channels of a ciphertext go when a downsampling makes quarters of its pictures.

Four times fewer pixels and twice the channels: main branch and shortcut, each half as large as what there was.  So each
branch leaves room in its ciphertext: two ciphertexts are joined into one of twice the pictures; or, where the pictures
are no more, the upper half of the blocks moves between those of the lower half.  Both are the same move: of two
*sources*, source s comes to the places that the branch s leaves empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .parameters import ParameterSet


@dataclass(frozen=True)
class Regrouping:
    """The move of a ciphertext's pictures and channels.

    channels, pictures: of a ciphertext before;
    joined: whether the sources are two ciphertexts, and not two halves.

    Before, quarter ``(p * 2 + i) * 2 + j`` of a block is picture p's, of branch i and column parity j.  With source s
    in the place of i, the bits of that number are those of p, of s and of j.  After, the last ones must be the
    pictures': bits of channels among them change places with bits of pictures above, each a move up and a move down.
    """

    channels: int
    pictures: int
    joined: bool

    @property
    def pictures_after(self) -> int:
        return self.pictures * (2 if self.joined else 1)

    def blocks(self, source: int) -> np.ndarray:
        """Return the blocks that make up a source."""
        half = self.channels // 2
        return np.arange(self.channels) if self.joined else np.arange(source * half, (source + 1) * half)

    def channel(self, block: np.ndarray, j: int) -> np.ndarray:
        """Return the output channel at column parity ``j`` of a block (an array of block numbers)."""
        after = self._after[0, :, j] // self.pictures_after
        if self.joined:
            return block * 2 + after[0]
        half = self.channels // 2
        return block % half * 4 + after[block // half]

    def place(self, source: int, picture: int) -> int:
        """Return the place of a picture among those of the ciphertext after."""
        return int(self._after[picture, source, 0]) % self.pictures_after

    def moves(self, source: int) -> dict[int, np.ndarray]:
        """Return, by rotation in quarters, (P, 2) which pictures and column parities of a source it moves.

        The source has its place by then.
        """
        steps = self._before[:, source] - self._after[:, source]
        return {int(step): steps == step for step in np.unique(steps)}

    @cached_property
    def _before(self) -> np.ndarray:
        """(P, 2, 2) quarter of a block, by picture, source and column parity."""
        return np.arange(self.pictures * 4).reshape(self.pictures, 2, 2)

    @cached_property
    def _after(self) -> np.ndarray:
        """(P, 2, 2) ``channel * pictures_after + place`` in the same quarters after."""
        bits, last = self.pictures.bit_length() + 1, self.pictures_after.bit_length() - 1
        of_pictures = range(1 if self.joined else 2, bits)
        wrong = [bit for bit in range(last) if bit not in of_pictures]
        right = [bit for bit in range(last, bits) if bit in of_pictures]
        after = self._before
        for low, high in zip(wrong, right, strict=True):
            differ = (after >> low ^ after >> high) & 1
            after = after ^ (differ << low | differ << high)
        return after


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
