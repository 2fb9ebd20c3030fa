"""Sets 1, 6 and 7 at full size, as a user runs them: an hour, 11 GiB of memory, 14 GB of disk.  pytest --full"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from documented import documented

pytestmark = pytest.mark.full

#: By set, the most minutes a picture and bytes of the server's memory may take.
LIMITS = {1: (15, 12 << 30), 6: (8, 8 << 30)}


def command(*words: str, cwd) -> list[dict]:
    line = [sys.executable, "-m", "lowmem_resnet20", *words, "json"]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, cwd=cwd)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("full")


@pytest.mark.parametrize("number", LIMITS)
def test_pictures_are_classified_as_the_plain_model_does(folder, inputs, number):
    [made] = command("generate_keys", str(number), cwd=folder)
    assert made["seconds"] < 4 * 60
    pictures = {"vale.jpg": "Dog", "luis.png": "Cat"}
    results = command("load_keys", str(number), "input", *(str(inputs / p) for p in pictures), "plain", cwd=folder)
    minutes, memory = LIMITS[number]
    for result, label in zip(results, pictures.values(), strict=True):
        assert result["class"] == result["plain"]["class"] == label
        assert result["plain"]["worst_difference"] <= 0.6
        assert sum(result["seconds"].values()) < minutes * 60
        assert result["peak_bytes"]["server"] < memory


def test_the_documented_lines_of_a_program(tmp_path, inputs):
    """Those in the package's own docstring, in a process of their own."""
    (tmp_path / "inputs").symlink_to(inputs)
    done = subprocess.run(
        [sys.executable, "-c", documented()], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.startswith("Dog (") and done.stdout.endswith(") ()\n")


def test_a_group_of_eight_is_classified_as_the_plain_model_does(folder, inputs):
    """Set 7; the share of a picture's time is less than half of what one alone may take, in a GiB more at most."""
    command("generate_keys", "7", cwd=folder)
    pictures = sorted(str(path) for path in inputs.iterdir() if path.suffix == ".png")[:8]
    results = command("load_keys", "7", "input", *pictures, "plain", cwd=folder)
    minutes, memory = LIMITS[6]
    assert [result["group"]["place"] for result in results] == list(range(1, 9))
    for result in results:
        assert result["class"] == result["plain"]["class"]
        assert result["plain"]["worst_difference"] <= 0.6
        assert sum(result["seconds"].values()) < 0.45 * minutes * 60
        assert result["peak_bytes"]["server"] < memory + (1 << 30)


def test_a_killed_evaluation_goes_on(folder, inputs):
    """After the tests above, with their keys of set 6: killed at five times, the last result as an uninterrupted
    one."""
    command("encrypt", "6", "input", str(inputs / "vale.jpg"), "output", "p.ct", cwd=folder)
    words = ["evaluate", "6", "p.ct", "output", "r.ct", "resume"]
    for _ in range(5):
        server = subprocess.Popen([sys.executable, "-m", "lowmem_resnet20", *words], cwd=folder, start_new_session=True)
        part = _part(folder)
        while _part(folder) == part:  # one more block, and somewhat into the next
            assert server.poll() is None
            time.sleep(1)
        time.sleep(1)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    command(*words, cwd=folder)
    [resumed] = command("decrypt", "6", "r.ct", cwd=folder)
    [whole] = command("load_keys", "6", "input", str(inputs / "vale.jpg"), cwd=folder)
    assert resumed["class"] == whole["class"]
    assert np.abs(np.subtract(resumed["logits"], whole["logits"])).max() < 0.1  # two encryptions


def _part(folder) -> str:
    manifest = folder / "r.ct.unfinished" / "manifest.json"
    return json.loads(manifest.read_text())["part"] if manifest.exists() else ""
