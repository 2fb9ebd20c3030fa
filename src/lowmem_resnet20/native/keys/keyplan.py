"""The keys that an evaluation uses, stage by stage, and the most towers that any use of each has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ...network.engines import OPENFHE
from ...network.parameters import ParameterSet
from ...network.refresh import NativeRefresh
from ...network.refreshplan import RefreshPlan
from ...network.resnet20 import plan
from ..ring.keynames import rotation_name
from .keys import HEADER_BYTES
from .refreshkeys import refresh_keys


def refresh_plan(set_: ParameterSet) -> RefreshPlan:
    """Return how a set's refresh is done."""
    assert isinstance(set_.refresh, NativeRefresh)
    return set_.refresh.plan


@lru_cache(maxsize=8)
def key_plan(set_: ParameterSet) -> Mapping[int, Mapping[str, int]]:
    """Return, by stage, the most towers that each key, by name, is used at."""
    refresh, towers, n = set_.refresh, set_.multiplicative_depth + 1, set_.ring_dimension
    assert isinstance(refresh, NativeRefresh)
    stages: dict[int, Mapping[str, int]] = {}
    for stage, levels_of in plan(set_).levels_of.items():
        slots = set_.stage_slots(stage)
        needed: dict[str, int] = {}
        degrees = {refresh.degree, refresh.identity_degree}
        uses = [refresh_keys(refresh_plan(set_), n, slots, towers, degree) for degree in degrees]
        layers = {
            rotation_name(step, n): levels + set_.reserve_levels + 1
            for step, levels in levels_of.items()
            if step % set_.full_slots
        }
        for names in (*uses, layers):
            for name, count in names.items():
                needed[name] = max(count, needed.get(name, 0))
        stages[stage] = needed
    return stages


def longest(stages: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
    """Return the most towers of each key in any stage: as its file has to be."""
    keys: dict[str, int] = {}
    for needed in stages.values():
        for name, towers in needed.items():
            keys[name] = max(towers, keys.get(name, 0))
    return keys


def key_size(set_: ParameterSet) -> str:
    """Return the size of a rotation key's file in words: a native set has some that are cut, so of the largest."""
    if set_.engine == OPENFHE:
        return f"{set_.switching_key_bytes / 2**20:.0f} MiB"
    most = max(key_bytes(set_, towers) for towers in longest(key_plan(set_)).values())
    return f"at most {most / 2**20:.0f} MiB"


def key_bytes(set_: ParameterSet, towers: int) -> int:
    """Return the bytes of a key's file, its header a page."""
    digits = -(-towers // set_.digit_towers)
    return HEADER_BYTES + 2 * digits * (4 * towers + 8 * set_.special_towers) * set_.ring_dimension
