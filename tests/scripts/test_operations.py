"""scripts/operations.py: what it counts of an evaluation, and writes down."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import parties
from lowmem_resnet20.network.resnet20 import plan
from miniature import (
    INSECURE_SHORT_NATIVE_SET,
    INSECURE_SHORT_SET,
    random_picture,
    random_weights,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import measurements
import operations
from origin import Origin

BEFORE = (
    Origin("code", "weights", "machine", "versions"),
    {"commit": "c0ffee", "changed": False, "time": "2026-11-25 18:30"},
)


@pytest.mark.parametrize("set_", [INSECURE_SHORT_SET, INSECURE_SHORT_NATIVE_SET], ids=lambda set_: set_.engine)
def test_operations_are_counted(tmp_path, set_):
    """As often as the plan says; together they take what the whole takes."""
    weights = random_weights(set_.architecture)
    parties.generate_keys(set_, tmp_path / "exp6")
    pixels = random_picture(set_.architecture, np.random.default_rng(9))
    spent = operations.measure(set_, tmp_path / "exp6", pixels, weights, 10e9)
    refreshes = sum(plan(set_).refreshes.values())
    assert spent["loading"].calls == 2 and spent["in all"].calls == 1
    assert spent["encoding"].calls > spent["products"].calls > 0
    assert all(0 <= kind.seconds < spent["in all"].seconds for name, kind in spent.items() if name != "in all")
    total = sum(kind.seconds for name, kind in spent.items() if name != "in all")
    assert total == pytest.approx(spent["in all"].seconds)
    parts = {name: kind for name, kind in spent.items() if name.startswith("refresh")}
    if set_.engine == "openfhe":
        assert list(parts) == ["refresh"] and spent["refresh"].calls == refreshes
        assert all(kind.share is None for kind in spent.values())
    else:
        assert set(parts) == {*operations.PARTS.values(), operations.EXPONENTIAL}
        assert all(kind.calls == refreshes and kind.share > 0 for kind in parts.values())


def record(figures: dict) -> None:
    origin, taken = BEFORE
    section = operations.SECTION
    known = measurements.rows_of(section, origin)
    measurements.record(section, origin, known | operations.rows_for(figures, 58e9, taken))


def test_operations_are_written_down(monkeypatch, tmp_path):
    """A column for each set, a line for each kind of any, the sums last."""
    (tmp_path / "README.md").write_text("<!-- measured: operations -->\n<!-- /measured -->\n")
    monkeypatch.setattr(measurements, "FILE", tmp_path / "measurements.json")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    spent, last = (
        operations.Spent,
        {"checking keys, files": operations.Spent(1.0, 1), "in all": operations.Spent(9.5, 1)},
    )
    record({"set 5, native": {"products": spent(1.5, 328)} | last})
    record({"set 6, native": {"refresh: series": spent(2.75, 21, 0.113)} | last})
    lines = (tmp_path / "README.md").read_text().splitlines()[1:7]
    assert lines == [
        "| operation | set 5, native | set 6, native |",
        "| --- | --- | --- |",
        "| products | 1.5 s, 328 |  |",
        "| refresh: series |  | 2.8 s, 21 (11%) |",
        "| checking keys, files | 1.0 s, 1 | 1.0 s, 1 |",
        "| in all | 9.5 s, 1 | 9.5 s, 1 |",
    ]
    assert measurements.read()["operations"]["set 5, native"]["bytes_per_second"] == 58e9


def test_the_bandwidth_of_copies():
    assert 1e8 < operations.bandwidth(2, 8) < 1e12


def test_what_an_operation_moves():
    """Ciphertexts and keys once, as long as their level."""
    n, digits, special = 1 << 12, 3, 2
    ring = SimpleNamespace(digit_towers=digits, p=(0,) * special)
    arithmetic = SimpleNamespace(ring=ring, ring_dimension=n)
    x, y, z = (SimpleNamespace(towers=towers, residues=None) for towers in (7, 5, 4))
    one = {towers: 2 * 4 * towers * n for towers in (7, 5, 4)}
    key = 2 * 2 * (4 * 5 + 8 * special) * n  # two digits of five towers
    moved = operations.least_bytes
    assert moved("add", (x, y), z, arithmetic) == one[7] + one[5] + one[4]
    assert moved("combination", ([y, z], [1, 2], 1.0), z, arithmetic) == one[5] + one[4]
    assert moved("rotate", (y, [0, 1, 1, 2]), [y, z, z], arithmetic) == one[5] + 2 * one[4] + 2 * key
    assert moved("sum_of_products", ([(y, y)],), z, arithmetic) == one[5] + one[4] + key
    transform = SimpleNamespace(babies=(0, 1), giants=(0, 2), vectors={(0, 0): np.zeros(8), (1, 1): np.zeros(4)})
    vectors = 2 * 12 * (4 * 5 + 8 * special)
    assert moved("transform", (y, transform, 1.0), z, arithmetic) == one[5] + one[4] + 2 * key + vectors
