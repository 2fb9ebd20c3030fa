"""The word ``estimate``, with a set of the miniature in the place of the program's own."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from lowmem_resnet20.cli import estimate
from lowmem_resnet20.cli.main import main
from lowmem_resnet20.files.sizes import native_folder_bytes, picture_bytes, result_bytes
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.network.weights import save_weights
from miniature import INSECURE_NATIVE_SET, INSECURE_SHORT_SET, random_weights

SET = replace(INSECURE_NATIVE_SET, server_bytes=1 << 20)
GROUP = replace(SET, number=7, pictures=4, most_copies=1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    save_weights(tmp_path / "weights", random_weights())
    for key, set_ in {(6, "native"): SET, (7, "native"): GROUP, (6, "openfhe"): INSECURE_SHORT_SET}.items():
        monkeypatch.setitem(parameters.PARAMETER_SETS, key, set_)

    def run(*words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        code = main(["estimate", *words, "weights", str(tmp_path / "weights")], out, err)
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.mark.parametrize("set_", [SET, GROUP], ids=["picture", "group"])
def test_estimate(run, set_):
    code, out, err = run(str(set_.number), "clients", "10", "json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    seconds, machines = facts.pop("seconds"), facts.pop("clients_machines")
    assert seconds > 0 and machines == pytest.approx(10 * seconds / 3600) and facts.pop("processors") > 0
    folder, up, down = native_folder_bytes(set_), picture_bytes(set_), result_bytes(set_)
    assert facts == {
        "set": set_.number,
        "engine": "native",
        "network": "ResNet-8 of channels 4/8/16, for 16x16 pictures of 3 colours in 10 classes",
        "pictures": set_.pictures,
        "levels": set_.multiplicative_depth,
        "refreshes": sum(plan(set_).refreshes.values()),
        "memory_bytes": 1 << 20,
        "key_folder_bytes": folder,
        "upload_bytes": up,
        "download_bytes": down,
        "clients": 10,
        "clients_key_bytes": 10 * folder,
        "clients_upload_bytes": 10 * up,
        "clients_download_bytes": 10 * down,
    }


def test_in_words(run, monkeypatch):
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 36.0)
    code, out, _ = run("7", "clients", "10000")
    rows = dict(line.split("  ", 1) for line in out.splitlines())
    assert code == 0
    assert rows["refreshes"].strip() == f"{sum(plan(GROUP).refreshes.values())} for 4 pictures together"
    assert rows["time"].strip().startswith("9.0 s a picture; 36.0 s for 4, on ")
    assert rows["memory"].strip() == "1 MiB"
    assert rows["to evaluate"].strip().endswith(" processors like these")


def test_too_little_memory_to_measure_in(run, monkeypatch):
    monkeypatch.setattr(estimate, "available_bytes", lambda: 1 << 19)
    code, out, err = run("6", "clients", "2", "json")
    facts = json.loads(out)
    assert code == 0 and facts["seconds"] is None and facts["clients_machines"] is None and facts["key_folder_bytes"]
    assert "seconds were not measured: 1 MiB of memory are needed, and 0 MiB are free" in err
    assert "not measured" in run("6")[1]


def test_openfhes_seconds_are_not_measured(run):
    code, out, err = run("6", "engine", "openfhe")
    rows = dict(line.split("  ", 1) for line in out.splitlines())
    assert code == 0 and rows["engine"].strip() == "openfhe" and rows["time"].strip() == "not measured"
    assert err == "seconds are measured for sets that the native engine evaluates alone\n"


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("6 clients 0", 2, "'0' is not a whole number from 1 to 999999999"),
        ("6 clients many", 2, "'many' is not a whole number from 1 to 999999999"),
        ("6 clients", 2, "clients needs COUNT after it, not the word weights"),
        ("9", 2, "there is no parameter set 9"),
        ("1 engine native", 2, "parameter set 1 is not for engine native"),
        ("6 keys k", 2, "keys does not go with estimate"),
    ],
)
def test_bad_input(run, given, code, message):
    assert run(*given.split())[0] == code
    assert f"error: {message}" in run(*given.split())[2]


def test_weights_that_are_not_there(capsys):
    out, err = io.StringIO(), io.StringIO()
    assert main(["estimate", "6", "weights", "nowhere"], out, err) == 5
    assert out.getvalue() == "" and err.getvalue().startswith("lowmem-resnet20: error: ")
