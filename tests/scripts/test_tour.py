"""The notebook for newcomers, run from its first cell to its last on the miniature."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from miniature import ARCHITECTURE, INSECURE_NATIVE_SET, random_picture, random_weights

NOTEBOOK = Path(__file__).parents[2] / "scripts" / "tour.ipynb"


@pytest.fixture
def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_every_cell_runs(cells, tmp_path, monkeypatch, capsys):
    """With the miniature in place of the cell that says what is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    pytest.importorskip("matplotlib")
    values = {"keys": "keys", "parameter_set": INSECURE_NATIVE_SET, "weights": random_weights(ARCHITECTURE)}
    values["pixels"] = random_picture(ARCHITECTURE, np.random.default_rng(0))
    names: dict = {}
    for cell in cells:
        if cell["metadata"].get("tags") == ["parameters"]:
            names |= values
        elif cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102 - our own notebook
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"vale.jpg: {names['result'].label}" and "warning" not in "".join(told)
    assert min(layer.bits for layer in names["layers"]) > 3
    assert len(names["sent"]) > 10 * names["pixels"].nbytes
    assert not Path(names["checkpoints"].name).exists()


def test_the_picture_it_names_is_there(cells):
    """Seen from its own folder, in which Jupyter runs it."""
    [named] = [cell for cell in cells if cell["metadata"].get("tags") == ["parameters"]]
    [picture] = re.findall(r'read_picture\("(.+?)"\)', "".join(named["source"]))
    assert (NOTEBOOK.parent / picture).is_file()


def test_it_is_kept_without_what_it_printed(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
