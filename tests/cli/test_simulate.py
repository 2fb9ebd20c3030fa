"""The word ``simulate``: what it prints, on the miniature's set in the place of set 6."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.model.simulation import Score, plain_logits
from lowmem_resnet20.model.simulators import simulate
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.progress.display import SilentProgress
from miniature import ARCHITECTURE, INSECURE_NATIVE_SET, INSECURE_SET, random_weights

SET = replace(INSECURE_NATIVE_SET, refresh_deviation=1e-3)
GROUP = replace(SET, number=7, pictures=4)
NAMES = ("a", "b", "c c", "d", "e", "f", "g", "h", "i", "j")
WEIGHTS = replace(random_weights(ARCHITECTURE), classes=NAMES)
X = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), dtype=np.uint8)


@pytest.fixture(autouse=True)
def miniature(monkeypatch, tmp_path):
    for key, set_ in (((6, "native"), SET), ((7, "native"), GROUP), ((1, "openfhe"), INSECURE_SET)):
        monkeypatch.setitem(parameters.PARAMETER_SETS, key, set_)
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "w", WEIGHTS)
    bounds = {name: bound * np.float32(0.3) for name, bound in WEIGHTS.bounds.items()}
    save_weights(tmp_path / "narrow", replace(WEIGHTS, bounds=bounds))
    labels = plain_logits(WEIGHTS, X / 255.0).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    np.savez(tmp_path / "p.npz", x=X, y=labels)
    np.savez(tmp_path / "unlabelled.npz", x=X)


def logits(set_, weights=WEIGHTS):
    return simulate(set_, weights, X / 255.0, set_.refresh_deviation, 1, SilentProgress())


def rows(text):
    """Name and value of the first lines; then the others."""
    table, _, changes = text.partition("classes that change, plain's and the set's:\n")
    return dict(line.split("  ", 1) for line in table.splitlines()), changes.splitlines()


def test_what_is_printed(run):
    done = run("simulate", "6", "weights", "w", "pictures", "p.npz")
    score = Score.of(WEIGHTS, logits(SET), plain_logits(WEIGHTS, X / 255.0), None)
    table, _ = rows(done.out)
    table = {name: value.strip() for name, value in table.items()}
    assert done.code == ExitCode.OK and done.err == ""
    assert table.pop("time")
    assert table == {
        "pictures": "6",
        "right, plain": "5 of 6 (83.3%)",
        "right, simulated": table["right, simulated"],
        "class differs": f"{len(score.differing)} of 6 ({len(score.differing) / 6:.1%})",
        "out of range": "0",
        "refused": "0",
        "worst difference": f"{score.worst:.3f}",
        "mean of pictures' worst": f"{score.mean:.4f}",
    }


@pytest.mark.parametrize(("number", "set_"), [("6", SET), ("7", GROUP), ("1", INSECURE_SET)])
def test_json(run, number, set_):
    done = run("simulate", number, "weights", "w", "pictures", "p.npz", "json")
    plain = plain_logits(WEIGHTS, X / 255.0)
    score = Score.of(WEIGHTS, logits(set_), plain, np.load("p.npz")["y"])
    found = json.loads(done.out)
    assert found.pop("seconds") > 0
    assert found.pop("changes") == [
        {"plain": NAMES[before], "set": NAMES[after], "pictures": count}
        for (before, after), count in score.changes.items()
    ]
    assert found == {
        "set": int(number),
        "engine": set_.engine,
        "plain_right": 5,
        "pictures": 6,
        "out_of_range": 0,
        "right": score.right,
        "class_differs": len(score.differing),
        "refused": 0,
        "worst_difference": score.worst,
        "mean_difference": score.mean,
    }


def test_without_classes_it_counts_what_differs(run):
    done = run("simulate", "6", "weights", "w", "pictures", "unlabelled.npz")
    assert "right" not in done.out and "class differs" in done.out
    found = json.loads(run("simulate", "6", "weights", "w", "pictures", "unlabelled.npz", "json").out)
    assert found["right"] is None and found["plain_right"] is None


def test_out_of_range(run):
    """Those pictures are warned of, and their results refused."""
    done = run("simulate", "1", "weights", "narrow", "pictures", "p.npz")
    assert "warning: of 6 of 6 pictures values leave the ranges that the set can take\nhint: calibrate" in done.err
    table, changes = rows(done.out)
    assert table["out of range"].strip() == table["refused"].strip() == "6"
    assert changes and all(line.endswith("-> refused") for line in changes)
    assert sum(int(line.split()[0]) for line in changes) == 6
    found = json.loads(run("simulate", "1", "weights", "narrow", "pictures", "p.npz", "json").out)
    assert found["worst_difference"] is found["mean_difference"] is None
    assert {change["set"] for change in found["changes"]} == {None}


def test_class_folders(run, tmp_path):
    for name in ("B", "c c"):
        (tmp_path / "folders" / name).mkdir(parents=True)
        Image.fromarray(X[0].transpose(1, 2, 0)).save(tmp_path / "folders" / name / "x.png")
    assert "pictures                 2\n" in run("simulate", "6", "weights", "w", "pictures", "folders").out
    (tmp_path / "folders" / "z\x1b[2J").mkdir()
    refused = run("simulate", "6", "weights", "w", "pictures", "folders")
    assert refused.code == ExitCode.PICTURE and refused.out == ""
    assert refused.err == (
        "lowmem-resnet20: error: folders/z\\x1b[2J is named by no class of the network\n"
        "hint: its classes are a, b, c c, d, e, f, g, h, i, j\n"
    )


def test_progress(run):
    lines = run("simulate", "7", "weights", "w", "pictures", "p.npz", "verbose", "1").err.splitlines()
    assert lines[0] == "simulating set 7" and "simulation picture 6 of 6" in lines[-1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("simulate 6", ExitCode.USAGE, "simulate needs pictures PATH"),
        ("simulate 8 pictures p.npz", ExitCode.USAGE, "there is no parameter set 8"),
        ("simulate 6 weights w pictures none", ExitCode.PICTURE, "there are no pictures none"),
        ("simulate 6 weights none pictures p.npz", ExitCode.WEIGHTS, "there is no weight file none"),
        ("simulate 6 weights w pictures w", ExitCode.PICTURE, "w is not a JPEG or PNG picture"),
        ("simulate 1 weights w pictures p.npz engine native", ExitCode.USAGE, "set 1 is not for engine native"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(run, words, code, message):
    done = run(*words.split())
    assert done.code == code and done.out == ""
    assert message in done.err.splitlines()[0] and "Traceback" not in done.err
