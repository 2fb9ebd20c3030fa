"""Keys on their way to a service: no byte twice, whatever is cut."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from fakeservice import CUT, FAULTS, TOKEN, FakeService, first_of_each
from lowmem_resnet20.errors import KeyFolderError, ServerError
from lowmem_resnet20.files.keystore import write_manifest
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.remote import upload as module
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import Connection, Patience
from lowmem_resnet20.remote.upload import upload_keys

SET = parameter_set(6)
SIZES = {"public.key": 2500, "relinearisation.key": 1000, "rotation_1.key": 1, "rotation_2.key": 999}
TOTAL = sum(SIZES.values())
PIECE = 400


@pytest.fixture
def service():
    with FakeService() as service:
        yield service


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """keys/exp6/server, of bytes that are no keys."""
    monkeypatch.setattr(module, "PIECE_BYTES", PIECE)
    folder = tmp_path / "keys" / "exp6" / "server"
    folder.mkdir(parents=True)
    numbers = random.Random(0)
    for name, size in SIZES.items():
        (folder / name).write_bytes(numbers.randbytes(size))
    write_manifest(folder, SET, "k")
    return folder


class Shown(SilentProgress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple] = []

    def start(self, title):
        super().start(title)
        self.said.append((title,))

    def expect(self, steps):
        super().expect(steps)
        self.said.append(tuple(steps))

    def step(self, stage, name):
        super().step(stage, name)
        self.said.append((stage, name))


def upload(service: FakeService, folder: Path, progress: SilentProgress | None = None) -> str:
    patience = Patience(30, 0.001, 0.002)
    with Connection(Address(service.url, True, TOKEN), print, patience) as connection:
        return upload_keys(connection, folder, SET, progress or SilentProgress())


def is_there(service: FakeService, folder: Path, key: str) -> bool:
    whole = {(key, name): bytearray((folder / name).read_bytes()) for name in SIZES}
    return service.files == whole and service.manifests[key] == (folder / "manifest.json").read_bytes()


def test_keys_are_sent_once(service, folder):
    key = upload(service, folder)
    assert key == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert is_there(service, folder, key) and service.bytes_of_pieces == TOTAL
    service.requests.clear()
    assert upload(service, folder) == key
    assert service.requests == [f"PUT /v1/keys/{key}"]


def test_nothing_is_hashed_but_the_manifest(service, folder, monkeypatch):
    monkeypatch.setattr(module, "sha256", lambda path: pytest.fail(f"{path} was hashed"))
    assert is_there(service, folder, upload(service, folder))


def test_only_what_is_missing_is_sent(service, folder):
    manifest = (folder / "manifest.json").read_bytes()
    key = hashlib.sha256(manifest).hexdigest()
    service.offer(key, manifest)
    service.append(key, "relinearisation.key", 0, (folder / "relinearisation.key").read_bytes())
    service.append(key, "public.key", 0, (folder / "public.key").read_bytes()[:1700])
    upload(service, folder)
    assert is_there(service, folder, key)
    assert service.bytes_of_pieces == TOTAL - 1000 - 1700
    assert not [request for request in service.requests if request.endswith("relinearisation.key")]


def test_progress_is_told_in_bytes(service, folder, monkeypatch):
    monkeypatch.setattr(module, "format_bytes", str)
    shown = Shown()
    upload(service, folder, shown)
    [(title,), steps, *told] = shown.said
    assert title == f"sending keys to {service.url}"
    assert sum(step.size for step in steps) == TOTAL and {step.kind for step in steps} == {"sending"}
    assert told == [(step.stage, step.name) for step in steps]
    assert told[0] == ("keys", f"0 of {TOTAL}") and told[1] == ("keys", f"{PIECE} of {TOTAL}")


@pytest.mark.parametrize("fault", FAULTS)
def test_any_request_may_be_cut(service, folder, fault):
    """Each when it first comes, and every third; what had arrived is not sent again."""
    first = first_of_each(fault)
    service.fault = lambda number, request: first(number, request) or (fault if number % 3 == 1 else None)
    key = upload(service, folder)
    assert is_there(service, folder, key)
    assert service.bytes_of_pieces + service.bytes_of_cut_pieces == TOTAL


def test_pieces_that_are_always_cut_are_not_sent_for_ever(service, folder):
    """As a proxy may that takes short requests only: what is asked in between is no sign of life."""
    service.fault = lambda number, request: CUT if request.startswith("PATCH") and number > 6 else None
    connection = Connection(Address(service.url, True, TOKEN), print, Patience(0.3, 0.001, 0.002))
    with connection, pytest.raises(ServerError, match="has not answered for "):
        upload_keys(connection, folder, SET, SilentProgress())


def test_a_service_may_forget_and_be_reminded(service, folder):
    """Another offset than we thought is gone on from, backwards too."""

    def fault(number: int, request: str) -> None:
        if number == 4:
            next(iter(service.files.values())).clear()

    service.fault = fault
    assert is_there(service, folder, upload(service, folder))


def test_two_clients_send_the_same_keys(service, folder):
    """The other one's pieces arrive while ours do."""

    def fault(number: int, request: str) -> None:
        if number == 2:
            key = next(iter(service.manifests))
            for name in SIZES:
                data = service.files[key, name]
                data[:] = (folder / name).read_bytes()

    service.fault = fault
    key = upload(service, folder)
    assert is_there(service, folder, key) and service.bytes_of_pieces < TOTAL


def test_files_that_are_there_and_were_not_looked_at(service, folder, monkeypatch):
    """As a service may be after a kill: an empty piece at the end has each looked at."""
    manifest = (folder / "manifest.json").read_bytes()
    key = hashlib.sha256(manifest).hexdigest()
    service.offer(key, manifest)
    for name in SIZES:
        service.append(key, name, 0, (folder / name).read_bytes())
    looked_at: set[str] = set()
    append = service.append
    monkeypatch.setattr(service, "complete", lambda key: looked_at == set(SIZES))
    monkeypatch.setattr(service, "append", lambda key, name, *rest: (looked_at.add(name), append(key, name, *rest))[1])
    assert upload(service, folder) == key
    assert service.bytes_of_pieces == 0


def test_a_file_that_was_damaged_on_its_way_starts_again(service, folder):
    damaged = []

    def fault(number: int, request: str) -> None:
        if request.endswith("public.key") and not damaged and next(iter(service.files.values())):
            damaged.append(True)
            next(iter(service.files.values()))[0] ^= 1

    service.fault = fault
    assert is_there(service, folder, upload(service, folder)) and damaged


def test_a_file_that_is_damaged_again_and_again(service, folder, monkeypatch):
    monkeypatch.setattr(service, "append", lambda *_: (422, 0))
    with pytest.raises(ServerError, match=r"of public\.key is not what it was sent, 3 times over"):
        upload(service, folder)
    assert len(service.requests) == 4


def test_an_altered_file_of_ours(service, folder):
    content = bytearray((folder / "public.key").read_bytes())
    content[7] ^= 1
    (folder / "public.key").write_bytes(content)
    with pytest.raises(KeyFolderError, match=r"public\.key has been altered$"):
        upload(service, folder)


def test_files_of_ours_that_are_not_whole(service, folder):
    (folder / "rotation_2.key").write_bytes(b"short")
    with pytest.raises(KeyFolderError, match=r"rotation_2\.key has 5 bytes instead of 999$"):
        upload(service, folder)
    (folder / "rotation_2.key").unlink()
    with pytest.raises(KeyFolderError, match=r"rotation_2\.key is missing$"):
        upload(service, folder)
    assert service.bytes_of_pieces == 0


def test_keys_of_another_set(service, folder):
    with (
        Connection(Address(service.url, True, TOKEN), print) as connection,
        pytest.raises(KeyFolderError, match="holds keys of set 6, not 5"),
    ):
        upload_keys(connection, folder, parameter_set(5), SilentProgress())
    assert service.requests == []


@pytest.mark.parametrize(
    "state",
    [
        {}, {"complete": 1, "files": {}}, {"complete": False, "files": []},
        {"complete": False, "files": {"public.key": {}}},
        *(
            {"complete": False, "files": {"public.key": {"received": received}}}
            for received in (-1, 2501, 1.5, "1", None, True, 10**30)
        ),
    ],
)  # fmt: skip
def test_states_that_are_none(service, folder, monkeypatch, state):
    monkeypatch.setattr(service, "status", lambda key: state)
    with pytest.raises(ServerError, match="cannot be understood as the state of keys"):
        upload(service, folder)
    assert service.bytes_of_pieces == 0


def test_names_that_a_service_makes_up_are_not_used(service, folder, monkeypatch):
    status = service.status

    def more(key: str) -> dict:
        told = status(key)
        return told | {"files": told["files"] | {"../../client/secret.key": {"bytes": 5, "received": 0}}}

    monkeypatch.setattr(service, "status", more)
    assert is_there(service, folder, upload(service, folder))


@pytest.mark.parametrize(("status", "offset"), [(204, 401), (204, 0), (204, -1), (409, 0), (204, 10**20)])
def test_offsets_that_cannot_be(service, folder, monkeypatch, status, offset):
    monkeypatch.setattr(service, "append", lambda *_: (status, offset))
    with pytest.raises(ServerError, match="cannot be understood as the offset of a file"):
        upload(service, folder)
    assert len(service.requests) < 15


def test_a_service_that_is_never_satisfied(service, folder, monkeypatch):
    monkeypatch.setattr(service, "complete", lambda key: False)
    with pytest.raises(ServerError, match="still has them not complete"):
        upload(service, folder)


def test_a_quota_is_told(service, folder):
    key = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    body = json.dumps({"error": "the service keeps 16 key folders at most", "hint": "have one deleted"}).encode()
    service.instead[f"/v1/keys/{key}"] = (409, {}, body)
    with pytest.raises(ServerError) as raised:
        upload(service, folder)
    assert raised.value.message == "the service refuses: the service keeps 16 key folders at most"
    assert raised.value.hint == "have one deleted"
