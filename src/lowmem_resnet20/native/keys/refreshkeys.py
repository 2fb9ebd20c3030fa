"""Which keys a refresh uses, and at how many towers: a key is as long as the highest of its uses."""

from __future__ import annotations

import numpy as np

from ...network.refreshplan import RefreshPlan
from ..refresh.clear import ClearArithmetic, ClearText
from ..refresh.refresh import Refresh, prepare
from ..ring.chain import Chain, Prime


def refresh_keys(plan: RefreshPlan, ring_dimension: int, slots: int, towers: int, degree: int) -> dict[str, int]:
    """By name, the most towers that a key is used at, of a refresh of ``slots`` slots on a chain of ``towers`` primes.

    Found by refreshing zeros in the clear.
    """
    moduli = (Prime(1 << 29, 0), *[Prime(1 << 28, 0)] * (towers - 1))  # any will do where nothing is encrypted
    ev = ClearArithmetic(Chain(ring_dimension, 1, moduli))
    refresh: Refresh[ClearText] = Refresh(ev, plan, prepare(plan, ring_dimension, slots))
    refresh(ev.encrypt(np.zeros(slots), plan.reserve + 1), (0.5,) * (degree + 1))
    return ev.keys
