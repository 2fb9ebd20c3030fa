"""scripts/rotations.py: that it shows the keys that key generation makes."""

import re
import sys
from pathlib import Path

import pytest

from lowmem_resnet20.client import keys as keygeneration
from lowmem_resnet20.native.keys.keyplan import key_bytes, key_plan, longest
from lowmem_resnet20.native.ring.keynames import rotation_step
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import rotations


@pytest.mark.parametrize("set_", PARAMETER_SETS.values(), ids=lambda set_: f"{set_.number} {set_.engine}")
def test_every_rotation_key_has_a_purpose(set_):
    purposes = rotations.explain(set_)
    if set_.engine == "native":
        names = {stage: set(map(rotation_step, keys)) - {0} for stage, keys in key_plan(set_).items()}
    else:
        names, _ = keygeneration._rotations_by_stage(set_)
    assert {stage: set(steps) for stage, steps in purposes.items()} == names
    assert all(why for steps in purposes.values() for why in steps.values())
    for stage, width in ((1, 32), (2, 16), (3, 8)):  # the five of a stage's convolutions
        five = {1, -1, width, -width, -set_.pictures_in(stage) * width * width}
        used = {s for s, why in purposes[stage].items() if any(w.startswith("convolution:") for w in why)}
        assert {step % set_.full_slots for step in five} <= used


def test_native_keys_are_shown_with_towers_and_bytes(monkeypatch, capsys):
    """Of every stage all keys, and their sum as key generation writes it."""
    monkeypatch.setattr(sys, "argv", ["rotations.py", "5"])
    rotations.main()
    printed, set_ = capsys.readouterr().out, parameter_set(5, "native")
    stages = key_plan(set_)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    rows = [row for row in rows if row[0]]  # a long purpose takes several lines
    assert [row[2] for row in rows if row[0] == "relinearisation"] == [
        str(keys["relinearisation"]) for keys in stages.values()
    ]
    assert len(rows) == sum(map(len, stages.values()))
    assert {row[0] for row in rows} > {"relinearisation", "conjugation", "1", "-1"}
    files = longest(stages)
    total = rotations.format_bytes(sum(key_bytes(set_, towers) for towers in files.values()))
    assert f"{len(files)} keys in all, {total}; in OpenFHE's form" in printed


def test_rotation_keys_of_openfhe_are_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rotations.py", "5", "--engine", "openfhe"])
    rotations.main()
    printed = capsys.readouterr().out
    assert "bootstrapping" in printed and re.search(r"\d+ rotation keys in all, [0-9.]+ GiB", printed)
