"""Native keys as key generation makes them."""

from __future__ import annotations

import numpy as np
import openfhe
import pytest
from smallring import DEPTH, insecure_context

from lowmem_resnet20.errors import KeyFolderError
from lowmem_resnet20.native.keys.keys import Order, key_path, open_key
from lowmem_resnet20.native.ring.chain import read_chain_file
from lowmem_resnet20.native.ring.keynames import CONJUGATION, RELINEARISATION, rotation_name
from lowmem_resnet20.openfhe.context import held_rotation_keys
from lowmem_resnet20.openfhe.native_keys import CHAIN, make_native_keys


@pytest.fixture(scope="module")
def context():
    return insecure_context()


def make(context, plan, folder):
    order = Order("openfhe", np.arange(context.GetRingDimension()))
    pair, names = context.KeyGen(), []

    return make_native_keys(context, pair.secretKey, plan, folder, order, names.append), names


def test_all_kinds_of_keys_are_made_and_nothing_else_is_left(context, tmp_path):
    dimension = context.GetRingDimension()
    plan = {RELINEARISATION: 9, CONJUGATION: 8}
    plan |= {rotation_name(step, dimension): towers for step, towers in ((1, 3), (77, DEPTH + 1), (-5, 6))}
    chain, names = make(context, plan, tmp_path)
    assert sorted(names) == sorted(plan)
    assert {path.name for path in tmp_path.iterdir()} == {CHAIN, *(key_path(tmp_path, name).name for name in plan)}
    assert read_chain_file(tmp_path / CHAIN) == chain
    assert (len(chain.q), len(chain.p), chain.digits) == (DEPTH + 1, 3, 2)
    for name, towers in plan.items():
        key = open_key(key_path(tmp_path, name), name, chain, towers, "openfhe")
        assert key.header.towers == towers and key.header.digits == chain.digits_at(towers)
    assert not held_rotation_keys() and not openfhe.CryptoContext.GetAllEvalMultKeys()


def test_keys_of_one_pair_have_its_tag(context, tmp_path):
    plan = {RELINEARISATION: 2, CONJUGATION: 1, "rotation-3": 2}
    chain, _ = make(context, plan, tmp_path)
    assert len({open_key(key_path(tmp_path, n), n, chain, 1, "openfhe").header.pair for n in plan}) == 1


def test_a_name_that_is_no_keys_is_refused(context, tmp_path):
    with pytest.raises(KeyFolderError, match="there is no key 'bootstrapping' to make"):
        make(context, {"bootstrapping": 3}, tmp_path)
