"""Events of a service: its progress is shown as it comes, and what was heard last is what it is asked to go on from."""

from __future__ import annotations

import json
import threading

import pytest

from fakeservice import EVENTS, TOKEN, FakeService
from lowmem_resnet20.errors import ServerError
from lowmem_resnet20.progress.display import SilentProgress, Step
from lowmem_resnet20.remote import events as module
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import LONGEST_LINE, Connection
from lowmem_resnet20.remote.events import Event, ServiceProgress, events

START, A, B, MORE = ["start", "evaluating"], ["step", "layer1", "a"], ["step", "layer1", "b"], ["ended", 7]


class Told(SilentProgress):
    """Remembers what it is told; its clock is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(lambda: self.now)
        self.said: list[list[str]] = []

    def start(self, title):
        super().start(title)
        self.said.append(["start", title])

    def step(self, stage, name):
        super().step(stage, name)
        self.said.append(["step", stage, name])


def tell(progress: ServiceProgress, *told: list) -> None:
    for event in told:
        progress.show(Event("progress", json.dumps(event)))


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def progress(told):
    progress = ServiceProgress(told)
    progress.connect()
    return progress


def test_what_was_heard_last_is_asked_on_from(told, progress):
    """Also where it could not be shown, and on the next connection."""
    assert progress.last_id == ""
    progress.show(Event("progress", json.dumps(START), "run-1"))
    progress.show(Event("progress", "no json", "run-2"))
    progress.show(Event("progress", json.dumps(A)))
    progress.connect()
    assert progress.last_id == "run-2" and told.said == [START, A]


@pytest.mark.parametrize("last", ["", "run-2", "run-9", "another-2"])
def test_a_service_is_asked_for_what_comes_after(last):
    with FakeService() as service, Connection(Address(service.url, True, TOKEN), print) as connection:
        service.jobs["x"] = {"state": "waiting", "ciphertext": b""}
        heard = [event for event in events(connection.lines("/v1/jobs/x/events", last)) if event.name == "progress"]
    first = {"run-2": 2, "run-9": 9}.get(last, 0)
    assert [json.loads(event.data) for event in heard] == list(EVENTS[first:])
    assert [event.id for event in heard] == [f"run-{number}" for number in range(first + 1, len(EVENTS) + 1)]


def test_the_display_is_left_open(told, progress):
    tell(progress, START, A, ["close"], MORE)
    assert told.times == [] and told.resident() == 7


def test_steps_that_were_told_after_they_had_ended_give_no_pace(told, progress, monkeypatch):
    clock = iter(range(0, 1000, 5))
    steps = [Step("layer1", name, "block") for name in "abcd"]
    tell(progress, ["expect", [[s.stage, s.name, s.kind, s.size] for s in steps]], A, B)
    assert told.rest is None  # two steps came at once
    monkeypatch.setattr(module.time, "monotonic", lambda: progress._connected + next(clock) + 5)
    told.now = 3.0
    tell(progress, ["step", "layer1", "c"])
    assert told.rest == 6.0


def test_more_events_than_any_run_has(told, progress, monkeypatch):
    monkeypatch.setattr(module, "_MOST_EVENTS", 10)
    with pytest.raises(ServerError):
        tell(progress, *[A] * 11)


def test_events_in_a_stream():
    lines = [
        ": a comment", "id: 1", "event: state", "data: {}", "", "", "data:one", "data: two", "", "event: x", "",
        "retry: 7", "data", "", "event: cut", "data: short",
    ]  # fmt: skip
    assert list(events(lines)) == [Event("state", "{}", "1"), Event("message", "one\ntwo"), Event("message", "")]


@pytest.mark.parametrize("id_", ["", "a b", "a\rX-Header: 1", "\0", "\x7f", "\u00e9", "x" * 101])
def test_an_id_that_is_no_header_is_none(id_):
    assert list(events([f"id: {id_}", "data: 1", ""])) == [Event("message", "1")]


def test_an_event_without_end():
    with pytest.raises(ServerError):
        list(events(["data: " + "x" * 1000] * (LONGEST_LINE // 1000 + 1)))


def test_lines_come_as_they_are_said():
    """None waits for more to follow."""
    with FakeService() as service, Connection(Address(service.url, True, TOKEN), print) as connection:
        first = threading.Event()
        service.jobs["x"] = {"state": "waiting", "ciphertext": b""}
        service.held.clear()
        lines = connection.lines("/v1/jobs/x/events")
        watcher = threading.Thread(target=lambda: (next(lines), first.set()), daemon=True)
        watcher.start()
        assert first.wait(300)
        watcher.join()
        service.held.set()
        assert len(list(lines)) > 20
