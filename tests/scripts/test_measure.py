"""scripts/measure.py on the miniature: the figures of a set, and what it reads of the command line."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lowmem_resnet20 import client, server
from lowmem_resnet20.errors import KeyFolderError
from lowmem_resnet20.inspection import inspect_checkpoints
from lowmem_resnet20.job import Job
from lowmem_resnet20.machine.memory import peak_resident_bytes
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.terminal.progress import SilentProgress
from lowmem_resnet20.terminal.report import Classification
from lowmem_resnet20.terminal.words import parse
from miniature import ARCHITECTURE, INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET, random_picture, random_weights

pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import measure

WEIGHTS = random_weights()
WIDTH = ARCHITECTURE.width
SETS = {set_.engine: set_ for set_ in (INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET)}
first: dict = {}


def miniature_set(folder: Path, number: int):
    """The set of the keys in a server's folder."""
    assert number == 6
    return SETS[json.loads((folder / "manifest.json").read_text())["engine"]]


def miniature_command(*words: str) -> list[dict]:
    """What the command line does, with the miniature and in this process; its lines of JSON.  Of pictures that leave no
    checkpoints it does no more than repeat the first one's.
    """
    request = parse([*words, "json", "verbose", "-1"])
    folder = request.keys / f"exp{request.set_number}"
    if request.command == "generate_keys":
        client.generate_keys(SETS[request.engine or "native"], folder, SilentProgress())
        return [{"keys": str(folder), "seconds": 3.0, "peak_bytes": 1 << 30}]
    if request.checkpoints:
        (path,) = request.inputs
        first.update(load_keys(folder, path, request.checkpoints))
        return [first]
    return [first | {"input": str(path)} for path in request.inputs]


def load_keys(folder: Path, path: Path, checkpoints: Path) -> dict:
    pixels, job = read_picture(path, WIDTH), Job(path.with_suffix(".ct"), path.with_suffix(".out"), checkpoints)
    set_ = miniature_set(folder / "server", 6)
    picture = client.encrypt_picture(folder, set_, pixels, WEIGHTS, job.ciphertext, str(path))
    started = time.monotonic()
    [outcome] = server.evaluate(folder, set_, [job], WEIGHTS, SilentProgress())
    assert outcome.error is None
    seconds = {"encrypt": 0.5, "evaluate": time.monotonic() - started, "decrypt": 0.25}
    result = Classification.of(client.decrypt_logits(folder, set_, job.output, WEIGHTS, picture))
    plain = Classification.of(forward(WEIGHTS, pixels)["fc"])
    peaks = {"server": peak_resident_bytes(), "client": 1 << 20}
    compared = plain.as_json() | {"worst_difference": result.worst_difference(plain)}
    return {"input": str(path)} | result.as_json() | {"plain": compared, "seconds": seconds, "peak_bytes": peaks}


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        pixels = random_picture(ARCHITECTURE, np.random.default_rng(seed))
        Image.fromarray((pixels * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(path)
    return paths


@pytest.mark.parametrize("engine", SETS)
def test_a_set_is_measured(monkeypatch, tmp_path, pictures, capsys, engine):
    """Keys are made once; the first picture is inspected, by its checkpoints; all are compared with plain."""
    inspected = []

    def inspect(*arguments):
        inspected.append(inspect_checkpoints(*arguments))
        return inspected[-1]

    monkeypatch.setattr(measure, "command", miniature_command)
    monkeypatch.setattr(measure, "inspect_checkpoints", inspect)
    monkeypatch.setattr(measure, "keys_set", miniature_set)
    monkeypatch.setattr(measure, "load_weights", lambda path: WEIGHTS)
    monkeypatch.setattr(measure, "read_picture", lambda path: read_picture(path, WIDTH))
    words = ["--engine", "openfhe"] if engine == "openfhe" else []
    folder = ["--keys", str(tmp_path / "keys")]
    monkeypatch.setattr(sys, "argv", ["measure.py", "6", *words, *folder, "--pictures", *map(str, pictures)])
    measure.main()
    printed = capsys.readouterr()
    head, headings, _, row = printed.out.splitlines()
    assert "OpenFHE 1.6.1" in head and "numba " in head
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    assert processors[0].partition(": ")[2].strip() in head
    cells = dict(zip(*([c.strip() for c in line.strip("| ").split(" | ")] for line in (headings, row)), strict=True))
    kept = sum(path.stat().st_size for path in (tmp_path / "keys" / "exp6" / "server").iterdir())
    assert (cells["set"], cells["engine"]) == ("6", engine)
    assert (cells["key generation"], cells["its peak"]) == ("3.0 s", "1.00 GiB")
    assert cells["server folder"] == measure.format_bytes(kept) and cells["client's peak"] == "1 MiB"
    [layers] = inspected
    assert cells["refresh bits"] == f"{min(layer.bits for layer in layers if layer.bootstrap):.1f}"
    assert float(cells["refresh bits"]) > 12
    assert cells["class as plain's"] == "2 of 2"
    error, worst = map(float, cells["logit error: first, worst"].split(", "))
    assert 0 < error == worst < 0.1
    keys, alone, together = printed.err.splitlines()
    assert keys.startswith('set 6, keys {"keys": ') and alone.startswith(f"set 6, {pictures[0]} {{")
    assert json.loads(together.removeprefix("set 6 "))["input"] == str(pictures[1])
    deviation = json.loads(alone.removeprefix(f"set 6, {pictures[0]} "))["refresh_deviation"]
    assert 0 < deviation < 1e-4
    with pytest.raises(KeyFolderError, match=f"holds keys for the engine {engine}, not "):
        [other] = SETS.keys() - {engine}
        measure.measure(6, other, pictures, tmp_path / "keys")


def test_the_row_of_a_set():
    def result(seconds, server_bytes, label, difference):
        plain = {"class": "Dog", "worst_difference": difference}
        return {
            "class": label,
            "plain": plain,
            "seconds": seconds,
            "peak_bytes": {"server": server_bytes, "client": 2 << 20},
        }

    results = [
        result({"encrypt": 1.0, "evaluate": 200.0}, 3 << 30, "Dog", 0.1),
        result({"encrypt": 1.0, "evaluate": 20.0}, 4 << 30, "Cat", 0.3),
        result({"encrypt": 1.0, "evaluate": 40.0}, 2 << 30, "Dog", 0.2),
    ]
    row = dict(zip(measure.HEADINGS, measure.Figures(6, "native", {}, 5 << 30, results, 8.25).row(), strict=True))
    assert (row["set"], row["key generation"], row["server folder"]) == ("6", "", "5.00 GiB")
    assert (row["a picture"], row["each of several"]) == ("3 min 21 s", "31.0 s")
    assert (row["server's peak"], row["client's peak"]) == ("4.00 GiB", "2 MiB")
    assert (row["logit error: first, worst"], row["class as plain's"], row["refresh bits"]) == (
        "0.100, 0.300",
        "2 of 3",
        "8.2",
    )
    assert row["its group"] == ""
    shares = [one | {"group": {"pictures": 2, "seconds": {"encrypt": 2.0, "evaluate": 400.0}}} for one in results[:2]]
    group = measure.Figures(7, "native", {}, 5 << 30, [*shares, results[2]], 8.25, together=2).row()
    told = dict(zip(measure.HEADINGS, group, strict=True))
    assert (told["a picture"], told["its group"], told["each of several"]) == ("3 min 21 s", "6 min 42 s", "41.0 s")
    alone = dict(zip(measure.HEADINGS, measure.Figures(6, "native", {}, 5 << 30, results[:1], 8.25).row(), strict=True))
    assert (alone["each of several"], alone["logit error: first, worst"]) == ("", "0.100")


def test_the_command_line_is_run_and_read(monkeypatch, tmp_path):
    stub = tmp_path / "python"
    stub.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/words; echo \'{{"a": 1}}\'; echo \'{{"b": 2}}\'; exit $4\n')
    stub.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(stub))
    assert measure.command("load_keys", "0") == [{"a": 1}, {"b": 2}]
    assert (tmp_path / "words").read_text() == "-m lowmem_resnet20 load_keys 0 json verbose -1\n"
    with pytest.raises(subprocess.CalledProcessError):
        measure.command("load_keys", "6")


def test_a_set_of_groups_is_measured_by_the_group(monkeypatch, tmp_path, pictures, capsys):
    """The first pictures together, whose first is inspected in its place; a picture that is left, in a second run."""
    set_, asked, inspected = replace(INSECURE_NATIVE_SET, number=7, pictures=2), [], []
    share = {
        "class": "Dog",
        "plain": {"class": "Dog", "worst_difference": 0.1},
        "peak_bytes": {"server": 1, "client": 1},
    }
    share |= {"seconds": {"evaluate": 10.0}, "group": {"pictures": 2, "seconds": {"evaluate": 20.0}}}

    def command(*words: str) -> list[dict]:
        asked.append(words)
        return [share for word in words if word.endswith(".png")]

    def inspect(folder, set_, checkpoints, weights, pixels, identity):
        inspected.append((checkpoints.name, identity))
        return [SimpleNamespace(bootstrap=True, bits=9.0, deviation=1e-4)]

    monkeypatch.setattr(measure, "command", command)
    monkeypatch.setattr(measure, "inspect_checkpoints", inspect)
    monkeypatch.setattr(measure.client, "encryptions", lambda folder, set_: ["older", "g.1", "g.2"])
    monkeypatch.setattr(measure, "keys_set", lambda folder, number: set_)
    monkeypatch.setattr(measure, "load_weights", lambda path: WEIGHTS)
    monkeypatch.setattr(measure, "read_picture", lambda path: read_picture(path, WIDTH))
    (tmp_path / "exp7" / "server").mkdir(parents=True)
    figures = measure.measure(7, "", [*pictures, tmp_path / "c.png"], tmp_path)
    assert inspected == [("1.ct", "g.1")]
    assert [sum(word.endswith(".png") for word in words) for words in asked] == [2, 1]
    row = dict(zip(measure.HEADINGS, figures.row(), strict=True))
    assert (row["a picture"], row["its group"], row["each of several"]) == ("10.0 s", "20.0 s", "10.0 s")
    assert row["class as plain's"] == "3 of 3"
