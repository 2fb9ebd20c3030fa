"""Hostile ciphertexts and keys: whatever their bytes, an error of this program and never the end of its process.

The bytes are those a client could send who makes digests to match.  Pictures, weights, manifests and the command line
are fuzzed beside their own tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parties
from lowmem_resnet20.client import Client
from lowmem_resnet20.errors import CiphertextError, ExitCode
from lowmem_resnet20.files.envelope import PICTURE, Ciphertext
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.openfhe.ciphertexts import Strangers
from lowmem_resnet20.openfhe.context import read_public_key
from lowmem_resnet20.server.request import Evaluation, Job
from miniature import ARCHITECTURE, INSECURE_SET, random_picture, random_weights

WEIGHTS = random_weights(ARCHITECTURE)
FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
EDGE = 600  # bytes at both ends, where the structure is; between them are coefficients


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    save_weights(folder / "weights", WEIGHTS)
    parties.generate_keys(INSECURE_SET, folder / "exp1")
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(1))
    parties.encrypt_picture(folder / "exp1", INSECURE_SET, pixels, WEIGHTS, folder / "p.ct", "picture")
    return folder


def forge(folder: Path, payload: bytes, facts: dict | None = None) -> Path:
    """The picture with another payload, its digest made to match, and other facts."""
    magic, line, _ = (folder / "p.ct").read_bytes().split(b"\n", 2)
    fields = json.loads(line) | {"sha256": hashlib.sha256(payload).hexdigest()} | (facts or {})
    path = folder / "forged.ct"
    path.write_bytes(magic + b"\n" + json.dumps(fields).encode() + b"\n" + payload)
    return path


@cache
def reading(folder: Path) -> tuple[Client, Strangers]:
    """What reads a stranger's ciphertext, made once for all."""
    client = Client(folder / "exp1", WEIGHTS, set_=INSECURE_SET)
    return client, Strangers(client.context, read_public_key(folder / "exp1" / "client" / "public.key"))


CHANGES = st.lists(st.tuples(st.integers(-EDGE, EDGE - 1), st.integers(0, 255)), min_size=1, max_size=6)


@FUZZ
@given(CHANGES)
def test_fuzz_altered_payload(folder, changes):
    payload = bytearray((folder / "p.ct").read_bytes().split(b"\n", 2)[2])
    for position, value in changes:
        payload[position] = value
    _error_or_ciphertext(folder, forge(folder, bytes(payload)))


@FUZZ
@given(st.integers(0, 5000) | st.integers(0, 200_000), st.binary(max_size=40))
def test_fuzz_cut_payload(folder, length, tail):
    payload = (folder / "p.ct").read_bytes().split(b"\n", 2)[2]
    _error_or_ciphertext(folder, forge(folder, payload[:length] + tail))


@FUZZ
@given(st.binary(max_size=2000), st.sampled_from([0, 4, 60, 300]))
def test_fuzz_any_payload(folder, payload, kept):
    original = (folder / "p.ct").read_bytes().split(b"\n", 2)[2]
    _error_or_ciphertext(folder, forge(folder, original[:kept] + payload))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda j: st.lists(j) | st.dictionaries(st.text(), j)
)


@FUZZ
@given(st.sampled_from(["kind", "keys", "layer", "sha256", "more"]), JSON)
def test_fuzz_facts(folder, name, value):
    payload = (folder / "p.ct").read_bytes().split(b"\n", 2)[2]
    _error_or_ciphertext(folder, forge(folder, payload, {name: value}))


@FUZZ
@given(st.binary(max_size=300), st.integers(0, 400))
def test_fuzz_any_file(folder, content, kept):
    path = folder / "forged.ct"
    path.write_bytes((folder / "p.ct").read_bytes()[:kept] + content)
    _error_or_ciphertext(folder, path)


def _error_or_ciphertext(folder: Path, path: Path) -> None:
    """Refused; or, where the change has kept it a ciphertext, what OpenFHE can compute with."""
    try:
        client, strangers = reading(folder)
        envelope = Ciphertext.load(path).opened()
        envelope.expect(PICTURE, client.belonging)
        ciphertext = strangers.read(envelope.payload, path)
    except CiphertextError as error:
        assert error.message
    else:
        assert ciphertext.NumberCiphertextElements() == 2


#: The server's process, but for set 1, which is the miniature here.
SERVE = """
import sys
from miniature import INSECURE_SET
from lowmem_resnet20.server import worker
from lowmem_resnet20.network import parameters
parameters.PARAMETER_SETS[1, "openfhe"] = INSECURE_SET
sys.exit(worker.main())
"""


@pytest.mark.parametrize("name", ["context.bin", "relinearisation.key", "bootstrapping.key", "rotations-1.key"])
@pytest.mark.parametrize("damage", ["cut", "noise", "ends"])
def test_keys_that_are_none_end_no_more_than_the_servers_own_process(folder, tmp_path, name, damage):
    """With digests that match.  The process may die of them (its caller then says so); it must not give a result."""
    server = tmp_path / "forged" / "server"
    server.mkdir(parents=True)
    for path in (folder / "exp1" / "server").iterdir():
        os.link(path, server / path.name)
    os.link(folder / "p.ct", tmp_path / "p.ct")
    data = (server / name).read_bytes()
    noise = np.random.default_rng(0).bytes(len(data))
    data = {"cut": data[: len(data) // 2], "noise": noise, "ends": noise[:100] + data[100:]}[damage]
    manifest = json.loads((server / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for file, content in ((name, data), ("manifest.json", json.dumps(manifest).encode())):
        (server / file).unlink()
        (server / file).write_bytes(content)
    request = Evaluation(1, tmp_path / "forged", (Job(tmp_path / "p.ct", tmp_path / "r.ct"),), folder / "weights")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE],
        env=environment, input=request.to_json(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (ExitCode.KEYS, -signal.SIGABRT, -signal.SIGSEGV), done.stderr
    assert not (tmp_path / "r.ct").exists()
    if done.returncode == ExitCode.KEYS:
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["error"].startswith(f"{server / name} ") and "\n" not in told["error"] + told["hint"]
