"""Progress of a service: shown as it comes, once for each run, whatever is told again."""

from __future__ import annotations

import json
import threading

import pytest

from fakeservice import TOKEN, FakeService
from lowmem_resnet20.errors import ServerError
from lowmem_resnet20.progress.display import SilentProgress, Step
from lowmem_resnet20.remote import replay as module
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import LONGEST_LINE, Connection
from lowmem_resnet20.remote.replay import Replay, events

START, CHECK, LOAD = ["start", "evaluating"], ["step", "keys", "checking"], ["step", "keys", "loading"]
A, B, MORE = ["step", "layer1", "a"], ["step", "layer1", "b"], ["ended", 7]


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


def tell(replay: Replay, *told: list) -> None:
    for event in told:
        replay.event(json.dumps(event))


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def replay(told):
    return Replay(told)


def test_what_is_told_again_is_not_shown_again(told, replay):
    for first in range(4):
        replay.connect()
        tell(replay, *[START, CHECK, A, B][: first + 1])
    assert told.said == [START, CHECK, A, B]


def test_another_run_is_shown_from_its_beginning(told, replay):
    replay.connect()
    tell(replay, START, CHECK, A, B)
    replay.connect()
    tell(replay, START, CHECK, LOAD, B)
    assert told.said == [START, CHECK, A, B, START, CHECK, LOAD, B]
    replay.connect()
    tell(replay, START, CHECK, LOAD, B, A)
    assert told.said[8:] == [A]


def test_a_run_that_waited_before_is_another_however_alike(told, replay):
    replay.connect()
    tell(replay, START, CHECK)
    replay.forget()
    tell(replay, START, CHECK)
    assert told.said == [START, CHECK] * 2


def test_the_display_is_left_open(told, replay):
    replay.connect()
    tell(replay, START, A, ["close"], MORE)
    assert told.times == [] and told.resident() == 7


def test_steps_that_were_told_after_they_had_ended_give_no_pace(told, replay, monkeypatch):
    clock = iter(range(0, 1000, 5))
    replay.connect()
    steps = [Step("layer1", name, "block") for name in "abcd"]
    tell(replay, ["expect", [[s.stage, s.name, s.kind, s.size] for s in steps]], A, B)
    assert told.rest is None  # two steps came at once
    monkeypatch.setattr(module.time, "monotonic", lambda: replay._connected + next(clock) + 5)
    told.now = 3.0
    tell(replay, ["step", "layer1", "c"])
    assert told.rest == 6.0


def test_more_events_than_any_run_has(told, replay, monkeypatch):
    monkeypatch.setattr(module, "_MOST_EVENTS", 10)
    replay.connect()
    with pytest.raises(ServerError):
        tell(replay, *[A] * 11)


def test_events_in_a_stream():
    lines = [
        ": a comment", "id: 1", "event: state", "data: {}", "", "", "data:one", "data: two", "", "event: x", "",
        "retry: 7", "data", "", "event: cut", "data: short",
    ]  # fmt: skip
    assert list(events(lines)) == [("state", "{}"), ("message", "one\ntwo"), ("message", "")]


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
        assert first.wait(20)
        watcher.join()
        service.held.set()
        assert len(list(lines)) > 20
