"""scripts/accuracy.py on the miniature: what it prints and writes down."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20.errors import PictureError
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.forward import forward
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

WEIGHTS = random_weights()


def pictures(count=4):
    """uint8"""
    random = np.random.default_rng(8)
    return np.stack([np.round(random_picture(ARCHITECTURE, random) * 255).astype(np.uint8) for _ in range(count)])


def narrowed(factor):
    """As if calibrated on pictures whose values are so many times smaller."""
    return replace(WEIGHTS, bounds={name: bound / np.float32(factor) for name, bound in WEIGHTS.bounds.items()})


@pytest.fixture
def miniature(monkeypatch):
    """The script on the miniature; its widest bounds and a set of each kind, the native one with a deviation."""
    native = replace(INSECURE_NATIVE_SET, refresh_deviation=1e-3)
    sets = {(1, ""): INSECURE_SET, (6, ""): native, (6, "openfhe"): INSECURE_FUNCTIONAL_SET}

    def set_of(number, engine, architecture):
        assert architecture == ARCHITECTURE
        return sets[number, engine]

    monkeypatch.setattr(accuracy, "parameter_set", set_of)
    monkeypatch.setattr(accuracy, "load_weights", lambda path: narrowed(3) if path == Path("narrow") else WEIGHTS)
    return lambda *words: monkeypatch.setattr(sys, "argv", ["accuracy.py", *map(str, words)])


def rows(text):
    """The cells of every line of the printed tables, by the first."""
    lines = ([cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in text.splitlines())
    return {cells[0]: cells[1:] for cells in lines if len(cells) > 1}


def test_the_deviation_is_the_engines(miniature, monkeypatch, capsys, tmp_path):
    """With noise as measured of the set that is evaluated; none where none was measured."""
    np.savez(tmp_path / "p.npz", x=pictures(2), y=np.arange(2))
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
    x = pictures()
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
    x = pictures()
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
        return accuracy.evaluate_encrypted(INSECURE_SET, Path("w"), pictures()[0] / 255)

    logits = answers(f"cp $6 {tmp_path}/sent.png; echo '{{\"logits\": {list(range(10))}}}'")
    assert logits == list(range(10))
    given = (tmp_path / "words").read_text().split()
    assert given[:4] == ["-m", "lowmem_resnet20", "load_keys", "1"] and given[6:] == ["weights", "w", "json"]
    assert np.abs(read_picture(tmp_path / "sent.png", 16) - pictures()[0] / 255).max() <= 0.5 / 255 + 1e-9
    assert answers("exit 6") is None
    with pytest.raises(subprocess.CalledProcessError):
        answers("exit 4")


def test_pictures_need_classes_of_the_network(miniature, tmp_path):
    np.savez(tmp_path / "p.npz", x=pictures())
    miniature(tmp_path / "p.npz")
    with pytest.raises(SystemExit, match="says of no picture"):
        accuracy.main()
    (tmp_path / "folder" / "stop").mkdir(parents=True)
    miniature(tmp_path / "folder")
    with pytest.raises(PictureError, match="stop is named by no class of the network"):
        accuracy.main()
