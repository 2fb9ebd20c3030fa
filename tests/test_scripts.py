"""What the scripts that look inside an evaluation compute and write, on small networks."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from miniature import (
    ARCHITECTURE,
    INSECURE_SHORT_NATIVE_SET,
    INSECURE_SHORT_SET,
    random_picture,
    random_weights,
)

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from lowmem_resnet20 import client, keygeneration, server
from lowmem_resnet20.inspection import LayerPrecision
from lowmem_resnet20.native.keyplan import key_bytes, key_plan, longest
from lowmem_resnet20.native.keys import rotation_step
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.serverprocess import ServerRun
from lowmem_resnet20.terminal.progress import Ended, SilentProgress

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import measurements
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


@pytest.mark.parametrize("set_", [INSECURE_SHORT_SET, INSECURE_SHORT_NATIVE_SET], ids=lambda set_: set_.engine)
def test_precision_of_either_engine(monkeypatch, tmp_path, capsys, set_):
    """Keys are made for the engine named, the picture is evaluated and its checkpoints read; with the server in this
    process."""
    weights, progress = random_weights(set_.architecture), SilentProgress()
    pixels = random_picture(set_.architecture, np.random.default_rng(9))

    def run_server(request, shown, stderr) -> ServerRun:
        [outcome] = server.evaluate(request.folder, set_, request.jobs, weights, progress)
        assert outcome.error is None
        progress.close()
        return ServerRun(1.0, 1 << 30, [], progress.times)

    monkeypatch.setattr(precision, "run_server", run_server)
    monkeypatch.setattr(precision, "load_weights", lambda path: weights)
    monkeypatch.setattr(precision, "read_picture", lambda path: pixels)
    monkeypatch.setattr(precision, "find_picture", lambda path: path)
    monkeypatch.setattr(precision, "parameter_set", lambda number, engine: {"": None, set_.engine: set_}[engine])
    monkeypatch.setattr(precision, "keys_set", lambda folder, number: set_)
    words = ["6", "a.png", "--engine", set_.engine, "--keys", str(tmp_path), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["precision.py", *words])
    precision.main()
    printed = capsys.readouterr().out
    stem = f"set6-{set_.engine}-a"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{stem}.png", f"{stem}.html"}
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    refreshes = [row for row in rows if row[0].endswith(".refresh")]
    assert len(refreshes) == len(set_.architecture.relu_channels())
    assert all(float(row[6]) > (14 if set_.engine == "native" else 9) for row in refreshes)


def test_every_step_of_the_server_has_a_kind():
    for set_ in PARAMETER_SETS.values():
        kinds = [precisionreport.kind_of_step(*step) for steps in plan(set_).steps.values() for step in steps]
        assert kinds.count("refresh") == sum(plan(set_).refreshes.values())
        assert kinds.count("ReLU") == (0 if set_.refresh.functional else len(set_.architecture.relu_channels()))
        assert kinds.count("other") == {1: 3, 8: 4}[set_.pictures]  # gathers, of groups two into stage 2, and the head


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
    units = scale(weights, parameter_set(1).refresh).units["conv1"]  # in encryption's unit the range ends at 1
    relative = np.abs(expected) / units[:, None, None]
    assert conv1.reached == pytest.approx(relative.max())
    assert len(ranges.bars(conv1.histogram)) == 25
    ranges.plot(found, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000


@pytest.mark.parametrize("set_", PARAMETER_SETS.values(), ids=lambda set_: f"{set_.number} {set_.engine}")
def test_every_rotation_key_has_a_purpose(set_):
    purposes = rotations.explain(set_)
    if set_.engine == "native":
        names = {stage: set(map(rotation_step, keys)) - {0} for stage, keys in key_plan(set_).items()}
    else:
        names, _ = keygeneration._rotations_by_stage(set_)
    assert {stage: set(steps) for stage, steps in purposes.items()} == names
    assert all(why for steps in purposes.values() for why in steps.values())
    for stage, width in ((1, 32), (2, 16), (3, 8)):  # the five of a stage's convolutions
        five = {1, -1, width, -width, -set_.pictures_in(stage) * width * width}
        used = {s for s, why in purposes[stage].items() if any(w.startswith("convolution:") for w in why)}
        assert {step % set_.full_slots for step in five} <= used


def test_native_keys_are_shown_with_towers_and_bytes(monkeypatch, capsys):
    """Of every stage all keys, and their sum as key generation writes it."""
    monkeypatch.setattr(sys, "argv", ["rotations.py", "5"])
    rotations.main()
    printed, set_ = capsys.readouterr().out, parameter_set(5, "native")
    stages = key_plan(set_)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    rows = [row for row in rows if row[0]]  # a long purpose takes several lines
    assert [row[2] for row in rows if row[0] == "relinearisation"] == [
        str(keys["relinearisation"]) for keys in stages.values()
    ]
    assert len(rows) == sum(map(len, stages.values()))
    assert {row[0] for row in rows} > {"relinearisation", "conjugation", "into-sparse", "from-sparse", "1", "-1"}
    files = longest(stages)
    total = rotations.format_bytes(sum(key_bytes(set_, name, towers) for name, towers in files.items()))
    assert f"{len(files)} keys in all, {total}; in OpenFHE's form" in printed


def test_rotation_keys_of_openfhe_are_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rotations.py", "5", "--engine", "openfhe"])
    rotations.main()
    printed = capsys.readouterr().out
    assert "bootstrapping" in printed and re.search(r"\d+ rotation keys in all, [0-9.]+ GiB", printed)


@pytest.mark.parametrize("set_", [INSECURE_SHORT_SET, INSECURE_SHORT_NATIVE_SET], ids=lambda set_: set_.engine)
def test_operations_are_counted(tmp_path, set_):
    """As often as the plan says; together they take what the whole takes."""
    weights = random_weights(set_.architecture)
    client.generate_keys(set_, tmp_path / "exp6", SilentProgress())
    pixels = random_picture(set_.architecture, np.random.default_rng(9))
    spent = operations.measure(set_, tmp_path / "exp6", pixels, weights, 10e9)
    refreshes = sum(plan(set_).refreshes.values())
    assert spent["loading"].calls == 2 and spent["in all"].calls == 1
    assert spent["encoding"].calls > spent["products"].calls > 0
    assert all(0 <= kind.seconds < spent["in all"].seconds for name, kind in spent.items() if name != "in all")
    total = sum(kind.seconds for name, kind in spent.items() if name != "in all")
    assert total == pytest.approx(spent["in all"].seconds)
    parts = {name: kind for name, kind in spent.items() if name.startswith("refresh")}
    if set_.engine == "openfhe":
        assert list(parts) == ["refresh"] and spent["refresh"].calls == refreshes
        assert all(kind.share is None for kind in spent.values())
    else:
        assert set(parts) == {*operations.PARTS.values(), operations.EXPONENTIAL}
        assert all(kind.calls == refreshes and 0 < kind.share < 1 for kind in parts.values())
    cells = [list(column.cells) for column in operations.table({"a": spent, "b": spent}).columns]
    assert cells[0] == list(spent) and cells[1] == cells[4] == [f"{kind.seconds:.1f}" for kind in spent.values()]


def test_operations_are_written_down(monkeypatch, tmp_path):
    """A column for each set, a line for each kind of any, the sums last."""
    (tmp_path / "README.md").write_text("<!-- measured: operations -->\n<!-- /measured -->\n")
    monkeypatch.setattr(measurements, "FILE", tmp_path / "measurements.json")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    spent, last = (
        operations.Spent,
        {"checking keys, files": operations.Spent(1.0, 1), "in all": operations.Spent(9.5, 1)},
    )
    operations.write_down({"set 5, native": {"products": spent(1.5, 328)} | last}, 58e9)
    operations.write_down({"set 6, native": {"refresh: series": spent(2.75, 21, 0.113)} | last}, 58e9)
    lines = (tmp_path / "README.md").read_text().splitlines()[1:7]
    assert lines == [
        "| operation | set 5, native | set 6, native |",
        "| --- | --- | --- |",
        "| products | 1.5 s, 328 |  |",
        "| refresh: series |  | 2.8 s, 21 (11%) |",
        "| checking keys, files | 1.0 s, 1 | 1.0 s, 1 |",
        "| in all | 9.5 s, 1 | 9.5 s, 1 |",
    ]
    assert measurements.read()["operations"]["rows"]["set 5, native"]["bytes_per_second"] == 58e9


def test_the_bandwidth_of_copies():
    assert 1e8 < operations.bandwidth(2, 8) < 1e12


def test_what_an_operation_moves():
    """Ciphertexts and keys once, as long as their level."""
    n, digits, special = 1 << 12, 3, 2
    ring = SimpleNamespace(digit_towers=digits, p=(0,) * special)
    arithmetic = SimpleNamespace(ring=ring, ring_dimension=n)
    x, y, z = (SimpleNamespace(towers=towers, residues=None) for towers in (7, 5, 4))
    one = {towers: 2 * 8 * towers * n for towers in (7, 5, 4)}
    key = 2 * 2 * (5 * 5 + 8 * special) * n  # two digits of five towers
    moved = operations.least_bytes
    assert moved("add", (x, y), z, arithmetic) == one[7] + one[5] + one[4]
    assert moved("combination", ([y, z], [1, 2], 1.0), z, arithmetic) == one[5] + one[4]
    assert moved("rotate", (y, [0, 1, 1, 2]), [y, z, z], arithmetic) == one[5] + 2 * one[4] + 2 * key
    assert moved("sum_of_products", ([(y, y)],), z, arithmetic) == one[5] + one[4] + key
    transform = SimpleNamespace(babies=(0, 1), giants=(0, 2), vectors={(0, 0): np.zeros(8), (1, 1): np.zeros(4)})
    vectors = 2 * 8 * 12 * (5 + special)
    assert moved("transform", (y, transform, 1.0), z, arithmetic) == one[5] + one[4] + 2 * key + vectors
