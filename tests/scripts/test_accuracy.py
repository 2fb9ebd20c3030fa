"""scripts/accuracy.py on the miniature: what it computes for a set, and what it counts as right."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.scaling import scale
from miniature import (
    ARCHITECTURE,
    INSECURE_FUNCTIONAL_SET,
    INSECURE_NATIVE_SET,
    INSECURE_SET,
    random_picture,
    random_weights,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import accuracy
import measurements
from pictureset import Pictures

WEIGHTS = random_weights()
#: Of a group of eight half the places stay empty.
GROUP = replace(INSECURE_NATIVE_SET, number=7, pictures=8)
SETS = pytest.mark.parametrize(
    "set_",
    [INSECURE_SET, INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET, GROUP],
    ids=["Chebyshev", "Fourier", "native", "group"],
)


def pictures(count=4):
    random = np.random.default_rng(8)
    x = np.stack([random_picture(ARCHITECTURE, random) for _ in range(count)])
    return Pictures(x, np.arange(count), [f"picture {i}" for i in range(count)])


def narrowed(factor):
    """As if calibrated on pictures whose values are so many times smaller."""
    return replace(WEIGHTS, bounds={name: bound / np.float32(factor) for name, bound in WEIGHTS.bounds.items()})


@SETS
def test_logits_are_those_of_the_set(set_):
    """By definition, with the set's ReLU; the same again with the same noise, and others without."""
    found = accuracy.evaluate_all(set_, WEIGHTS, pictures(), 0.0)
    units = scale(WEIGHTS, set_.refresh).units

    def approximated(name, x):
        unit = units[name][:, None, None]
        return set_.refresh.approximated_relu(x / unit) * unit

    expected = np.stack([forward(WEIGHTS, x, approximated)["fc"] for x in pictures().x])
    assert np.abs(found - expected).max() < 1e-2 * np.abs(expected).max()
    noisy = [accuracy.evaluate_all(set_, WEIGHTS, pictures(), 1e-4) for _ in range(2)]
    assert (noisy[0] == noisy[1]).all() and 0 < np.abs(noisy[0] - found).max() < 0.1


def test_an_overflow_counts_as_wrong():
    """Of a Chebyshev series far out of range come numbers without bound, and of those in the end no numbers: none is
    right."""
    weights, plain = narrowed(3), np.stack([forward(WEIGHTS, x)["fc"] for x in pictures().x])
    found = accuracy.evaluate_all(INSECURE_SET, weights, pictures(), 0.0)
    for labels in (plain.argmax(1), np.nan_to_num(found).argmax(1), found.argmax(1)):
        score = accuracy.Score.of(weights, found, plain, labels)
        assert (score.right, score.refused, score.differing) == (0, 4, [0, 1, 2, 3])
        assert np.isnan([score.worst, score.mean]).all()


def test_the_score():
    weights, plain = replace(WEIGHTS, largest_logit=4.0), np.zeros((5, 10))
    plain[np.arange(5), np.arange(5)] = 3.0
    logits = plain.copy()
    logits[1, 9] = 3.5  # another class
    logits[2, 2] = 8.1  # the right class, but no logit
    logits[3, 3] = np.nan
    logits[4, 4] = 2.5
    score = accuracy.Score.of(weights, logits, plain, np.array([0, 1, 2, 3, 5]))
    assert score == accuracy.Score(right=1, refused=2, worst=3.5, mean=(0 + 3.5 + 0.5) / 3, differing=[1, 2, 3])


@pytest.fixture
def miniature(monkeypatch):
    """The script on the miniature; its widest bounds and a set of each kind, the native one with a deviation."""
    native = replace(INSECURE_NATIVE_SET, refresh_deviation=1e-3)
    sets = {(1, ""): INSECURE_SET, (6, ""): native, (6, "openfhe"): INSECURE_FUNCTIONAL_SET}
    monkeypatch.setattr(accuracy, "parameter_set", lambda *key: sets[key])
    monkeypatch.setattr(accuracy, "load_weights", lambda path: narrowed(3) if path == Path("narrow") else WEIGHTS)
    return lambda *words: monkeypatch.setattr(sys, "argv", ["accuracy.py", *map(str, words)])


def rows(text):
    """The cells of every line of the printed tables, by the first."""
    lines = ([cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in text.splitlines())
    return {cells[0]: cells[1:] for cells in lines if len(cells) > 1}


def test_the_deviation_is_the_engines(miniature, monkeypatch, capsys, tmp_path):
    """With noise as measured of the set that is evaluated; none where none was measured."""
    np.savez(tmp_path / "p.npz", x=np.round(pictures(2).x * 255).astype(np.uint8), y=np.arange(2))
    evaluate_all, noises = accuracy.evaluate_all, []

    def evaluate(set_, weights, pictures, noise):
        noises.append((set_.engine, noise))
        return evaluate_all(set_, weights, pictures, noise)

    monkeypatch.setattr(accuracy, "evaluate_all", evaluate)
    for words, expected in (
        ([], [("native", 0.0), ("native", 1e-3)]),
        (["--engine", "openfhe"], [("openfhe", 0.0)] * 2),
    ):
        miniature(tmp_path / "p.npz", "--sets", 6, *words)
        accuracy.main()
        assert noises == expected
        noises.clear()
        found = rows(capsys.readouterr().out)
        if not words:
            assert (
                0 < float(found["set 6, native, ReLU approximated"][3]) != float(found["set 6, native, with noise"][3])
            )


@pytest.mark.parametrize("weights, refused", [("wide", 0), ("narrow", 4)])
def test_what_is_printed(miniature, capsys, tmp_path, weights, refused):
    x = np.round(pictures().x * 255).astype(np.uint8)
    plain = np.stack([forward(WEIGHTS, picture / 255)["fc"] for picture in x])
    labels = plain.argmax(1)
    labels[0] = (labels[0] + 1) % 10
    np.savez(tmp_path / "p.npz", x=x, y=labels)
    miniature(tmp_path / "p.npz", "--sets", 1, 6, "--weights", weights)
    accuracy.main()
    printed = capsys.readouterr().out
    found = rows(printed)
    assert found["plain"][:3] == ["3 of 4", "75.00%", "0"]
    assert found["set 1, openfhe, ReLU approximated"][2] == str(refused)
    assert found["set 6, native, ReLU approximated"][2] == "0"
    if refused:
        assert found["set 1, openfhe, ReLU approximated"] == ["0 of 4", "0.00%", "4", "nan", "nan", "4"]
        assert "set 1, openfhe, ReLU approximated: class differs on p.npz[0], p.npz[1]" in printed
    bound = narrowed(3 if refused else 1).bounds["conv1"]
    assert found["conv1"] == [f"{bound.max():.2f}", f"{bound.mean():.2f}"]


def test_scores_are_written_down(miniature, monkeypatch, tmp_path):
    """Of plain and of each set with noise, the worst logit without it beside; rows of other pictures stay."""
    (tmp_path / "README.md").write_text("<!-- measured: accuracy -->\n<!-- /measured -->\n")
    monkeypatch.setattr(measurements, "FILE", tmp_path / "measurements.json")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    x = np.round(pictures().x * 255).astype(np.uint8)
    labels = np.stack([forward(WEIGHTS, picture / 255)["fc"] for picture in x]).argmax(1)
    for name, count in (("p.npz", 4), ("q.npz", 2)):
        np.savez(tmp_path / name, x=x[:count], y=labels[:count])
        miniature(tmp_path / name, "--sets", 6, "--record")
        accuracy.main()
    rows = measurements.read()["accuracy"]
    assert set(rows) == {f"{name}: {of}" for name in ("p.npz", "q.npz") for of in ("plain", "set 6, native")}
    plain, native = rows["p.npz: plain"], rows["p.npz: set 6, native"]
    assert (plain["right"], plain["of"], plain["differing"], plain["worst"]) == (4, 4, 0, 0.0)
    assert (native["right"], native["differing"]) == (4, 0)
    assert 0 < native["mean"] < native["worst"] != native["worst_without_noise"] > 0
    text = (tmp_path / "README.md").read_text()
    assert "| p.npz | plain | 4 of 4 (100.0%) |  |  |  |  |\n" in text
    assert f"| p.npz | set 6, native | 4 of 4 (100.0%) | 0 | {native['worst']:.2f} |" in text


def test_pictures_are_encrypted_by_the_command_line(monkeypatch, tmp_path):
    """Its words, its answer, and its refusal, which is no crash; a stand-in for the program."""
    stub = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(stub))

    def answers(script):
        stub.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/words; {script}\n')
        stub.chmod(0o700)
        return accuracy.evaluate_encrypted(INSECURE_SET, Path("w"), pictures().x[0])

    logits = answers(f"cp $6 {tmp_path}/sent.png; echo '{{\"logits\": {list(range(10))}}}'")
    assert logits.tolist() == list(range(10))
    given = (tmp_path / "words").read_text().split()
    assert given[:4] == ["-m", "lowmem_resnet20", "load_keys", "1"] and given[6:] == ["weights", "w", "json"]
    assert np.abs(read_picture(tmp_path / "sent.png", 16) - pictures().x[0]).max() <= 0.5 / 255 + 1e-9
    assert np.isnan(answers("exit 6")).all()
    with pytest.raises(subprocess.CalledProcessError):
        answers("exit 4")
