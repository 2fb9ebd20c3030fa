"""A job's events: its state now, the present run's progress so far, then both as they change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from lowmem_resnet20.service import runner, stream
from processes import until
from serving import FakeWorker, Served, ciphertext


def events(served: Served, job: str) -> Iterator[tuple[str, int, object]]:
    """Kind, id and data of each event; comments as kind ""."""
    with served.client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line.startswith(":"):
                yield "", 0, line
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields["event"], int(fields["id"]), json.loads(fields["data"])
                fields = {}


PROGRESS = [
    ["start", "evaluating"],
    ["expect", [["conv1", "convolution", "convolution", 1.0]]],
    ["step", "conv1", "convolution"],
]


def test_from_waiting_to_done(served, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    FakeWorker.held.clear()
    name = served.upload()
    first = served.post(name, ciphertext(tmp_path, b"first"))["job"]
    served.wait(first, "running")
    job = served.post(name, ciphertext(tmp_path, b"second"))["job"]
    seen = []
    for kind, number, data in events(served, job):
        seen.append((kind, data["state"] if kind == "state" else data))
        assert number == len(seen)
        if len(seen) == 1:  # the next begins when this one is watched
            served.client.delete(f"/v1/jobs/{first}")
        if data == PROGRESS[-1]:
            FakeWorker.held.set()
    *rest, last = seen
    assert rest[:2] == [("state", "waiting"), ("state", "running")] and last == ("state", "done")
    progress = [data for kind, data in rest if kind == "progress"]
    assert progress[:3] == PROGRESS and progress[3][0] == "ended" and progress[3][1] > 0 and progress[4:] == [["close"]]


def test_who_comes_late_is_told_what_was(served, tmp_path):
    """And who comes again is told it again: a connection that broke loses nothing."""
    FakeWorker.held.clear()
    job = served.post(served.upload(), ciphertext(tmp_path))["job"]
    served.wait(job, "running")
    for _ in range(2):
        told = []
        for kind, _, data in events(served, job):
            told.append((kind, data["state"] if kind == "state" else data))
            if len(told) == 4:
                break
        assert told == [("state", "running"), *(("progress", event) for event in PROGRESS)]
    FakeWorker.held.set()
    served.wait(job)
    assert [(kind, data["state"]) for kind, _, data in events(served, job)] == [("state", "done")]


def test_a_run_that_died_is_followed_by_the_next(served, tmp_path):
    """Each is there to be seen for ``_SIGNAL_SECONDS`` after its end, also the second, which dies at once."""
    FakeWorker.dying = (b"poison",)
    FakeWorker.held.clear()
    job = served.post(served.upload(), ciphertext(tmp_path, b"poison"))["job"]
    seen = []
    for kind, _, data in events(served, job):
        seen.append(data["state"] if kind == "state" else data[0])
        if seen[-1] == "step":
            FakeWorker.held.set()
    assert seen.count("start") == 2 and seen[-1] == "failed"


def test_a_heartbeat_keeps_the_connection(served, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    FakeWorker.held.clear()
    job = served.post(served.upload(), ciphertext(tmp_path))["job"]
    beats = 0
    for kind, _, _data in events(served, job):
        beats += kind == ""
        if beats == 3:
            break
    assert beats == 3


@pytest.mark.parametrize("what", ["cancel", "stop"])
def test_a_stream_ends_with_its_job_or_its_service(served, tmp_path, what):
    FakeWorker.held.clear()
    job = served.post(served.upload(), ciphertext(tmp_path))["job"]
    served.wait(job, "running")
    for kind, _, last in events(served, job):  # noqa: B007
        if last == PROGRESS[-1] and what == "cancel":
            served.service.cancel(job)
        elif last == PROGRESS[-1]:
            served.service.stop()
    if what == "cancel":
        assert (kind, last["state"]) == ("state", "cancelled")
    else:
        assert last == PROGRESS[-1]


def test_many_watch_at_once(served, tmp_path):
    FakeWorker.held.clear()
    name = served.upload()
    jobs = [served.post(name, ciphertext(tmp_path, b"%d" % i))["job"] for i in range(10)]
    ends: dict[int, str] = {}

    def watch(i: int) -> None:
        for kind, _, data in events(served, jobs[i % 10]):
            if kind == "state":
                ends[i] = data["state"]

    threads = [threading.Thread(target=watch, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    FakeWorker.held.set()
    for thread in threads:
        thread.join(30)
    assert ends == dict.fromkeys(range(30), "done")
    until(lambda: not served.service.feed._listeners and not served.service.feed._runs, 10)
