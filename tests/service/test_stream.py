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


def events(served: Served, job: str, last_id: str = "") -> Iterator[tuple[str, str, object]]:
    """Kind, id and data of each event; comments as kind ""."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with served.client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line.startswith(":"):
                yield "", "", line
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
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
    seen, ids = [], []
    for kind, id_, data in events(served, job):
        seen.append((kind, data["state"] if kind == "state" else data))
        ids += [id_] if kind == "progress" else []
        assert kind == "progress" or not id_
        if len(seen) == 1:  # the next begins when this one is watched
            served.client.delete(f"/v1/jobs/{first}")
        if data == PROGRESS[-1]:
            FakeWorker.held.set()
    *rest, last = seen
    assert rest[:2] == [("state", "waiting"), ("state", "running")] and last == ("state", "done")
    progress = [data for kind, data in rest if kind == "progress"]
    run, _, _ = ids[0].rpartition("-")
    assert ids == [f"{run}-{number}" for number in range(1, len(progress) + 1)]
    assert progress[:3] == PROGRESS and progress[3][0] == "ended" and progress[3][1] > 0 and progress[4:] == [["close"]]


def heard(served: Served, job: str, count: int, last_id: str = "") -> tuple[list[object], str]:
    """The state, and so many events of progress; and the id of the last one."""
    told: list[object] = []
    for _, id_, data in events(served, job, last_id):
        told.append(data["state"] if isinstance(data, dict) else data)
        if len(told) == 1 + count:
            return told, id_
    raise AssertionError(told)


def test_who_comes_late_is_told_what_was(served, tmp_path):
    """And who comes again, what comes after the last that was heard: of this job, or another of the same process."""
    FakeWorker.held.clear()
    name = served.upload()
    first = served.post(name, ciphertext(tmp_path))["job"]
    served.wait(first, "running")
    one, two = (served.post(name, ciphertext(tmp_path, b"%d" % i))["job"] for i in range(2))
    told, last_id = heard(served, first, 3)
    assert told == ["running", *PROGRESS]
    assert heard(served, first, 1, last_id.replace("-3", "-2"))[0] == ["running", PROGRESS[2]]
    for unknown in ("", "x", "-", last_id.replace("-3", "-x"), f"{'0' * 16}-2", "2", last_id.replace("-3", "-0")):
        assert heard(served, first, 3, unknown)[0] == told
    served.client.delete(f"/v1/jobs/{first}")  # the others are evaluated together
    served.wait(one, "running")
    _, last_id = heard(served, one, 2)
    assert heard(served, two, 1, last_id)[0] == ["running", PROGRESS[2]]
    FakeWorker.held.set()
    served.wait(two)
    assert [(kind, data["state"]) for kind, _, data in events(served, two, last_id)] == [("state", "done")]


def test_an_id_of_what_was_not_told_yet_leaves_nothing_out(served, tmp_path):
    FakeWorker.held.clear()
    job = served.post(served.upload(), ciphertext(tmp_path))["job"]
    served.wait(job, "running")
    _, last_id = heard(served, job, 3)
    stream = events(served, job, last_id.replace("-3", "-999999999"))
    assert next(stream)[0] == "state"
    FakeWorker.held.set()
    later = [data for kind, _, data in stream if kind == "progress"]
    assert later[-1] == ["close"] and PROGRESS[-1] not in later


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
            served.service.cancel(served.service.queue.get(job))
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
        thread.join(300)
    assert ends == dict.fromkeys(range(30), "done")
    until(lambda: not served.service.feed._listeners and not served.service.feed._runs)
