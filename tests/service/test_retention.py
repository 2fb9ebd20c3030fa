"""What is removed after a time: by how long the service has run, whatever the machine's clock is set to."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lowmem_resnet20.service.retention import Retention
from lowmem_resnet20.service.runner import Runner
from serving import Clock, FakeWorker, Served, ciphertext, manifest_of, name_of

DAY = 86400.0
KEPT = 30 * DAY


def retention(folder: Path, clock: Clock) -> Retention:
    return Retention(folder / "ages.json", KEPT, clock)


def test_what_stays_as_it_is_grows_old(tmp_path, clock):
    ages = retention(tmp_path, clock)
    assert ages.outlived({"a": "done"}) == []
    clock.seconds += KEPT - 1
    assert ages.outlived({"a": "done", "b": "done"}) == []
    clock.seconds += 1
    assert ages.outlived({"a": "done", "b": "done"}) == ["a"]
    assert ages.outlived({"b": "done"}) == []  # a was removed; another of its name is young
    assert ages.outlived({"a": "done", "b": "done"}) == []


def test_what_changes_is_young_again(tmp_path, clock):
    ages = retention(tmp_path, clock)
    ages.outlived({"upload": "5 bytes"})
    clock.seconds += KEPT
    assert ages.outlived({"upload": "6 bytes"}) == []


def test_ages_go_on_when_the_service_is_started_again_also_after_the_machine_was(tmp_path, clock):
    ages = retention(tmp_path, clock)
    ages.outlived({"a": "done"})
    clock.seconds += KEPT / 2
    ages.save()
    clock.seconds = 3  # a machine that was started again counts anew
    ages = retention(tmp_path, clock)
    assert ages.outlived({"a": "done"}) == []
    clock.seconds += KEPT / 2
    assert ages.outlived({"a": "done"}) == ["a"]


def test_no_jump_of_the_clock_makes_anything_older_or_younger(tmp_path, clock, monkeypatch):
    """Right after the start, while it runs, and between two runs; of the clock forwards, and then back before 1970."""
    ages = retention(tmp_path, clock)
    present = {"a": "done"}
    for wall in (4e9, 1e9, -1e9):
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        assert ages.outlived(present) == []
        ages.save()
        ages = retention(tmp_path, clock)
        assert ages.outlived(present) == []
    clock.seconds += KEPT
    assert ages.outlived(present) == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff", b"null", b'{"seconds": "x", "since": {}}', b'{"seconds": 1, "since": []}',
        b'{"seconds": 1e400, "since": {"a": ["done", 0]}}', b'{"seconds": NaN, "since": {"a": ["done", 0]}}',
        b'{"seconds": 9e9, "since": {"a": []}}', b'{"seconds": 9e9, "since": {"a": ["done", "x"]}}',
        b'{"seconds": -1, "since": {"a": ["done", -9e9]}}', b"[" * 99999,
    ],
)  # fmt: skip
def test_of_a_damaged_file_all_is_young(tmp_path, clock, content):
    (tmp_path / "ages.json").write_bytes(content)
    ages = retention(tmp_path, clock)
    assert ages.outlived({"a": "done"}) == []
    clock.seconds += KEPT
    assert ages.outlived({"a": "done"}) == ["a"]
    ages.save()
    assert json.loads((tmp_path / "ages.json").read_bytes())["seconds"] == KEPT


# --- of a service ---------------------------------------------------------------------------------------------


def clean_up(served: Served) -> None:
    served.service.runner._cleaned = 0.0
    Runner._clean_up(served.service.runner)


@pytest.fixture
def filled(served, tmp_path) -> tuple[str, str]:
    """Names of a job that is done, and of an upload of which a piece has come."""
    job = served.post(served.upload(), ciphertext(tmp_path))["job"]
    served.wait(job)
    manifest = manifest_of(served.files, keys="fedcba9876543210")
    upload = name_of(manifest)
    assert served.client.put(f"/v1/keys/{upload}", content=manifest).status_code == 201
    file, data = next(iter(served.files.items()))
    served.send(upload, file, 0, data[:10])
    return job, upload


def statuses(served: Served, job: str, upload: str) -> tuple[int, int]:
    return (
        served.client.get(f"/v1/jobs/{job}/result").status_code,
        served.client.get(f"/v1/keys/{upload}").status_code,
    )


def test_a_clock_set_right_removes_no_result_and_no_keys(served, filled, monkeypatch):
    """As on a machine without a battery, which learns what day it is when the service has run for a while."""
    assert served.service.retention._monotonic is time.monotonic  # which nobody can set
    clean_up(served)
    now = time.time()
    for years in (50, -50):
        monkeypatch.setattr(time, "time", lambda years=years: now + years * 365 * DAY)
        clean_up(served)
        assert statuses(served, *filled) == (200, 200)
    assert not [line for line in served.log() if line["event"] in ("cleaned_up", "runner.failed")]


def test_results_and_uploads_are_removed_after_their_time(served, filled, monkeypatch):
    clean_up(served)
    clock = served.service.retention._monotonic
    monkeypatch.setattr(served.service.retention, "_monotonic", lambda: clock() + KEPT)
    clean_up(served)
    assert statuses(served, *filled) == (404, 404)
    assert [(line["jobs"], line["key_folders"]) for line in served.log() if line["event"] == "cleaned_up"] == [(1, 1)]
    assert list(served.service.store.jobs.iterdir()) == list(served.service.store.uploads.iterdir()) == []
    assert served.service.folders.count() == {"complete": 1, "uploading": 0}


def test_an_upload_that_goes_on_is_not_removed(served, filled, monkeypatch):
    clean_up(served)
    clock = served.service.retention._monotonic
    monkeypatch.setattr(served.service.retention, "_monotonic", lambda: clock() + KEPT)
    file, data = next(iter(served.files.items()))
    served.send(filled[1], file, 10, data[10:20])
    clean_up(served)
    assert statuses(served, *filled) == (404, 200)


def test_ages_are_kept_when_the_service_ends(serve, tmp_path):
    with serve() as served:
        job = served.post(served.upload(), ciphertext(tmp_path))["job"]
        served.wait(job)
        clean_up(served)
        FakeWorker.held.set()
    assert [name for name in json.loads((tmp_path / "store" / "ages.json").read_bytes())["since"]] == [job]


def test_a_disk_that_cannot_take_the_ages_stops_no_cleaning(served, filled, monkeypatch):
    clean_up(served)
    clock = served.service.retention._monotonic
    monkeypatch.setattr(served.service.retention, "_monotonic", lambda: clock() + KEPT)
    monkeypatch.setattr(served.service.retention, "_path", served.service.store.folder / "none" / "ages.json")
    with pytest.raises(Exception, match="cannot"):
        clean_up(served)
    assert statuses(served, *filled) == (404, 404)
