"""The word ``export_card``: what it makes of a weight file, what it says, and what it leaves as it was."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import save as to_safetensors

from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.network.cardfile import load_card
from lowmem_resnet20.network.weights import default_weights_path, load_weights

OWN = str(default_weights_path())


def test_a_card_of_the_shipped_weights(run, tmp_path):
    path = tmp_path / "own.card"
    done = run("export_card", OWN, str(path), "json")
    told = json.loads(done.out)
    assert (done.code, done.err, told["card"]) == (ExitCode.OK, "", str(path))
    assert told["classes"] == ", ".join(CIFAR10_CLASSES)
    assert told["network"] == "ResNet-20 of channels 16/32/64, for 32x32 pictures of 3 colours in 10 classes"
    assert load_card(path) == load_weights(OWN).card and told["weights"] == load_weights(OWN).fingerprint
    assert run("export_card", OWN, str(path), "verbose", "-1").out == f"card  {path}\n"


@pytest.mark.parametrize("source", ["w", "./w", "link"])
def test_it_does_not_replace_what_it_is_made_of(run, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(default_weights_path().read_bytes())
    (tmp_path / "link").symlink_to("w")
    done = run("export_card", source, "w")
    assert done.code == ExitCode.USAGE and "would overwrite" in done.err
    assert (tmp_path / "w").read_bytes() == default_weights_path().read_bytes()


def test_what_is_no_weight_file_gives_no_card(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("export_card", OWN, "card.json").code == ExitCode.OK
    for source, told in (("card.json", "is not a weight file of this program"), ("none", "there is no weight file")):
        done = run("export_card", source, "out")
        assert done.code == ExitCode.WEIGHTS and told in done.err and not (tmp_path / "out").exists()


def test_what_a_file_says_does_not_fill_the_terminal(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(to_safetensors({}, metadata={"format": "\x1b[1m" * 100_000}))
    done = run("export_card", "w", "out")
    assert done.code == ExitCode.WEIGHTS and len(done.err) < 20_000 and "\x1b" not in done.err


def test_a_card_that_is_read_is_not_written_over(run, tmp_path, monkeypatch, inputs):
    monkeypatch.chdir(tmp_path)
    assert run("export_card", OWN, "own.card").code == ExitCode.OK
    before = (tmp_path / "own.card").read_bytes()
    done = run("encrypt", "6", "card", "own.card", "input", str(inputs / "dog.png"), "output", "own.card")
    assert done.code != ExitCode.OK and (tmp_path / "own.card").read_bytes() == before


@pytest.mark.parametrize("command", [["encrypt", "6", "output", "o"], ["decrypt", "6", "r.ct"], ["generate_keys", "6"]])
def test_a_card_that_is_none_or_missing_is_told_before_anything_is_done(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").write_text('{"format": "lowmem-resnet20 card 1"}')
    for card, told in (("bad", "bad is not a card of this program"), ("none", "there is no card none"), (OWN, "card")):
        done = run(*command, "card", card)
        assert (done.code, done.out) == (ExitCode.WEIGHTS, "") and told in done.err
        assert len(done.err.splitlines()) <= 2 and sorted(path.name for path in tmp_path.iterdir()) == ["bad"]
