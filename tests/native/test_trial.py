"""The trial of operations on random numbers: of a chain like the set's, of each kind, counted as often as it comes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from lowmem_resnet20.native import trial
from lowmem_resnet20.native.engine import _check_chain
from lowmem_resnet20.native.evaluator import NativeEvaluator
from lowmem_resnet20.native.ring.chain import CHAIN, read_chain_file
from lowmem_resnet20.network.engines import NATIVE
from lowmem_resnet20.network.parameters import PARAMETER_SETS, WIDE_SETS
from lowmem_resnet20.network.resnet20 import plan
from miniature import INSECURE_LEAN_SET, INSECURE_NATIVE_SET

GROUP = replace(INSECURE_NATIVE_SET, number=7, pictures=4, most_copies=1)
FULL = [set_ for set_ in (*PARAMETER_SETS.values(), *WIDE_SETS.values()) if set_.engine == NATIVE]


@pytest.mark.parametrize("set_", [INSECURE_NATIVE_SET, *FULL], ids=lambda s: f"{s.number} 2^{s.log2_ring}")
def test_the_chain_is_one_that_keys_of_the_set_may_have(set_, tmp_path):
    (tmp_path / CHAIN).write_bytes(trial.trial_chain(set_).to_json())
    chain = read_chain_file(tmp_path / CHAIN)  # every prime has its root and its size
    _check_chain(chain, set_, Path(CHAIN))
    assert max(chain.scaling_factors()) < 1.1 * min(chain.scaling_factors())


@pytest.mark.parametrize("set_", [INSECURE_NATIVE_SET, INSECURE_LEAN_SET, GROUP], ids=["time", "lean", "group"])
def test_a_trial_is_a_plan(set_):
    assert plan(set_, trial.Trial(set_)) == plan(set_)


def test_each_operation_is_counted_and_done_twice_at_most(monkeypatch):
    """Under a clock that ticks once an operation; what a block more takes is the same however many there are."""
    refreshed: Counter[tuple[int, int]] = Counter()

    def bootstrap_function(ev, x, coefficients):
        refreshed[x.slots, len(coefficients)] += 1

    monkeypatch.setattr(NativeEvaluator, "bootstrap_function", bootstrap_function)
    monkeypatch.setattr(trial.time, "monotonic", count().__next__)

    def ticks(blocks: int) -> float:
        refreshed.clear()
        set_ = INSECURE_NATIVE_SET.serving(replace(INSECURE_NATIVE_SET.architecture, blocks_per_stage=blocks))
        tried = trial.Trial(set_)
        plan(set_, tried)
        assert max(refreshed.values()) == 2 and len(refreshed) == 5
        return tried.seconds

    one, two, three = map(ticks, (1, 2, 3))
    assert three - two == two - one > 6  # as many as refreshes alone
