"""A worker of a cluster, called as Ray calls it; and the threads that it may use."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import parties
from lowmem_resnet20.cluster.keycache import cache_folder
from lowmem_resnet20.cluster.worker import Worker
from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.server import server
from miniature import INSECURE_SHORT_NATIVE_SET, INSECURE_SHORT_SET, random_picture, random_weights
from raycluster import keep_compiled

SETS = {set_.engine: set_ for set_ in (INSECURE_SHORT_SET, INSECURE_SHORT_NATIVE_SET)}
ARCHITECTURE = INSECURE_SHORT_SET.architecture
WEIGHTS = random_weights(ARCHITECTURE)
PICTURES = [random_picture(ARCHITECTURE, np.random.default_rng(seed)) for seed in (9, 10)]


@pytest.fixture(scope="module", params=SETS)
def folder(request, tmp_path_factory) -> Path:
    """Keys, weights and two encrypted pictures, 0.ct and 1.ct, in a folder with the engine's name."""
    folder, set_ = tmp_path_factory.mktemp("worker") / request.param, SETS[request.param]
    folder.mkdir()
    save_weights(folder / "weights", WEIGHTS)
    parties.generate_keys(set_, folder / "exp6")
    for i, pixels in enumerate(PICTURES):
        parties.encrypt_picture(folder / "exp6", set_, pixels, WEIGHTS, folder / f"{i}.ct", "picture")
    return folder


@pytest.fixture
def worker(tmp_path, monkeypatch) -> Worker:
    """On a machine with a cache folder of its own."""
    keep_compiled(tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("LOWMEM_RESNET20_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # and as it was after the test
    return Worker(1)


def test_keys_are_opened_once_for_all_pictures(folder, worker, tmp_path, monkeypatch):
    """One after the other gives what each alone gives; a ciphertext that is none fails alone."""
    set_, opened, open_engine = SETS[folder.name], [], server.open_engine
    monkeypatch.setattr(server, "open_engine", lambda *given: opened.append(1) or open_engine(*given))
    weights = (folder / "weights").read_bytes()
    assert worker.open(set_, str(folder / "exp6" / "server"), weights, anyway=False) == {}
    results = []
    for number in (0, "bad", 1, *([0] if folder.name == "native" else [])):
        content = (folder / "0.ct").read_bytes()[:-1] if number == "bad" else (folder / f"{number}.ct").read_bytes()
        answer = worker.evaluate(content, "my picture", number == 1)
        if number == "bad":
            assert answer.line["error"] == "my picture is truncated or altered"
            assert (answer.line["exit_code"], answer.result) == (ExitCode.CIPHERTEXT, b"")
            continue
        assert set(answer.line) == {"seconds", "peak_bytes"} and answer.line["seconds"] > 0
        assert ("conv1.relu.ct" in answer.checkpoints, bool(answer.checkpoints)) == (number == 1,) * 2
        (tmp_path / "r.ct").write_bytes(answer.result)
        logits = parties.decrypt_logits(folder / "exp6", set_, tmp_path / "r.ct", WEIGHTS)
        assert np.abs(logits - forward(WEIGHTS, PICTURES[number])["fc"]).max() < 0.1
        results.append(answer.result)
    assert opened == [1]
    assert list(cache_folder().iterdir()) == []
    if folder.name == "native":
        assert results[0] == results[2] != results[1]


@pytest.mark.parametrize("folder", ["native"], indirect=True)
def test_what_keeps_a_worker_from_opening(folder, worker, monkeypatch):
    """In words, whatever it is."""
    set_, weights, keys = SETS["native"], (folder / "weights").read_bytes(), str(folder / "exp6" / "server")
    answer = worker.open(set_, "/nowhere", weights, anyway=False)
    assert (answer["error"], answer["exit_code"]) == ("there is no key folder /nowhere/server", ExitCode.KEYS)
    answer = worker.open(set_, keys, weights[:-1], anyway=False)
    assert answer["exit_code"] == ExitCode.WEIGHTS
    large = replace(set_, server_bytes=1 << 60)
    answer = worker.open(large, keys, weights, anyway=False)
    assert "takes 1073741824.00 GiB of memory" in answer["error"] and answer["exit_code"] == ExitCode.ENVIRONMENT
    assert worker.open(large, keys, weights, anyway=True) == {}

    def broken(*_: object) -> None:
        raise ArithmeticError("an odd\nthing")

    monkeypatch.setattr(server, "open_engine", broken)
    answer = worker.open(set_, keys, weights, anyway=False)
    assert answer["error"] == "unexpected ArithmeticError: an odd\nthing" and answer["hint"]


def test_a_worker_uses_no_more_threads_than_it_declares():
    """The native evaluator's and OpenFHE's, set before either is loaded."""
    program = """
from lowmem_resnet20.cluster.worker import Worker
import os, sys
assert not {"numba", "openfhe"} & set(sys.modules)
os.sched_getaffinity = lambda _: set(range(8))
Worker(3)
from lowmem_resnet20.native.kernels import threads
threads.processors_granted = lambda: []
assert threads.available_processors() == 3 and os.environ["OMP_NUM_THREADS"] == "3"
for text, found in (("64", 8), ("0", 8), ("", 8), ("many", 8), ("1", 1)):
    os.environ["LOWMEM_RESNET20_THREADS"] = text
    assert threads.available_processors() == found, text
"""
    subprocess.run([sys.executable, "-c", program], check=True)
