"""scripts/refreshbits.py on the miniature: what an error is against, its bits, and which refreshes are measured."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniature import INSECURE_NATIVE_SET, INSECURE_SET

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import measurements
import refreshbits


@pytest.mark.parametrize("set_", [INSECURE_SET, INSECURE_NATIVE_SET], ids=lambda set_: set_.engine)
def test_the_precision_of_a_refresh(set_):
    """The scheme's is better than that against the ReLU, which its series bounds: known in the clear."""
    found = refreshbits.measure(set_, set_.stage_slots(3), 2)
    refresh, relu = found["refresh"], found["relu"]
    reach = set_.refresh.reach
    x = np.linspace(-reach, reach, 100_001)
    series = np.abs(set_.refresh.approximated_relu(x) - np.maximum(x, 0))
    assert refresh["mean_bits"] > refresh["worst_bits"] > relu["worst_bits"] >= -np.log2(series.max() * 1.1)
    assert relu["mean_bits"] == pytest.approx(-np.log2(series.mean()), abs=0.2)
    assert refresh["mean_bits"] > 11
    assert relu["rms"] == pytest.approx(np.sqrt(np.mean(series**2)), rel=0.15)


def test_bits_are_of_the_mean_and_of_the_worst():
    found = refreshbits.precision(np.array([0.5, -0.25, 0.0, 0.25]))
    assert found == {"mean_bits": 2.0, "worst_bits": 1.0, "rms": pytest.approx(np.sqrt(0.375 / 4))}


def test_bootstrapping_is_compared_with_its_input(monkeypatch, tmp_path):
    """With a stand-in that is off by known amounts between and at the end; a functional one by its end alone."""
    reached = []

    class Off:
        def encrypt(self, values):
            reached.append(np.abs(values).max())
            return values

        def relu(self, x, refreshed):
            if not set_.refresh.functional:
                refreshed(x + 2**-9)
            return set_.refresh.approximated_relu(x) + 2**-5

        def decrypt(self, x):
            return x

    monkeypatch.setattr(refreshbits, "prepare_refresh", lambda *given: Off())
    for set_, bits in ((INSECURE_SET, 9), (INSECURE_NATIVE_SET, 5)):
        found = refreshbits.measure(set_, 64, 1)
        assert found["refresh"]["mean_bits"] == pytest.approx(bits)
        assert found["relu"]["mean_bits"] == pytest.approx(5, abs=0.5)
        assert 0.9 < reached.pop() / set_.refresh.reach <= 1


def test_stages_of_as_many_slots_are_one():
    group = replace(INSECURE_NATIVE_SET, number=7, pictures=8)
    assert refreshbits.stages_by_slots(INSECURE_SET) == {1024: [1], 512: [2], 256: [3]}
    assert refreshbits.stages_by_slots(group) == {2048: [1, 2, 3]}


def test_rows_are_printed_and_written_down(monkeypatch, tmp_path, capsys):
    """Of the sets and engine chosen; each as soon as it is there."""
    (tmp_path / "README.md").write_text("<!-- measured: refreshes -->\n<!-- /measured -->\n")
    monkeypatch.setattr(measurements, "FILE", tmp_path / "measurements.json")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    precision = {"mean_bits": 19.84, "worst_bits": 15.44, "rms": 1.7e-6}
    monkeypatch.setattr(refreshbits, "in_a_process", lambda *given: {"refresh": precision, "relu": precision})
    refreshbits.main(["5", "6", "--engine", "native"])
    printed = capsys.readouterr().out
    assert not measurements.FILE.exists()
    assert "| 5 | native | 16384 | 1 | 19.8 | 15.4 | 1.7e-06 | 19.8 | 15.4 | 1.7e-06 |\n" in printed
    assert printed.count("| native |") == 6
    refreshbits.main(["7", "--record"])
    refreshbits.main(["1", "--stages", "1", "3", "--record"])
    text = (tmp_path / "README.md").read_text()
    assert text.count("| native | 32768 | 1, 2, 3 |") == 1 and text.count("| openfhe |") == 3
    assert "`scripts/refreshbits.py --record`, commit " in text
