"""Plaintexts of transforms that are encoded once and kept: time for memory.

A refresh of n slots has the same matrices every time.  Of each of their vectors one period is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import NDArray

from .encoding import Encoder, Plaintexts
from .ring import Ring


class KeepingEncoder(Encoder):
    """Encodes as :class:`.encoding.Encoder` does; what it has encoded modulo QP it gives again for the same arrays."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(ring)
        self._kept: dict[tuple, tuple[Sequence[NDArray], Plaintexts]] = {}

    def encode(
        self, vectors: Sequence[NDArray], scales: Sequence[float], towers: int, *, extended: bool = False
    ) -> Plaintexts:
        if not extended:
            return super().encode(vectors, scales, towers)
        key = (*map(id, vectors), *scales, towers)
        if key not in self._kept:
            # The vectors are kept too: as long as they are, no other array has their identity.
            self._kept[key] = list(vectors), super().encode(vectors, scales, towers, extended=True)
        return self._kept[key][1]

    @property
    def bytes(self) -> int:
        """Memory of the plaintexts kept."""
        kept = [plaintexts for _, plaintexts in self._kept.values()]
        return sum(part.nbytes for each in kept for part in (each.small, each.large) if part is not None)

    def forget(self) -> None:
        """Give their memory back."""
        self._kept.clear()
