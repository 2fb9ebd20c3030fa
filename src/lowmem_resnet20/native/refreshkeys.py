"""Which keys a refresh uses, and at how many towers: a key is as long as the highest of its uses."""

from __future__ import annotations

import numpy as np

from .clear import ClearArithmetic
from .refresh import Refresh, prepare
from .refreshplan import RefreshPlan


def refresh_keys(plan: RefreshPlan, ring_dimension: int, slots: int, towers: int, degree: int) -> dict[int, int]:
    """The most towers that each key is used at by a refresh of ``slots`` slots on a chain of ``towers`` primes, by its
    automorphism index; 1 is the relinearisation key's.  Found by refreshing zeros in the clear."""
    ev = ClearArithmetic(ring_dimension, [1 << 37] + [1 << 36] * (towers - 1), float(1 << 36))
    refresh = Refresh(ev, plan, prepare(plan, ring_dimension, slots))
    refresh(ev.encrypt(np.zeros(slots), plan.reserve + 1), (0.5,) * (degree + 1))
    return ev.keys
