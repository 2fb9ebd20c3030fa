"""Progress of another process is shown as one's own: the same steps, memory, messages, and a rest estimated here."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowmem_resnet20.progress.display import LineProgress, RichProgress, SilentProgress, Step
from lowmem_resnet20.progress.relay import RelayProgress, replay


def relayed(progress) -> list[list]:
    """The events of some work, as they come through JSON, replayed on ``progress``."""
    events = []

    def write(event):
        events.append(json.loads(json.dumps(event)))
        replay(events[-1], progress)

    with RelayProgress(write) as there:
        there.start("evaluating")
        there.expect([Step("layer1", f"block {i}", "block", 2.0) for i in range(3)])
        for i in range(3):
            there.step("layer1", f"block {i}")
        there.message("level: 3")
    return events


def test_every_call_is_an_event():
    names = [event[0] for event in relayed(SilentProgress())]
    assert names == ["start", "expect", "step", "ended", "step", "ended", "step", "message", "ended", "close"]


def test_the_same_steps_are_shown_with_memory_of_the_other_and_rest():
    stream = io.StringIO()
    progress = LineProgress(stream)
    relayed(progress)
    assert [step[:2] for step in progress.times] == [("layer1", f"block {i}") for i in range(3)]
    title, first, *rest = stream.getvalue().splitlines()
    assert title == "evaluating" and re.search(r"block 0 .* [MG]iB  0\.0 s left$", first), first
    assert "level: 3" in rest


def test_memory_is_the_others():
    progress = SilentProgress()
    for event in (["step", "a", "b"], ["ended", 7 << 30], ["close"]):
        replay(event, progress)
    assert progress.times[0].resident_bytes == 7 << 30


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
            st.sampled_from(["start", "expect", "step", "ended", "message", "close"]),
        ),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=8,
    )
)  # fmt: skip
def test_what_is_no_event_is_passed_over(event):
    progress = LineProgress(io.StringIO())
    replay(event, progress)
    assert progress.rest is None or progress.rest >= 0
    progress.close()


@pytest.mark.parametrize("live", [True, False])
def test_what_someone_else_says_does_not_disturb_the_live_line(live):
    """It is written above the line that is then drawn again; without a live line as it is."""
    terminal = io.StringIO()
    progress = RichProgress(terminal)
    if live:
        progress.start("evaluating")
    progress.pass_on("a [complaint]\n", terminal)
    progress.close()
    text = terminal.getvalue()
    assert "a [complaint]\n" in text
    assert ("evaluating" in text.rpartition("complaint")[2]) == live


def test_what_is_relayed_twice_keeps_its_memory():
    """A service passes on what its worker's process takes, not what it takes itself."""
    events = []
    passing_on = RelayProgress(events.append)
    for event in (["start", "s"], ["step", "layer1", "a"], ["ended", 12345], ["step", "layer1", "b"], ["close"]):
        replay(event, passing_on)
    assert events == [
        ["start", "s"],
        ["step", "layer1", "a"],
        ["ended", 12345],
        ["step", "layer1", "b"],
        ["ended", 12345],
        ["close"],
    ]
