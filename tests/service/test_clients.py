"""Clients: a token each, kept by its hash; what one has, no other sees, counts or deletes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from lowmem_resnet20.errors import EnvironmentFault, UsageError
from lowmem_resnet20.service import stream
from lowmem_resnet20.service.clients import FIRST, Client, Clients
from lowmem_resnet20.service.jobs import Queue
from lowmem_resnet20.service.runner import Runner
from lowmem_resnet20.service.token import hashed
from serving import NUMBER, FakeWorker, Served, ciphertext, manifest_of, name_of


@pytest.fixture
def store(tmp_path):
    """The folder of a service that has run."""
    Clients(tmp_path / "clients.sqlite").close()
    return str(tmp_path)


# --- the words ----------------------------------------------------------------------------------------------


def test_a_token_is_told_once_and_kept_by_its_hash(run, store, tmp_path):
    added = run("token", "add", "ben", "store", store)
    token = added.out.removesuffix("\n")
    assert (added.code, len(token), token.split()) == (0, 43, [token])
    assert added.err == "this token is told once, and kept by its hash: ben needs it in a file of mode 600\n"
    assert Clients(tmp_path / "clients.sqlite").all() == [Client("ben", hashed(token), None)]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert hashed(token) in content and token.encode() not in content
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    assert run("token", "add", "ada", "store", store, "verbose", "-1").err == ""


def test_clients_are_listed_and_removed(run, store):
    told = json.loads(run("token", "add", "ben", "a_day", "100", "json", "store", store).out)
    assert set(told) == {"client", "a_day", "token"} and (told["client"], told["a_day"]) == ("ben", 100)
    run("store", store, "token", "add", "ada")
    assert run("token", "list", "store", store).out == (
        "first  any number\nada    any number\nben    100 pictures a day\n"
    )
    lines = run("token", "list", "json", "store", store).out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"client": "first", "a_day": None},
        {"client": "ada", "a_day": None},
        {"client": "ben", "a_day": 100},
    ]
    assert run("token", "remove", "ada", "store", store).out == "ada  removed\n"
    removed = run("token", "remove", "ben", "json", "store", store)
    assert json.loads(removed.out) == {"client": "ben", "removed": True}
    assert run("token", "list", "store", store).out == "first  any number\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("token add ben", "there is a client ben already"),
        ("token add first", "the client whose token the service has made"),
        ("token remove first", "whoever runs the service"),
        ("token remove ada", "there is no client 'ada'"),
        ("token add", "token add needs NAME after it"),
        ("token list ben", "token list takes no value"),
        ("token add ada a_day 0", "'0' is not a whole number from 1"),
        ("token add ada a_day -5", "'-5' is not a whole number from 1"),
        ("token add ada a_day 1000000000", "is not a whole number from 1"),
        ("token add ada ray auto", "ray does not go with token add"),
        ("token list a_day 5", "a_day does not go with token list"),
        ("cancel 6-0123456789abcdef01234567 server x token add", "two commands: cancel and token add"),
        ("add_token ada", "unknown word 'add_token'"),
    ],
)
def test_wrong_words_are_a_line_and_change_nothing(run, store, words, message):
    run("token", "add", "ben", "store", store)
    done = run(*words.split(), "store", store)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("lowmem-resnet20: error: ") and message in done.err
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["lowmem-resnet20", "hint"]
    assert run("token", "list", "store", store).out == "first  any number\nben    any number\n"


@pytest.mark.parametrize("name", ["", "Ben", "-ben", ".", "..", "a/b", "a" * 33, "a b", "ben\n", "é", "٣", "a\x1b[31m"])
def test_what_is_no_name(tmp_path, run, store, name):
    with pytest.raises(UsageError, match="cannot be the name of a client"):
        Clients(tmp_path / "clients.sqlite").add(name, None)
    done = run("token", "add", name, "store", store)
    assert done.code == 2 and "\x1b" not in done.err and len(done.err.splitlines()) <= 2
    assert Clients(tmp_path / "clients.sqlite").all() == []


def test_names(tmp_path):
    clients = Clients(tmp_path / "clients.sqlite")
    names = sorted(["a", "0", "a" * 32, "first.floor", "lab-2_b"])
    assert len({clients.add(name, None) for name in names}) == len(names)
    assert [client.name for client in clients.all()] == names


def test_a_folder_that_is_no_store(run, tmp_path):
    for action in (["add", "ben"], ["list"], ["remove", "ben"]):
        done = run("token", *action, "store", str(tmp_path / "none"))
        assert done.code == 7 and f"{tmp_path / 'none'} is not the store of a service" in done.err
        assert "serve N" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"no database" * 1000, None])
def test_a_file_that_is_damaged_or_of_another_version(run, store, tmp_path, damage):
    path = tmp_path / "clients.sqlite"
    if damage is None:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        path.write_bytes(damage)
    before = path.read_bytes()
    for action in (["add", "ben"], ["list"], ["remove", "ben"]):
        done = run("token", *action, "store", store)
        assert (done.code, done.out, len(done.err.splitlines())) == (7, "", 1), done.err
        assert f"error: {path} " in done.err
    assert path.read_bytes() == before
    with pytest.raises(EnvironmentFault, match=r"clients\.sqlite"):
        Clients(path)


# --- a service ----------------------------------------------------------------------------------------------


def test_tokens_are_added_and_removed_while_a_service_runs(run, served):
    store = str(served.service.store.folder)
    token = run("token", "add", "ben", "store", store).out.strip()
    headers = {"Authorization": f"Bearer {token}"}
    assert served.client.get("/v1/jobs", headers=headers).json() == {"jobs": []}
    run("token", "remove", "ben", "store", store)
    assert served.client.get("/v1/jobs", headers=headers).status_code == 401
    assert served.client.get("/v1/jobs").status_code == 200
    assert token not in served.written.getvalue()
    assert (served.service.store.folder / "clients.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_token_is_good_for_a_service_that_is_started_again(serve, run):
    with serve() as served:
        token = served.service.clients.add("ben", None)
    with serve() as served:
        headers = {"Authorization": f"Bearer {token}"}
        assert served.client.get("/v1/jobs", headers=headers).status_code == 200


def test_clients_that_cannot_be_read_are_the_machines_fault(served):
    """Not that of who asks; and nobody is let in."""
    served.service.clients.close()
    for _ in range(2):
        answer = served.client.get("/v1/jobs")
        assert answer.status_code == 503 and set(answer.json()) == {"error", "hint"}
    assert served.client.get("/health").status_code == 200
    [line] = [line for line in served.log() if line["event"] == "fault"]
    assert "clients.sqlite cannot be used" in line["error"]


@contextmanager
def two(served: Served, a_day: int | None = None) -> Iterator[tuple[Served, Served]]:
    with served.as_client("ada", a_day) as ada, served.as_client("ben", a_day) as ben:
        yield ada, ben


def every_request(keys: str, file: str, job: str) -> list[tuple[str, str]]:
    """All that name keys or a job."""
    return [
        ("GET", f"/v1/keys/{keys}"), ("DELETE", f"/v1/keys/{keys}"), ("PATCH", f"/v1/keys/{keys}/files/{file}"),
        ("POST", f"/v1/jobs?keys={keys}"), ("GET", f"/v1/jobs/{job}"), ("GET", f"/v1/jobs/{job}/events"),
        ("GET", f"/v1/jobs/{job}/result"), ("DELETE", f"/v1/jobs/{job}"),
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["done", "running"])
def test_no_client_finds_anothers_keys_and_jobs(served, tmp_path, state):
    """Whoever asks, the service's own client too, is answered as of what there is not, to the letter."""
    with two(served) as (ada, ben):
        keys, content = ada.upload(), ciphertext(tmp_path)
        if state == "running":
            FakeWorker.held.clear()
        job = ada.post(keys, content)["job"]
        ada.wait(job, state)
        file = next(iter(ada.files))
        theirs, none = every_request(keys, file, job), every_request("f" * 64, file, f"6-{'f' * 24}")
        headers = {"Upload-Offset": "0"}
        for other in (ben, served):
            for (method, path), (_, nowhere) in zip(theirs, none, strict=True):
                sent = content if method in ("POST", "PATCH") else None
                answers = [other.client.request(method, at, content=sent, headers=headers) for at in (path, nowhere)]
                assert [answer.status_code for answer in answers] == [404, 404], (method, path)
                assert answers[0].content == answers[1].content
                assert answers[0].headers.keys() == answers[1].headers.keys()
            assert other.client.get("/v1/jobs").json() == {"jobs": []}
        assert ada.job(job)["state"] == state and ada.client.get(f"/v1/keys/{keys}").json()["complete"]
        assert [found["job"] for found in ada.client.get("/v1/jobs").json()["jobs"]] == [job]


def test_of_keys_that_another_has_all_must_be_sent(served, tmp_path):
    """Whether they are complete or on their way; each then has its own, deletes its own, and its jobs are others."""
    with two(served) as (ada, ben):
        manifest, content = manifest_of(ada.files), ciphertext(tmp_path)
        keys = name_of(manifest)
        file, data = next(iter(ada.files.items()))
        for client in (ada, ben):
            answer = client.client.put(f"/v1/keys/{keys}", content=manifest)
            assert answer.status_code == 201 and not answer.json()["complete"]
            assert {state["received"] for state in answer.json()["files"].values()} == {0}
            client.send(keys, file, 0, data)
        for client in (ada, ben):
            client.post(keys, content, 409)
            for name, other in ada.files.items():
                if name != file:
                    client.send(keys, name, 0, other)
        jobs = {client.post(keys, content)["job"] for client in (ada, ben)}
        assert len(jobs) == 2
        for client in (ada, ben):
            [job] = [found["job"] for found in client.client.get("/v1/jobs").json()["jobs"]]
            assert client.wait(job)["state"] == "done"
        assert sorted(request.folder.parent.name for request in FakeWorker.asked) == ["ada", "ben"]  # never together
        assert ada.client.delete(f"/v1/keys/{keys}").status_code == 204
        assert ada.client.get(f"/v1/keys/{keys}").status_code == 404
        assert ben.client.get(f"/v1/keys/{keys}").json()["complete"]
        assert [path.name for path in served.service.store.keys.iterdir()] == ["ben"]


def test_figures_are_for_whoever_runs_the_service(served):
    with served.as_client("ben") as ben:
        answer = ben.client.get("/metrics")
    assert answer.status_code == 403 and set(answer.json()) == {"error", "hint"}
    assert served.client.get("/metrics").status_code == 200


def test_the_log_names_clients(served, tmp_path):
    with served.as_client("ben") as ben:
        keys = ben.upload()
        job = ben.post(keys, ciphertext(tmp_path))["job"]
        ben.wait(job)
        ben.client.delete(f"/v1/jobs/{job}")
        ben.client.delete(f"/v1/keys/{keys}")
    told = {line["event"]: line for line in served.log()}
    for event in (
        "keys.offered", "keys.complete", "job.accepted", "run.started", "job.done", "job.cancelled", "keys.deleted",
        "request",
    ):  # fmt: skip
        assert told[event]["client"] == "ben", event
    assert {line["keys"] for line in served.log() if "keys" in line} == {keys}


def test_a_stream_ends_when_its_client_is_removed(served, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    FakeWorker.held.clear()
    with served.as_client("ben") as ben:
        job = ben.post(ben.upload(), ciphertext(tmp_path))["job"]
        with ben.client.stream("GET", f"/v1/jobs/{job}/events") as events:
            lines = events.iter_lines()
            assert next(lines) == "event: state"
            served.service.clients.remove("ben")
            told = [line for line in lines if line.startswith("data:")]
        assert not any('"done"' in line for line in told)
    assert served.service.queue.get(job).state in ("waiting", "running")


def test_a_client_of_a_former_name_finds_what_was_left(served, tmp_path):
    """As one does whose token was replaced."""
    with served.as_client("ben") as ben:
        keys = ben.upload()
        job = ben.post(keys, ciphertext(tmp_path))["job"]
        ben.wait(job)
        served.service.clients.remove("ben")
        with pytest.raises(httpx.HTTPStatusError):
            ben.client.get("/v1/jobs").raise_for_status()
    with served.as_client("ben") as again:
        assert again.job(job)["state"] == "done" and again.client.get(f"/v1/keys/{keys}").json()["complete"]


@pytest.mark.parametrize("removed", [True, False])
def test_keys_of_a_client_that_is_no_more_are_removed_after_a_time(served, tmp_path, monkeypatch, removed):
    """But while a job needs them."""
    FakeWorker.held.clear()
    with two(served) as (ada, ben):
        uploads = {"ada": ada.upload(), "ben": ben.upload()}
        job = ada.post(uploads["ada"], ciphertext(tmp_path))["job"]
        ada.wait(job, "running")
    for name in uploads if removed else ():
        served.service.clients.remove(name)
    clock = served.service.retention._monotonic
    for days in (0, 31):
        now = clock() + days * 86400
        monkeypatch.setattr(served.service.retention, "_monotonic", lambda now=now: now)
        monkeypatch.setattr(served.service.runner, "_cleaned", 0.0)
        Runner._clean_up(served.service.runner)
    left = ["ada"] if removed else ["ada", "ben"]
    assert sorted(path.name for path in served.service.store.keys.iterdir()) == left


# --- stores of a time before clients had names ----------------------------------------------------------------


def test_jobs_and_keys_of_an_old_store_are_the_firsts(serve, tmp_path):
    with serve() as served:
        keys = served.upload()
        job = served.post(keys, ciphertext(tmp_path))["job"]
        served.wait(job)
        manifest = manifest_of(served.files, keys="fedcba9876543210")
        served.client.put(f"/v1/keys/{name_of(manifest)}", content=manifest)
    store = tmp_path / "store"
    for name, folder in ((keys, store / "keys"), (name_of(manifest), store / "uploads")):
        (folder / FIRST / name).rename(folder / name)
        (folder / FIRST).rmdir()
    with sqlite3.connect(store / "jobs.sqlite") as database:  # as version 1 was
        database.executescript(f"UPDATE jobs SET keys = '{keys}'; DROP TABLE sent; PRAGMA user_version = 1;")
    database.close()
    (store / "clients.sqlite").unlink()
    for _ in range(2):
        with serve() as served:
            assert served.job(job)["keys"] == keys
            assert served.client.get(f"/v1/jobs/{job}/result").status_code == 200
            assert served.client.get(f"/v1/keys/{keys}").json()["complete"]
            assert not served.client.get(f"/v1/keys/{name_of(manifest)}").json()["complete"]
            with served.as_client(f"ben{_}") as ben:
                assert ben.client.get(f"/v1/jobs/{job}").status_code == 404
                assert ben.client.get(f"/v1/keys/{keys}").status_code == 404
            served.post(keys, ciphertext(tmp_path, b"%d" % _))


def test_a_store_of_this_version_is_none_for_a_former_one(tmp_path):
    """It would find neither keys nor owners."""
    Queue(tmp_path / "jobs.sqlite", NUMBER).close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()
