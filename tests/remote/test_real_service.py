"""The service as a process and the client's command line, with real keys and ciphertexts of the miniature."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
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
read_picture = partial(picture.read_picture, width=WIDTH)


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
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.chdir(made)
    return made


def start(store: Path, port: int = 0) -> Process:
    return Process(store, port=port)


def words_for(process: Process) -> list[str]:
    where = ["server", process.told["url"], "token", process.told["token_file"]]
    return [*where, "weights", str(Path(process.told["store"]).parent / "weights")]


def check(path: str, logits: list[float]) -> None:
    expected = forward(weights(), read_picture(path))["fc"]
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
        sent = client.encrypt(*[read_picture(path) for path in ("1.png", "2.png")], names=["1.png", "2.png"])
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
        [sent] = client.encrypt(read_picture("1.png"))
    damaged = lr.Ciphertext(bytes(sent[:-1]))
    damaged.save(tmp_path / "damaged.ct")
    with pytest.raises(CiphertextError, match=f"^{tmp_path}/damaged.ct is truncated or altered$"):
        server.evaluate([sent, damaged])


# --- a network of the service's own ---------------------------------------------------------------------------

#: As serving.weights, by names of its owner's.
NAMES = ("Halt", "Straße", "止まれ", "Vorfahrt", "<b>30</b>", "50", "70", "100", "Links", "Rechts")
PRIVATE = replace(weights(), classes=NAMES, name="signs")


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Iterator[Process]:
    with Process(tmp_path_factory.mktemp("private") / "store", network=PRIVATE) as process:
        yield process


def check_named(path: str, line: dict[str, Any]) -> None:
    check(path, line["logits"])
    assert line["class"] == NAMES[int(np.argmax(line["logits"]))]
    assert (line["range"], line["warnings"]) == (None, [])


def test_two_clients_without_weights(run, miniature, private, tmp_path, monkeypatch):
    """One is given the card by hand, from which it makes its keys; the other, with a token of its own, takes the
    service's.  Neither has a weight anywhere, and both are told the class by the owner's name."""
    for line in private.client().get("/v1/card").iter_lines():
        assert json.loads(line)["classes"] == list(NAMES)
    pictures = [str(miniature / f"{number}.png") for number in (1, 2)]
    store, ben = Path(private.told["store"]), tmp_path / "ben.token"
    added = run("token", "add", "ben", "store", str(store), "json")
    ben.touch(0o600)
    ben.write_text(json.loads(added.out)["token"])
    exported = run("export_card", str(store.parent / "weights"), str(tmp_path / "signs.card"))
    assert (exported.code, exported.err) == (ExitCode.OK, "")
    assert f"\nclasses      {', '.join(NAMES)}\nweights      {PRIVATE.fingerprint}\n" in exported.out
    assert (tmp_path / "signs.card").read_bytes() == private.client().get("/v1/card").content
    clients = (("given", store / "token", ["card", "../signs.card"]), ("taking", ben, []))
    for name, token, words in clients:
        server = ["server", private.told["url"], "token", str(token)]
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert run("generate_keys", "6", *words).code == ExitCode.OK
        done = run("load_keys", "6", "input", *pictures, "json", *server, *words)
        assert done.code == ExitCode.OK, done.err
        assert "by its card, which is kept in keys/exp6/client/cards/" in done.err
        for path, line in zip(pictures, map(json.loads, done.out.splitlines()), strict=True):
            check_named(path, line)
        again = run("load_keys", "6", "input", pictures[0], *server)
        assert again.code == ExitCode.OK and "card" not in again.err
        assert re.search(rf"^class   ({'|'.join(NAMES)})$", again.out, re.MULTILINE)
        found = [path for path in tmp_path.rglob("*") if path.is_file() and b"conv1" in path.read_bytes()]
        assert found == []
    with private.client() as there:
        others = [job["job"] for job in there.get("/v1/jobs").json()["jobs"]]
        there.headers["Authorization"] = f"Bearer {ben.read_text()}"
        jobs = [job["job"] for job in there.get("/v1/jobs").json()["jobs"]]
        result = there.get(f"/v1/jobs/{jobs[-1]}/result").content
    assert (len(others), len(jobs), set(others) & set(jobs)) == (3, 3, set())
    Path("result.ct").write_bytes(result)
    decrypted = run("decrypt", "6", "result.ct", "input", pictures[0], "json")
    assert decrypted.code == ExitCode.OK, decrypted.err
    check_named(pictures[0], json.loads(decrypted.out))
    assert run("decrypt", "6", "result.ct", "input", pictures[0], "plain").code == ExitCode.USAGE
    fetched = run("fetch", jobs[-1], "json", "verbose", "-1", *server)
    assert (fetched.code, fetched.err) == (ExitCode.OK, "")
    assert json.loads(fetched.out)["class"] in NAMES


def test_files_travel_by_hand_too(run, miniature, private, tmp_path, monkeypatch):
    """encrypt and decrypt with a card; the server that evaluates has the weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").symlink_to(miniature / "keys")
    lr.save_card("a.card", PRIVATE.card)
    sent = run("encrypt", "6", "input", str(miniature / "1.png"), "output", "p.ct", "card", "a.card", "json")
    assert sent.code == ExitCode.OK and json.loads(sent.out)["range"] is None
    [answered] = lr.Server("keys/exp6", PRIVATE).evaluate(lr.Ciphertext.load("p.ct"))
    answered.save("r.ct")
    done = run("decrypt", "6", "r.ct", "input", str(miniature / "1.png"), "card", "a.card", "json")
    assert done.code == ExitCode.OK, done.err
    check_named(str(miniature / "1.png"), json.loads(done.out))


def test_a_program_without_weights(miniature, private):
    lr.save_card("a.card", PRIVATE.card)
    card = lr.load_card("a.card")
    server = lr.RemoteServer(private.told["url"], Path(private.told["token_file"]), "keys/exp6", card)
    with lr.Client("keys/exp6", card) as client:
        [result] = client.decrypt(server.evaluate(client.encrypt(read_picture("1.png"))))
    check("1.png", result.logits)
    assert result.label == NAMES[result.index] and result.warnings == ()
