"""scripts/explore.py on the miniature: variations of a set, each measured in a process of its own."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.native.keys.keyplan import refresh_plan
from miniature import INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET, INSECURE_SET

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import explore


def test_variations():
    varied = explore.variation(INSECURE_SET, {"degree": "27", "dim1": "4-2", "large_digits": "4"})
    assert (varied.refresh.degree, varied.dim1, varied.large_digits) == (27, (4, 2), 4)
    assert varied.multiplicative_depth == INSECURE_SET.multiplicative_depth - 1  # a shorter series, a level less
    varied = explore.variation(INSECURE_SET, {"scaling_bits": "40"})
    assert (varied.scaling_bits, varied.first_modulus_bits) == (40, 44)
    assert explore.variation(INSECURE_SET, {}) == INSECURE_SET
    with pytest.raises(PlanError, match="60 digits are too many"):
        explore.variation(INSECURE_SET, {"large_digits": "60"})


def test_combinations_are_measured(monkeypatch, capsys):
    """Two that can be and one that cannot, which is left out.  The longer series' error is the smaller."""
    monkeypatch.setattr(explore, "parameter_set", lambda number, engine: INSECURE_FUNCTIONAL_SET)
    monkeypatch.setattr(
        sys,
        "argv",
        ["explore.py", "6", "--stage", "3", "--repeats", "1", "--vary", "degree=13,27", "--vary", "large_digits=3,60"],
    )
    explore.main()
    printed = capsys.readouterr().out
    assert printed.count("60 digits are too many") == 2
    table = [line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line] for line in table]
    assert [row[:2] for row in rows] == [["13", "3"], ["27", "3"]]
    for row, degree in zip(rows, (13, 27), strict=True):
        set_ = replace(INSECURE_FUNCTIONAL_SET, refresh=replace(INSECURE_FUNCTIONAL_SET.refresh, degree=degree))
        assert row[2:4] == [str(set_.multiplicative_depth), str(set_.log2_qp)]
        assert int(row[4]) > 10 and row[5].endswith("iB") and row[6].endswith("iB")
        assert float(row[7]) > 0 and float(row[8]) > 0
        assert 0 < float(row[9]) < float(row[10]) < 0.1
    assert float(rows[1][9]) < float(rows[0][9])


def test_native_variations():
    """The budget of levels follows the transforms; what describes none is left out in a line."""
    varied = explore.variation(INSECURE_NATIVE_SET, {"degree": "31", "transforms": "fewest keys"})
    assert (varied.refresh.degree, varied.refresh.transforms, varied.budget) == (31, "fewest keys", (3, 3))
    assert varied.multiplicative_depth == INSECURE_NATIVE_SET.multiplicative_depth  # one level more, and one less
    varied = explore.variation(INSECURE_NATIVE_SET, {"transforms": "Horner:5.5/8.8:3.3.2.2/4.4.4.4"})
    assert varied.budget == (4, 2)
    assert refresh_plan(varied).slots_to_coefficients.babies == (8, 8)
    for text in (
        "hoisted",
        "abacus:5.5/8.8:5.5/8.8",
        "hoisted:5.5/8.8",
        "hoisted:5.a/8.8:5.5/8.8",
        "hoisted:5.5/8:5.5/8.8",
    ):
        with pytest.raises(PlanError):
            explore.variation(INSECURE_NATIVE_SET, {"transforms": text})


def test_native_combinations_are_measured(monkeypatch, capsys):
    """Two ways with the same function: the same error but for its noise; the one with fewer keys has fewer."""
    monkeypatch.setattr(explore, "parameter_set", lambda number, engine: INSECURE_NATIVE_SET)
    words = ["explore.py", "6", "--engine", "native", "--stage", "3", "--repeats", "1", "--vary"]
    monkeypatch.setattr(sys, "argv", [*words, "transforms=least time,Horner:5.5/8.8:4.4.2/4.4.4"])
    explore.main()
    table = [line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line] for line in table]
    least, horner = rows
    assert (least[0], horner[0]) == ("least time", "Horner:5.5/8.8:4.4.2/4.4.4")
    assert int(least[1]) == INSECURE_NATIVE_SET.multiplicative_depth == int(horner[1]) + 2
    assert 5 < int(horner[3]) < int(least[3])
    assert float(least[7]) > 0 and float(horner[7]) > 0
    for row in rows:
        assert 1e-4 < float(row[8]) < float(row[9]) < 0.1  # the series of degree 15 is off by this much
    assert abs(float(least[8]) - float(horner[8])) < 1e-3
