"""The sizes that are told before there are files are those of the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import parties
from lowmem_resnet20.client.client import Named
from lowmem_resnet20.client.keys import openfhe_folder_bytes
from lowmem_resnet20.files.keystore import MANIFEST
from lowmem_resnet20.files.sizes import native_folder_bytes, picture_bytes, result_bytes
from lowmem_resnet20.native.ring.chain import CHAIN
from lowmem_resnet20.network.parameters import PARAMETER_SETS
from lowmem_resnet20.server.request import Job
from miniature import (
    INSECURE_LEAN_SET,
    INSECURE_SHORT_NATIVE_SET,
    INSECURE_SHORT_SET,
    random_picture,
    random_weights,
)

SETS = (
    INSECURE_SHORT_NATIVE_SET,
    INSECURE_LEAN_SET,
    replace(INSECURE_SHORT_NATIVE_SET, number=7, pictures=4, most_copies=1),
)


@pytest.mark.parametrize("set_", SETS, ids=["native", "lean", "group"])
def test_sizes_are_those_of_files(set_, tmp_path):
    weights = random_weights(set_.architecture)
    pixels = random_picture(set_.architecture, np.random.default_rng(0))
    parties.generate_keys(set_, tmp_path / "keys")
    parties.encrypt_group(tmp_path / "keys", set_, [Named(pixels, "picture")], weights, tmp_path / "a.ct")
    [outcome] = parties.evaluate(tmp_path / "keys", set_, [Job(tmp_path / "a.ct", tmp_path / "r.ct")], weights)
    assert outcome.error is None
    assert picture_bytes(set_) == (tmp_path / "a.ct").stat().st_size
    assert result_bytes(set_) == (tmp_path / "r.ct").stat().st_size
    assert native_folder_bytes(set_) == sum(files_of(tmp_path / "keys").values())


def test_openfhes_keys_take_a_little_less_than_is_told(tmp_path):
    parties.generate_keys(INSECURE_SHORT_SET, tmp_path / "keys")
    files = files_of(tmp_path / "keys")
    kept = sum(files.values())
    assert kept <= openfhe_folder_bytes(INSECURE_SHORT_SET) <= 1.02 * kept + (len(files) << 16)


def files_of(keys: Path) -> dict[str, int]:
    """Return the sizes of what the server has, but for what describes it."""
    files = {path.name: path.stat().st_size for path in (keys / "server").iterdir()}
    return {name: size for name, size in files.items() if name not in (MANIFEST, CHAIN)}


def test_sizes_are_those_that_were_measured_at_full_size():
    """As scripts/measurements.json has them."""
    found = {(key, picture_bytes(s), result_bytes(s)) for key, s in PARAMETER_SETS.items()}
    assert found >= {
        ((1, "openfhe"), 3148600, 2100062),
        ((7, "openfhe"), 25178153, 2100078),
        ((5, "native"), 2624396, 1051117),
        ((6, "native"), 2624444, 1051165),
        ((7, "native"), 20982593, 2099693),
    }
    assert native_folder_bytes(PARAMETER_SETS[6, "native"]) == 1393789064 - 597 - 8681
