"""What the scripts that look inside an evaluation compute and write, on small networks."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from miniature import ARCHITECTURE, INSECURE_SET, random_picture, random_weights

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from lowmem_resnet20 import client, keygeneration, server
from lowmem_resnet20.inspection import LayerPrecision
from lowmem_resnet20.job import Job
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.serverprocess import ServerRun
from lowmem_resnet20.terminal.progress import Ended, SilentProgress

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import operations
import precision
import precisionreport
import ranges
import rotations
from pictureset import Pictures


def inspection():
    """Made-up measurements of one block; the layer's name tells its kind."""
    numbers = (-1.0, 2.0, 1e-2, 5e-3, 1e-3, 2e-3, 7.6, 11.0, 1e-4)
    names = ("conv1", "conv1.refresh", "conv1.relu")
    layers = [LayerPrecision(name, *numbers, bootstrap=name.endswith("refresh")) for name in names]
    steps = [Ended("keys", "checking", 3.0, 1 << 30), Ended("input", "conv1", 1.0, 1 << 30)]
    steps += [Ended("input", "conv1 refresh", 9.0, 5 << 30), Ended("head", "pool and fc", 1.0, 4 << 30)]
    run = ServerRun(15.0, 6 << 30, [], steps)
    plain = np.linspace(-1, 1, 10)
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(0))
    return precisionreport.Inspection(
        parameter_set(6), Path("a<b>.png"), pixels, plain, plain + 0.01 * np.arange(10), layers, run
    )


def test_the_report_holds_everything_in_itself(tmp_path):
    found = inspection()
    precisionreport.write_plot(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    precisionreport.write_report(found, tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert page.count('src="data:image/png;base64,') == len(precisionreport.PANELS)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "a&lt;b&gt;.png" in page and "<b>.png" not in page
    for layer in found.layers:
        assert f"<td>{layer.name}</td>" in page
    assert "log2 QP" in page and "+0.0900" in page


def test_the_precision_table():
    rows = precision.table(inspection())
    assert list(rows.columns[0].cells) == ["conv1", "conv1.refresh", "conv1.relu"]
    assert list(rows.columns[3].cells) == ["1.0e-02"] * 3
    assert inspection().worst_logit == pytest.approx(0.09)


def test_every_step_of_the_server_has_a_kind():
    for set_ in PARAMETER_SETS.values():
        kinds = [precisionreport.kind_of_step(*step) for steps in plan(set_).steps.values() for step in steps]
        assert kinds.count("refresh") == sum(plan(set_).refreshes.values())
        assert kinds.count("ReLU") == (0 if set_.refresh.functional else len(set_.architecture.relu_channels()))
        assert kinds.count("other") == 3


def test_ranges(tmp_path):
    weights, random = random_weights(ARCHITECTURE), np.random.default_rng(3)
    x = np.stack([random_picture(ARCHITECTURE, random) for _ in range(3)])
    found = ranges.measure(weights, Pictures(x, np.zeros(3, int), ["a", "b", "c"]))
    from lowmem_resnet20.model.plain import PlainNetwork

    expected = PlainNetwork(weights).layers(x)["conv1"]
    conv1 = found["conv1"]
    assert (conv1.least, conv1.largest) == (expected.min(), expected.max())
    assert conv1.rms == pytest.approx(np.sqrt((expected**2).mean()))
    assert conv1.histogram.sum() == expected.size == conv1.count
    units = scale(weights, PARAMETER_SETS[1].refresh).units["conv1"]  # in encryption's unit the range ends at 1
    relative = np.abs(expected) / units[:, None, None]
    assert conv1.reached == pytest.approx(relative.max())
    assert len(ranges.bars(conv1.histogram)) == 25
    ranges.plot(found, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000


@pytest.mark.parametrize("number", PARAMETER_SETS)
def test_every_rotation_key_has_a_purpose(number):
    set_ = parameter_set(number)
    purposes = rotations.explain(set_)
    needed, _ = keygeneration._rotations_by_stage(set_)
    assert {stage: frozenset(steps) for stage, steps in purposes.items()} == needed
    assert all(why for steps in purposes.values() for why in steps.values())
    for stage, width in ((1, 32), (2, 16), (3, 8)):  # the five of a stage's convolutions
        five = {1, -1, width, -width, -width * width}
        used = {s for s, why in purposes[stage].items() if any(w.startswith("convolution:") for w in why)}
        assert {step % set_.full_slots for step in five} <= used


def test_operations_are_counted(tmp_path):
    set_, weights = INSECURE_SET, random_weights(ARCHITECTURE)
    client.generate_keys(set_, tmp_path / "exp1", SilentProgress())
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(9))
    job = Job(tmp_path / "p.ct", tmp_path / "r.ct")
    client.encrypt_picture(tmp_path / "exp1", set_, pixels, weights, job.ciphertext, "picture")
    timed = operations.TimedEvaluator
    timed.seconds.clear()
    timed.calls.clear()
    progress = SilentProgress()
    server.evaluate(tmp_path / "exp1", set_, [job], weights, progress, evaluator_type=timed)
    progress.close()  # the last step ends here
    assert timed.calls["refresh"] == sum(plan(set_).refreshes.values())
    assert timed.calls["loading"] == 3
    assert timed.calls["encoding"] > timed.calls["products"] > 0
    assert all(seconds >= 0 for seconds in timed.seconds.values())
    assert sum(timed.seconds.values()) < sum(step.seconds for step in progress.times)
