"""The service as a process and the client's command line, with real keys and ciphertexts of the miniature."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lowmem_resnet20 as lr
import parties
from lowmem_resnet20.errors import CiphertextError, ExitCode, KeyFolderError, ServerError, UsageError, WeightsError
from lowmem_resnet20.model import picture
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.remote.address import TOKEN_VARIABLE
from miniature import random_weights
from processes import until
from serving import NUMBER, SET, Process, weights

WIDTH = SET.architecture.width


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with keys and two pictures."""
    folder = tmp_path_factory.mktemp("made")
    parties.generate_keys(SET, folder / "keys" / f"exp{NUMBER}")
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (WIDTH, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def miniature(monkeypatch, made) -> Path:
    """The command line of this process takes the miniature for set 6, in that folder."""
    monkeypatch.setitem(parameters.PARAMETER_SETS, (NUMBER, SET.engine), SET)
    monkeypatch.setattr(picture, "read_picture", partial(picture.read_picture, width=WIDTH))
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.chdir(made)
    return made


def start(store: Path, port: int = 0) -> Process:
    return Process(store, port=port)


def words_for(process: Process) -> list[str]:
    where = ["server", process.told["url"], "token", process.told["token_file"]]
    return [*where, "weights", str(Path(process.told["store"]).parent / "weights")]


def check(path: str, logits: list[float]) -> None:
    expected = forward(weights(), picture.read_picture(path))["fc"]
    assert np.abs(np.array(logits) - expected).max() < 0.1


def test_two_clients_with_a_token_each(run, miniature, tmp_path):
    """Added while the service runs, the first for two pictures a day; neither fetches, cancels nor forgets the other's.

    A client that is removed has no access from then on.
    """
    with start(tmp_path / "store") as process:
        store, where = process.told["store"], {}
        for name, a_day in (("ben", ["a_day", "2"]), ("ada", [])):
            file = tmp_path / f"{name}.token"
            file.touch(0o600)
            file.write_text(run("token", "add", name, *a_day, "store", store).out)
            where[name] = ["server", process.told["url"], "token", str(file)]
        last = ["weights", str(tmp_path / "weights")]
        pictures = ["input", "1.png", "2.png", "1.png"]
        done = run("load_keys", "6", *pictures, "json", *where["ben"], *last)
        assert done.code == ExitCode.SERVER
        refused = "the service refuses: ben may send 2 pictures a day; more can be sent in 2"
        assert done.err.count(f"lowmem-resnet20: error: {refused}") == 1
        lines = [json.loads(line) for line in done.out.splitlines()]
        told = [line for line in lines if "logits" in line]
        assert [line["input"] for line in told] == ["1.png", "2.png"] and len(lines) == 3
        for line in told:
            check(line["input"], line["logits"])
        job = next((tmp_path / "store" / "jobs").iterdir()).name
        for words in (["fetch", job, *where["ada"], *last], ["cancel", job, *where["ada"]]):
            none = run(*words)
            assert none.code == ExitCode.SERVER and "the service refuses: there is no such job here" in none.err
        forgotten = run("forget_keys", "6", *where["ada"])
        assert forgotten.out.endswith("not at the service\n")
        assert run("fetch", job, *where["ben"], *last).code == ExitCode.OK
        run("token", "remove", "ben", "store", store)
        gone = run("fetch", job, *where["ben"], *last)
        assert gone.code == ExitCode.SERVER and "does not accept the token" in gone.err
        content = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
        tokens = [Path(where[name][3]).read_text().strip() for name in where]
        logged = (tmp_path / "log").read_text()
        assert not any(token.encode() in content or token in logged for token in tokens)


def test_load_keys_and_fetch(run, miniature, tmp_path):
    with start(tmp_path / "store") as process:
        done = run("load_keys", "6", "input", "1.png", "2.png", "json", "verbose", "1", *words_for(process))
        assert done.code == ExitCode.OK, done.err
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert [line["input"] for line in lines] == ["1.png", "2.png"]
        for line in lines:
            check(line["input"], line["logits"])
        assert re.search(rf"^sending keys to {process.told['url']}$", done.err, re.MULTILINE)
        assert re.search(r"\] (1/2 )?layer1 +layer1\.0\.conv1 refresh ", done.err)
        with process.client() as there:
            jobs = [job["job"] for job in there.get("/v1/jobs").json()["jobs"]]
            received = there.get("/metrics").text
        fetched = run("fetch", *jobs, "json", "verbose", "-1", *words_for(process))
        assert fetched.code == ExitCode.OK, fetched.err
        for again, line in zip(fetched.out.splitlines(), lines, strict=True):  # decrypting adds a little noise
            assert json.loads(again)["logits"] == pytest.approx(line["logits"], abs=1e-2)
        with process.client() as there:
            assert _received(there.get("/metrics").text) == _received(received)
            there.delete(f"/v1/jobs/{jobs[0]}")
        gone = run("fetch", jobs[0], *words_for(process))
        assert gone.code == ExitCode.SERVER and gone.out == ""
        assert gone.err.startswith(f"lowmem-resnet20: error: the service has cancelled {jobs[0]}\n")
        where = words_for(process)[:4]
        over = run("cancel", *jobs, *where)  # of what is over nothing is lost
        assert (over.code, over.out) == (ExitCode.OK, f"{jobs[0]}  cancelled\n{jobs[1]}  done\n")
        for removed in (True, False):
            told = json.loads(run("forget_keys", "6", "json", *where).out)
            assert told == {"set": 6, "keys": "keys/exp6/server", "removed": removed}
        assert list((tmp_path / "store" / "keys").iterdir()) == []
        assert run("fetch", jobs[1], *words_for(process)).code == ExitCode.OK


def _received(metrics: str) -> str:
    found = re.search(r"^lowmem_\w*received_bytes\w* (\S+)$", metrics, re.MULTILINE)
    assert found, metrics
    return found[1]


def test_a_service_that_is_killed_twice(run, miniature, tmp_path):
    """During the upload, and while it evaluates: the command goes on by itself, and the picture is classified."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(tmp_path / "store", port)]

    def kill_and_start() -> None:
        store = tmp_path / "store"
        for reached in (
            lambda: list(store.glob("uploads/*/*/parts/*")),
            lambda: list(store.glob("jobs/*/*unfinished/*")),
        ):
            until(reached, 600)
            processes[-1].end()
            processes.append(start(store, port))

    killer = threading.Thread(target=kill_and_start, daemon=True)
    killer.start()
    try:
        done = run("load_keys", "6", "input", "1.png", "json", *words_for(processes[0]))
    finally:
        killer.join(60)
        for process in processes:
            process.__exit__()
    assert done.code == ExitCode.OK, done.err
    check("1.png", json.loads(done.out)["logits"])
    assert len(processes) == 3


# --- what a program uses --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[Process]:
    with start(tmp_path_factory.mktemp("service") / "store") as process:
        yield process


@pytest.fixture
def given(miniature, process) -> dict[str, Any]:
    """What a RemoteServer is made with."""
    token = Path(process.told["token_file"])
    return {"url": process.told["url"], "token": token, "folder": Path("keys/exp6"), "weights": weights()}


def test_a_program_has_a_service_evaluate(given):
    """Several pictures, then one of them by itself: results in their order, and right; progress step by step."""
    steps = []
    server = lr.RemoteServer(**given, progress=lambda stage, name: steps.append((stage.rpartition(" ")[2], name)))
    with lr.Client("keys/exp6", weights()) as client:
        sent = client.encrypt(*[picture.read_picture(path) for path in ("1.png", "2.png")], names=["1.png", "2.png"])
        found = client.decrypt(server.evaluate(sent))
        again = client.decrypt(server.evaluate(sent[1]))
    assert [result.name for result in found] == ["1.png", "2.png"] and [result.name for result in again] == ["2.png"]
    for result in (*found, *again):
        check(result.name, result.logits)
        assert result.warnings == ()
    assert {step for steps in plan(SET).steps.values() for step in steps} <= set(steps)
    assert not list(Path("keys/exp6").glob("*.ct"))


def test_a_program_that_has_another_token(given):
    """Also one that it holds itself, and none."""
    lr.RemoteServer(**given | {"token": given["token"].read_text().strip()})
    with pytest.raises(ServerError, match="does not accept the token"):
        lr.RemoteServer(**given | {"token": "x" * 43})
    with pytest.raises(ServerError, match="wants a token, and none was given"):
        lr.RemoteServer(**given | {"token": None})


def test_a_program_that_has_other_weights(given, tmp_path):
    other = random_weights(SET.architecture, 1)
    with pytest.raises(WeightsError, match="has other weights"):
        lr.RemoteServer(**given | {"weights": other})
    save_weights(tmp_path / "weights", other)
    with pytest.raises(WeightsError, match="has other weights"):
        lr.RemoteServer(**given | {"weights": tmp_path / "weights"})


def test_a_program_whose_service_is_not_there(given):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ServerError, match=f"^no service answers at {url}: "):
        lr.RemoteServer(**given | {"url": url})
    with pytest.raises(UsageError, match="is not encrypted"):
        lr.RemoteServer(**given | {"url": "http://example.org"})


def test_a_program_without_keys_or_of_another_set(given):
    with pytest.raises(KeyFolderError, match=r"^there is no key folder keys/exp5/server$"):
        lr.RemoteServer(**given | {"folder": "keys/exp5"})
    with pytest.raises(KeyFolderError, match=r"^keys/exp6/server holds keys of set 6, not 1$"):
        lr.RemoteServer(**given, set_=1)
    with pytest.raises(UsageError, match="no parameter set 0"):
        lr.RemoteServer(**given, set_=0)


def test_what_a_program_sends_that_is_no_picture(given, tmp_path):
    """It is told by the name that the program knows it by."""
    server = lr.RemoteServer(**given)
    with lr.Client("keys/exp6", weights()) as client:
        [sent] = client.encrypt(picture.read_picture("1.png"))
    damaged = lr.Ciphertext(bytes(sent[:-1]))
    damaged.save(tmp_path / "damaged.ct")
    with pytest.raises(CiphertextError, match=f"^{tmp_path}/damaged.ct is truncated or altered$"):
        server.evaluate([sent, damaged])
