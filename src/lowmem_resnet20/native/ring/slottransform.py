"""A linear transform of the slots, in baby and giant steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SlotTransform:
    """sum_i rotate(sum_j vectors[i, j] * rotate(x, babies[j]), giants[i]).

    babies, giants: rotation steps, 0 among them where it is needed; vectors: (period,) complex by indices of giant and
    baby step, absent where zero; period: a power of two, up to N/2.
    """

    babies: tuple[int, ...]
    giants: tuple[int, ...]
    vectors: Mapping[tuple[int, int], np.ndarray]
