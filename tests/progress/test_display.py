"""The three displays keep the same times and show what they should, where they should."""

from __future__ import annotations

import io
import re

import pytest

from lowmem_resnet20.progress.display import (
    LineProgress,
    RichProgress,
    SilentProgress,
    Step,
    format_bytes,
    format_seconds,
    make_progress,
)


class Clock:
    """Says 1 s more each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress):
    with progress:
        progress.start("evaluating")
        progress.step("layer1", "block 0")
        progress.step("layer1", "block 1")
        progress.message("level: 3")
        progress.message("half way [bold]")
    return progress


@pytest.mark.parametrize("display", [SilentProgress, LineProgress, RichProgress])
def test_all_keep_the_times(display):
    progress = work(display() if display is SilentProgress else display(io.StringIO()))
    assert [(stage, name) for stage, name, *_ in progress.times] == [("layer1", "block 0"), ("layer1", "block 1")]
    assert all(seconds >= 0 for _, _, seconds, _ in progress.times)
    progress.close()
    assert len(progress.times) == 2


def test_times_are_measured_from_step_to_step():
    progress = SilentProgress(Clock())
    progress.step("a", "one")
    progress.step("a", "two")
    progress.close()
    assert [step[:3] for step in progress.times] == [("a", "one", 1.0), ("a", "two", 1.0)]
    assert all(step.resident_bytes > 1 << 20 for step in progress.times)


def test_times_cannot_be_changed_from_outside():
    progress = work(SilentProgress())
    progress.times.clear()
    assert len(progress.times) == 2


def test_lines():
    stream = io.StringIO()
    work(LineProgress(stream))
    title, first, note, message, second = stream.getvalue().splitlines()
    assert title == "evaluating"
    assert re.fullmatch(r"\[ +\d+\.\d s\] layer1 +block 0 +\d+\.\d\d s +(\d+ MiB|\d+\.\d\d GiB)", first)
    assert note == "level: 3"
    assert message == "half way [bold]"
    assert "block 1" in second


def test_lines_make_room_for_the_longest_stage_that_is_expected():
    """Of a group's pictures, for one; the columns after it begin in one place."""
    stream, stages = io.StringIO(), ["keys", "group 1/2 layer1, pictures 1-2"]
    progress = LineProgress(stream)
    progress.start("evaluating")
    progress.expect([Step(stage, "conv", "") for stage in stages])
    for stage in stages:
        progress.step(stage, "conv")
    progress.close()
    _, *lines = stream.getvalue().splitlines()
    assert len(lines) == 2 and len({line.index(" conv") for line in lines}) == 1


def test_the_live_line_shows_and_goes():
    stream = Terminal()
    progress = RichProgress(stream)
    progress.start("evaluating")
    progress.step("layer1", "block 0")
    shown = stream.getvalue()
    assert "layer1 · block 0 · 0.0 s · " in shown
    assert "\x1b[?25l" in shown
    progress.message("a [remark]")
    progress.close()
    assert "a [remark]" in stream.getvalue()
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("block 0")


def test_the_right_display_is_picked(monkeypatch):
    pipe, terminal = io.StringIO(), Terminal()
    for name in ("dumb", "unknown"):
        monkeypatch.setenv("TERM", name)
        assert type(make_progress(0, terminal)) is SilentProgress
    monkeypatch.setenv("TERM", "xterm")
    assert type(make_progress(-1, terminal)) is SilentProgress
    assert type(make_progress(0, pipe)) is SilentProgress
    assert type(make_progress(0, terminal)) is RichProgress
    for verbose in (1, 2):
        assert type(make_progress(verbose, pipe)) is LineProgress
        assert type(make_progress(verbose, terminal)) is LineProgress


def test_silence():
    stream = io.StringIO()
    work(make_progress(0, stream))
    assert stream.getvalue() == ""


def test_formats():
    assert format_bytes(10_523_000_000) == "9.80 GiB"
    assert format_bytes(5 << 20) == "5 MiB"
    assert format_seconds(12.34) == "12.3 s"
    assert format_seconds(59.99) == "60.0 s"
    assert format_seconds(512.34) == "8 min 32 s"
    assert format_seconds(3599.6) == "1 h 0 min" and format_seconds(18720) == "5 h 12 min"


class SetClock:
    """Says what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_is_estimated_from_steps_of_the_same_kind():
    clock = SetClock()
    progress = SilentProgress(clock)
    progress.start("evaluating")
    progress.expect([Step("a", "load", "loading")] + [Step("b", f"{i} refresh", "refresh", 1 + i) for i in range(4)])
    progress.step("keys", "checking")  # not among those expected
    assert progress.rest is None
    clock.now = 5
    progress.step("a", "load")
    clock.now = 8
    progress.step("b", "0 refresh")
    assert progress.rest is None  # no refresh has been seen
    clock.now = 10
    progress.step("b", "1 refresh")
    assert progress.rest == 2 * (2 + 3 + 4)
    clock.now = 11
    assert progress.rest == 2 * (2 + 3 + 4) - 1
    clock.now = 16
    progress.step("b", "2 refresh")  # took 3 s for each of 2 units
    assert progress.rest == 3 * (3 + 4)
    progress.step("b", "3 refresh")
    progress.close()
    assert progress.rest is None


def test_the_rest_is_shown():
    clock, stream = SetClock(), io.StringIO()
    with LineProgress(stream, clock) as progress:
        progress.start("evaluating")
        progress.expect([Step("b", name, "refresh") for name in ("one", "two", "three")])
        for name in ("one", "two", "three"):
            progress.step("b", name)
            clock.now += 60
    assert ["min 0 s left" in line for line in stream.getvalue().splitlines()] == [False, True, True, False]


@pytest.mark.parametrize("display", [RichProgress, LineProgress])
@pytest.mark.parametrize("asked", [1, 2])
def test_the_rest_may_be_gone_while_it_is_shown(display, asked):
    """The live line is drawn in a thread of its own: here other work begins as it asks the clock, now or later."""

    class Restarting(SetClock):
        waits = 0

        def __call__(self) -> float:
            self.waits -= 1
            if self.waits == 0:
                progress.start("anew")
            return self.now

    clock, stream = Restarting(), Terminal()
    with display(stream, clock) as progress:
        progress.start("evaluating")
        progress.expect([Step("b", name, "refresh") for name in ("one", "two", "three")])
        progress.step("b", "one")
        clock.now += 60
        progress.step("b", "two")
        assert progress.rest == 120
        clock.waits = asked
        if display is RichProgress:
            progress._line()
        else:
            progress._show_step("b", "two", 1.0)
        assert clock.waits <= 0  # it was asked as often
        clock.waits = 0
