"""Uploading a key folder: in pieces, within bounds, taken up again after a cut, visible when complete."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import serving
from lowmem_resnet20.errors import EnvironmentFault
from lowmem_resnet20.machine.files import sha256
from lowmem_resnet20.service import keyfiles, keyfolders
from lowmem_resnet20.service.clients import FIRST
from lowmem_resnet20.service.store import keys_named
from miniature import random_weights
from processes import until
from serving import (
    NUMBER,
    SET,
    FakeWorker,
    Served,
    ciphertext,
    key_files,
    manifest_of,
    name_of,
    upload_folder,
)

LARGE = "relinearisation.key"


def status(served: Served, name: str) -> dict:
    return served.client.get(f"/v1/keys/{name}").json()


def put(served: Served, manifest: bytes, name: str = ""):
    return served.client.put(f"/v1/keys/{name or name_of(manifest)}", content=manifest)


def test_a_folder_is_visible_when_its_last_byte_has_come(served, tmp_path):
    manifest = manifest_of(served.files)
    name = name_of(manifest)
    offered = put(served, manifest)
    assert offered.status_code == 201
    assert offered.json() == {
        "complete": False,
        "files": {file: {"bytes": len(data), "received": 0} for file, data in served.files.items()},
    }
    *others, last = served.files.items()
    for file, data in others:
        assert served.send(name, file, 0, data).headers["Upload-Offset"] == str(len(data))
    file, data = last
    served.send(name, file, 0, data[:-1])
    assert not status(served, name)["complete"]
    assert not (served.service.store.keys / FIRST / name).exists()
    served.post(name, ciphertext(tmp_path), 409)
    served.send(name, file, len(data) - 1, data[-1:])
    assert status(served, name)["complete"]
    folder = served.service.store.keys / FIRST / name / "server"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == served.files | {"manifest.json": manifest}
    assert not list(served.service.store.uploads.iterdir()) and not list(served.service.store.incoming.iterdir())


def test_a_second_upload_costs_nothing(served):
    name = served.upload()
    again = put(served, manifest_of(served.files))
    assert again.status_code == 200 and again.json() == status(served, name)
    assert all(file["received"] == file["bytes"] for file in again.json()["files"].values())
    file, data = next(iter(served.files.items()))
    served.send(name, file, len(data), b"")  # nothing more to send
    assert served.send(name, file, 0, data, 409).headers["Upload-Offset"] == str(len(data))


def test_the_wrong_place_is_answered_with_the_right_one(served):
    manifest = manifest_of(served.files)
    name = name_of(manifest)
    put(served, manifest)
    served.send(name, LARGE, 0, served.files[LARGE][:50])
    for offset in (0, 49, 51, 10**17):
        assert served.send(name, LARGE, offset, b"abc", 409).headers["Upload-Offset"] == "50"
    assert status(served, name)["files"][LARGE]["received"] == 50
    for wrong in ("", "-1", "x", "1.5", "9" * 19, "0x10"):
        answer = served.client.patch(f"/v1/keys/{name}/files/{LARGE}", content=b"", headers={"Upload-Offset": wrong})
        assert answer.status_code == 400, wrong
    assert served.client.patch(f"/v1/keys/{name}/files/{LARGE}", content=b"").status_code == 400


def cut(served: Served, name: str, file: str, data: bytes, said: int) -> None:
    """Send a beginning of a body of ``said`` bytes, and hang up."""
    url = served.client.base_url
    with socket.create_connection((url.host, url.port)) as connection:
        head = (
            f"PATCH /v1/keys/{name}/files/{file} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: {said}\r\n"
        )
        head += f"Authorization: {served.client.headers['Authorization']}\r\n\r\n"
        connection.sendall(head.encode() + data)


def test_an_upload_goes_on_after_a_cut(serve):
    """The connection breaks in a piece; then the service ends and is started again."""
    files = key_files() | {LARGE: bytes(range(256)) * 2000}
    manifest = manifest_of(files)
    name = name_of(manifest)
    with serve() as served:
        put(served, manifest)
        cut(served, name, LARGE, files[LARGE][:300_000], len(files[LARGE]))
        until(lambda: status(served, name)["files"][LARGE]["received"])
        assert status(served, name)["files"][LARGE]["received"] <= 300_000
    with serve() as served:
        received = status(served, name)["files"][LARGE]["received"]
        assert 0 < received <= 300_000
        for file, data in files.items():
            done = received if file == LARGE else 0
            served.send(name, file, done, data[done:])
        assert status(served, name)["complete"]
        assert (served.service.store.keys / FIRST / name / "server" / LARGE).read_bytes() == files[LARGE]


def test_a_file_whole_but_unchecked_when_the_service_died_is_checked_at_its_start(serve):
    manifest = manifest_of(key_files())
    name = name_of(manifest)
    with serve() as served:
        put(served, manifest)
        for file, data in served.files.items():
            if file != LARGE:
                served.send(name, file, 0, data)
        part = served.service.store.uploads / FIRST / name / "parts" / LARGE
    part.write_bytes(b"x" * len(served.files[LARGE]))
    with serve() as served:
        assert status(served, name)["files"][LARGE]["received"] == 0  # damaged: it begins again
        assert not status(served, name)["complete"]
    part.write_bytes(served.files[LARGE])
    with serve() as served:
        assert status(served, name)["complete"]


def test_an_upload_that_cannot_be_read_at_the_start_is_kept(served, monkeypatch):
    """For the moment, that is: one that this version of the program cannot use is removed."""
    manifest = manifest_of(served.files)
    put(served, manifest)
    folders = keyfolders.KeyFolders(served.service.store, NUMBER, SET.architecture, served.service.limits)

    def unreadable(folder, number, architecture):
        raise EnvironmentFault("cannot read it")

    with monkeypatch.context() as patch:
        patch.setattr(keyfolders, "kept", unreadable)
        with pytest.raises(EnvironmentFault):
            folders.recover()
    folders.recover()
    assert not status(served, name_of(manifest))["complete"]


def test_keys_that_this_version_cannot_use_are_refused_without_the_services_paths(serve, tmp_path):
    """As after an upgrade: they stay until they are deleted."""
    with serve() as served:
        name = served.upload()
        manifest = served.service.store.keys / FIRST / name / "server" / "manifest.json"
        manifest.write_bytes(json.dumps(json.loads(manifest.read_bytes()) | {"fingerprint": "0" * 16}).encode())
    with serve() as served:
        posted = served.client.post("/v1/jobs", params={"keys": name}, content=ciphertext(tmp_path))
        for answer in (served.client.get(f"/v1/keys/{name}"), posted):
            assert answer.status_code == 422 and answer.json()["error"].startswith("the key folder"), answer.text
            assert str(served.service.store.folder) not in answer.text
        assert not [line for line in served.log() if line["event"] == "fault"]
        assert served.client.delete(f"/v1/keys/{name}").status_code == 204


def test_keys_serve_every_network_that_needs_no_others(serve, monkeypatch):
    """A service that was started anew with another network keeps what serves it, and says of other keys what lacks."""

    def network(**changes) -> None:
        other = random_weights(replace(SET.architecture, **changes))
        monkeypatch.setattr(serving, "weights", lambda: other)

    with serve() as served:
        name = served.upload()
    network(blocks_per_stage=2)
    with serve() as served:
        assert status(served, name)["complete"]
    network(channels=(8, 16))
    with serve() as served:
        kept, offered = served.client.get(f"/v1/keys/{name}"), put(served, manifest_of(key_files(SET), keys="f" * 16))
        for answer in (kept, offered):
            assert answer.status_code == 422, answer.text
            assert answer.json()["error"].startswith("the key folder lacks keys that this network needs: ")
            assert answer.json()["hint"].startswith("make new keys where the client is")


def test_a_damaged_file_begins_again(served):
    manifest = manifest_of(served.files)
    name = name_of(manifest)
    put(served, manifest)
    data = served.files[LARGE]
    answer = served.send(name, LARGE, 0, b"x" * len(data), 422)
    assert answer.headers["Upload-Offset"] == "0" and "SHA-256" in answer.json()["error"]
    assert status(served, name)["files"][LARGE]["received"] == 0
    served.send(name, LARGE, 0, data)
    assert status(served, name)["files"][LARGE]["received"] == len(data)


def test_more_than_the_manifest_says_is_refused(served):
    manifest = manifest_of(served.files)
    name = name_of(manifest)
    put(served, manifest)
    data = served.files[LARGE]
    served.send(name, LARGE, 0, data + b"x", 413)
    endless = (b"y" * 4096 for _ in range(10_000))  # chunked: nothing says how much it is
    answer = served.client.patch(f"/v1/keys/{name}/files/{LARGE}", content=endless, headers={"Upload-Offset": "0"})
    assert answer.status_code == 413
    received = status(served, name)["files"][LARGE]["received"]
    assert received <= len(data)
    on_disk = sum(path.stat().st_size for path in (served.service.store.uploads / FIRST / name / "parts").iterdir())
    assert on_disk <= len(data)
    served.send(name, "other.key", 0, b"x", 404)


def test_a_manifest_is_bounded_and_named_by_its_digest(served):
    manifest = manifest_of(served.files)
    assert put(served, manifest, "0" * 64).status_code == 422
    assert put(served, b" " * ((1 << 20) + 1)).status_code == 413
    endless = (b" " * 65536 for _ in range(100))
    assert served.client.put(f"/v1/keys/{'0' * 64}", content=endless).status_code == 413
    for name in ("0" * 63, "0" * 65, "A" * 64, "..", "%2e%2e", "%00", "token"):
        assert served.client.put(f"/v1/keys/{name}", content=manifest).status_code in (404, 405), name
    assert not list(served.service.store.uploads.iterdir()) and not list(served.service.store.incoming.iterdir())


def hostile() -> dict[str, bytes]:
    """Manifests that no honest client sends."""
    files = key_files()
    fields = json.loads(manifest_of(files))

    def changed(**more) -> bytes:
        return json.dumps(fields | more).encode()

    def with_file(name: str, size: object = 10, **more) -> bytes:
        return changed(files=fields["files"] | {name: {"bytes": size, "sha256": "0" * 64}}, **more)

    return {
        "no JSON": b"{",
        "a list": b"[]",
        "deep": b"[" * 100_000,
        "another set": changed(set=5),
        "another version of the set": changed(fingerprint="0" * 16),
        "an unknown engine": changed(engine="other"),
        "the client's folder": with_file("secret.key"),
        "a file outside": with_file("../../token"),
        "a file of no name": with_file(""),
        "its own manifest": with_file("manifest.json"),
        "a name with a zero byte": with_file("a\0.key"),
        "a surrogate": with_file("\ud800.key"),
        "a long name": with_file("a" * 300),
        "too large": with_file(LARGE, SET.switching_key_bytes * 2),
        "below zero": with_file(LARGE, -1),
        "empty": with_file(LARGE, 0),
        "half a byte": with_file(LARGE, 1.5),
        "a text as size": with_file(LARGE, "10"),
        "too many files": changed(files={f"{i}.key": {"bytes": 1, "sha256": "0" * 64} for i in range(600)}),
        "no files": changed(files={}),
        "a key missing": changed(files={f: r for f, r in fields["files"].items() if f != LARGE}),
        "a long stage": changed(stages={"9" * 5000: []}, engine="openfhe"),
        "a large number": b'{"set": 1' + b"0" * 5000 + b"}",
        "not UTF-8": b'{"set": "\xff"}',
    }


@pytest.fixture(scope="module")
def manifests() -> dict[str, bytes]:
    return hostile()


def test_hostile_manifests_are_refused(served, manifests):
    for what, manifest in manifests.items():
        answer = put(served, manifest)
        assert answer.status_code == 422, what
        assert answer.json()["error"], what
        assert str(served.service.store.folder) not in answer.text, what
    assert "nothing else" in put(served, manifests["the client's folder"]).json()["hint"]
    assert not list(served.service.store.uploads.iterdir()) and not list(served.service.store.incoming.iterdir())


def test_keys_for_an_openfhe_that_the_machine_does_not_have(served, monkeypatch):
    """The client is told so, and not of a fault that may have gone a minute later."""
    monkeypatch.setattr(keyfiles, "openfhe_version", missing_openfhe)
    answer = put(served, manifest_of(served.files, engine="openfhe"))
    assert answer.status_code == 422
    assert answer.json()["error"] == "this service has no OpenFHE, which these keys are for"
    assert answer.json()["hint"] == f"offer native keys: generate_keys {NUMBER} engine native"


def missing_openfhe() -> str:
    raise EnvironmentFault("this needs OpenFHE")


def test_as_many_key_folders_as_the_quota_says(serve):
    with serve(key_folders=2) as served:
        name = served.upload()
        put(served, manifest_of(key_files(seed=1)))
        third = manifest_of(key_files(seed=2))
        refused = put(served, third)
        assert refused.status_code == 409 and "DELETE" in refused.json()["hint"]
        assert put(served, manifest_of(served.files)).status_code == 200  # what is there already needs no room
        assert served.client.delete(f"/v1/keys/{name}").status_code == 204
        assert served.client.get(f"/v1/keys/{name}").status_code == 404
        assert put(served, third).status_code == 201


def test_keys_for_which_the_disk_has_no_room_are_refused(served, monkeypatch):
    lacking = sum(map(len, served.files.values()))
    kept = served.service.limits.free_bytes
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=kept + lacking - 1))
    answer = put(served, manifest_of(served.files))
    assert answer.status_code == 507 and "Retry-After" in answer.headers and answer.json()["hint"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=kept + lacking))
    assert put(served, manifest_of(served.files)).status_code == 201
    assert put(served, manifest_of(key_files(seed=1))).status_code == 507  # room that is promised to the first


def test_a_disk_that_others_fill_meanwhile_keeps_its_free_bytes(served, monkeypatch):
    manifest = manifest_of(served.files)
    put(served, manifest)
    name, data = name_of(manifest), served.files[LARGE]
    kept = served.service.limits.free_bytes
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=kept + len(data) - 1))
        answer = served.send(name, LARGE, 0, data, 507)
        assert "these keys" in answer.json()["error"] and status(served, name)["files"][LARGE]["received"] == 0
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=kept + len(data)))
        served.send(name, LARGE, 0, data)


def test_gigabytes_that_are_removed_hold_up_nobody(served, monkeypatch):
    """Others may change the store meanwhile."""
    name, changes, free = served.upload(), served.service.store.changes, []
    rmtree = shutil.rmtree

    def try_lock() -> None:
        if changes.acquire(timeout=1):
            free.append(True)
            changes.release()

    def removing(*arguments, **words):
        thread = threading.Thread(target=try_lock)
        thread.start()
        thread.join()
        rmtree(*arguments, **words)

    monkeypatch.setattr(shutil, "rmtree", removing)
    assert served.client.delete(f"/v1/keys/{name}").status_code == 204
    assert free == [True] and not list(served.service.store.incoming.iterdir())


def test_keys_that_jobs_need_are_not_deleted(served, tmp_path):
    FakeWorker.held.clear()
    name = served.upload()
    job = served.post(name, ciphertext(tmp_path))["job"]
    refused = served.client.delete(f"/v1/keys/{name}")
    assert refused.status_code == 409 and "1 jobs" in refused.json()["error"]
    FakeWorker.held.set()
    served.wait(job)
    assert served.client.delete(f"/v1/keys/{name}").status_code == 204
    assert served.client.get(f"/v1/jobs/{job}/result").status_code == 200  # results stay
    served.post(name, ciphertext(tmp_path), 404)
    assert not (served.service.store.keys / FIRST / name).exists()


def test_two_senders_of_one_file_do_not_mix(served):
    """The second goes on where the first was; the first is told so."""
    folders = served.service.folders
    manifest = manifest_of(served.files)
    name = name_of(manifest)
    put(served, manifest)
    data = served.files[LARGE]
    assert folders.append(keys_named(FIRST, name), LARGE, 0, data[:10]) == 10
    assert folders.append(keys_named(FIRST, name), LARGE, 10, data[10:20]) == 20
    served.send(name, LARGE, 10, data[10:20], 409)
    served.send(name, LARGE, 20, data[20:])
    assert status(served, name)["files"][LARGE]["received"] == len(data)


def test_two_that_finish_one_file_at_once(served, monkeypatch):
    """The second finds it settled, while the first reads it."""
    folders, others = served.service.folders, []
    manifest = manifest_of(served.files)
    name = name_of(manifest)
    put(served, manifest)
    folders.append(keys_named(FIRST, name), LARGE, 0, served.files[LARGE])

    def overtaken(path):
        if not others:
            others.append(path)
            folders.finish(keys_named(FIRST, name), LARGE)
        return sha256(path)

    monkeypatch.setattr(keyfolders, "sha256", overtaken)
    assert folders.finish(keys_named(FIRST, name), LARGE) is False
    assert others and status(served, name)["files"][LARGE]["received"] == len(served.files[LARGE])
    assert (served.service.store.uploads / FIRST / name / "server" / LARGE).read_bytes() == served.files[LARGE]


@pytest.mark.parametrize("first", [b"", b"another"])
@pytest.mark.parametrize("count", [10, None])
def test_keys_that_are_deleted_and_sent_again_while_a_file_is_checked(served, monkeypatch, first, count):
    """What was found of the old file says nothing of the new one, of which ``count`` bytes are there, or all.  first:
    that begins the old one otherwise than it should."""
    folders, digests = served.service.folders, []
    manifest = manifest_of(served.files)
    name, data = name_of(manifest), served.files[LARGE]
    put(served, manifest)
    folders.append(keys_named(FIRST, name), LARGE, 0, first + data[len(first) :])

    def overtaken(path):
        digests.append(sha256(path))
        folders.remove(keys_named(FIRST, name))
        put(served, manifest)
        folders.append(keys_named(FIRST, name), LARGE, 0, data[:count])
        return digests[-1]

    monkeypatch.setattr(keyfolders, "sha256", overtaken)
    assert folders.finish(keys_named(FIRST, name), LARGE) is False
    assert len(digests) == 1 and status(served, name)["files"][LARGE]["received"] == len(data[:count])
    assert (served.service.store.uploads / FIRST / name / "parts" / LARGE).read_bytes() == data[:count]


def test_many_who_send_the_same_keys_at_once(served):
    """Each is told where to go on; none gets another answer, and the folder is whole."""
    files = key_files() | {LARGE: bytes(range(256)) * (SET.switching_key_bytes // 256)}
    manifest = manifest_of(files)
    folder = served.service.store.folder.parent / "server"
    folder.mkdir()
    for file, data in (files | {"manifest.json": manifest}).items():
        (folder / file).write_bytes(data)
    with ThreadPoolExecutor(6) as pool:
        names = set(pool.map(lambda _: upload_folder(served.client, folder), range(6)))
    assert names == {name_of(manifest)} and status(served, name_of(manifest))["complete"]
    assert not [line for line in served.log() if line["event"] == "fault"]


def test_the_description_names_the_limits(serve):
    with serve(together=3) as served:
        found = served.client.get("/v1/service").json()
    assert found["set"] == NUMBER and len(found["weights"]) == 16 and found["version"]
    assert found["limits"]["together"] == 3 and found["limits"]["ciphertext_bytes"] > 300_000
