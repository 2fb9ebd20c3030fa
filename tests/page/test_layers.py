"""The steps of the network as the page shows them: which have ended, which one goes on, and for how long yet."""

from __future__ import annotations

import io

import openpage

from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.page.layers import LayerProgress, steps_of
from lowmem_resnet20.page.session import Run
from lowmem_resnet20.progress.display import LineProgress, SilentProgress, Step

STEPS = [("input", "conv1"), ("input", "conv1 refresh"), ("layer1", "layer1.0.conv1")]


def watched(also=None):
    changes = []
    progress = LayerProgress(STEPS, lambda run: changes.append(run.as_json()), also or SilentProgress())
    run = Run(1, [])
    progress.follow(run)
    return progress, run, changes


def test_all_steps_of_the_network_are_known_before():
    set_ = openpage.SETS[6]
    steps = steps_of(set_)
    assert steps == [step for part in plan(set_).steps.values() for step in part]
    assert steps[0] == ("input", "conv1") and steps[-1] == ("head", "pool and fc")
    together = {stage for stage, _ in steps_of(openpage.SETS[7])}
    assert {stage.partition(",")[0] for stage in together} == {"input", "layer1", "layer2", "head"}


def test_steps_end_one_after_the_other():
    progress, run, changes = watched()
    progress.start("evaluating")
    progress.step("keys", "checking")
    assert (run.now, run.doing, run.done) == (None, "keys: checking", frozenset())
    for stage, name in STEPS:
        progress.step(stage, name)
    assert (run.now, run.doing, run.done) == (2, "layer1.0.conv1", {0, 1})
    progress.close()
    assert run.done == {0, 1, 2}
    assert [change["now"] for change in changes] == [None, 0, 1, 2]


def test_what_an_evaluation_that_was_killed_had_done_counts():
    progress, run, _ = watched()
    progress.expect([Step("keys", "upload", "upload")])
    assert run.done == frozenset()
    progress.expect([Step("keys", "rotation keys", "loading"), Step("layer1", "layer1.0.conv1", "conv1")])
    assert run.done == {0, 1}


def test_the_labels_of_pictures_that_are_evaluated_together_elsewhere_do_not_matter():
    progress, run, _ = watched()
    progress.step("group 2/3 input", "conv1")
    progress.step("10/12 input", "conv1 refresh")
    assert (run.now, run.done) == (1, {0})


def test_of_the_second_picture_the_rest_is_known_from_the_start():
    progress, first, _ = watched()
    coming = [Step(stage, name, name.rpartition(" ")[2]) for stage, name in STEPS]
    progress.expect(coming)
    assert first.as_json()["rest"] is None
    for stage, name in STEPS:
        progress.step(stage, name)
    progress.close()
    second = Run(2, [])
    progress.follow(second)
    progress.start("evaluating")
    progress.expect(coming)
    assert second.as_json()["rest"] is not None
    assert first.as_json()["rest"] is None  # it has ended
    progress.follow(None)
    progress.step("late", "event")
    assert second.now is None and second.as_json()["rest"] is None


def test_the_terminal_can_show_the_same():
    stream = io.StringIO()
    progress, run, _ = watched(LineProgress(stream))
    progress.start("evaluating")
    progress.step("input", "conv1")
    progress.message("a note")
    assert run.doing == "a note"
    progress.pass_on("a complaint\n", stream)
    assert run.doing == "a complaint"
    progress.close()
    assert [word in stream.getvalue() for word in ("evaluating", "conv1", "a note", "a complaint\n")] == [True] * 4
