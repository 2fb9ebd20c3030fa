"""scripts/precision.py and its report, of either engine on a small network."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import parties
from lowmem_resnet20.client import Client
from lowmem_resnet20.client.precision import LayerPrecision
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.progress.display import Ended, SilentProgress
from lowmem_resnet20.server.process import ServerRun
from miniature import (
    ARCHITECTURE,
    INSECURE_SHORT_NATIVE_SET,
    INSECURE_SHORT_SET,
    random_picture,
    random_weights,
)

pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import precision
import precisionreport


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
    logits = plain + 0.01 * np.arange(10)
    return precisionreport.Inspection(
        parameter_set(6), Path("a<b>.png"), pixels, plain, logits, CIFAR10_CLASSES, layers, run
    )


def test_the_report_holds_everything_in_itself(tmp_path):
    found = inspection()
    precisionreport.write_plot(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    console = Console(width=130, record=True, markup=False, file=io.StringIO())
    precisionreport.print_tables(console, found)
    precisionreport.write_report(console, found, tmp_path / "p.png", tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    [plot] = re.findall('src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(plot) == (tmp_path / "p.png").read_bytes()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "a&lt;b&gt;.png" in page and "<b>.png" not in page
    for layer in found.layers:
        assert layer.name in page
    assert "log2 QP" in page and "+0.0900" in page


def test_the_precision_table():
    rows = precisionreport.layer_table(inspection())
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
        [outcome] = parties.evaluate(request.folder, set_, request.jobs, weights, progress)
        assert outcome.error is None
        progress.close()
        return ServerRun(1.0, 1 << 30, [], progress.times)

    def opened(folder: Path, path: Path, **asked: int) -> Client:
        assert asked == {"set_": set_.number}
        return Client(folder, weights, set_=set_)

    monkeypatch.setattr(precision, "run_server", run_server)
    monkeypatch.setattr(precision, "Client", opened)
    monkeypatch.setattr(precision, "read_picture", lambda path, width, colours: pixels)
    monkeypatch.setattr(precision, "find_picture", lambda path: path)
    sets = {"": None, set_.engine: set_}
    monkeypatch.setattr(precision, "parameter_set", lambda number, engine, architecture: sets[engine])
    words = ["6", "a.png", "--engine", set_.engine, "--keys", str(tmp_path), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["precision.py", *words])
    precision.main()
    printed = capsys.readouterr().out
    stem = f"set6-{set_.engine}-a"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{stem}.png", f"{stem}.html"}
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    refreshes = [row for row in rows if row[0].endswith(".refresh")]
    assert len(refreshes) == len(set_.architecture.relu_channels())
    # Of the worst slot: by the design of the native refresh it has 5.4 at least.
    assert all(float(row[6]) > (5 if set_.engine == "native" else 9) for row in refreshes)


def test_every_step_of_the_server_has_a_kind():
    for set_ in PARAMETER_SETS.values():
        kinds = [precisionreport.kind_of_step(*step) for steps in plan(set_).steps.values() for step in steps]
        assert kinds.count("refresh") == sum(plan(set_).refreshes.values())
        assert kinds.count("ReLU") == (0 if set_.refresh.functional else len(set_.architecture.relu_channels()))
        assert kinds.count("other") == {1: 3, 8: 4}[set_.pictures]  # gathers, of groups two into stage 2, and the head


@pytest.mark.parametrize("script", ["precisionreport", "ranges"])
def test_a_file_of_settings_for_plots_where_a_script_is_run_is_not_heeded(tmp_path, script):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: module://evil\n")
    program = f"import sys; sys.path[:0] = {sys.path!a}; import {script} as s, matplotlib as m\n"
    program += "print(m.get_backend(), m.rcParams['text.usetex'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.lower() == "agg false\n", done.stderr
