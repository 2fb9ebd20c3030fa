"""Set 1 at full size, as a user runs it: minutes, 11 GiB of memory and 7 GB of disk.  pytest --full"""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full


def command(*words: str, cwd) -> str:
    line = [sys.executable, "-m", "lowmem_resnet20", *words]
    return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, cwd=cwd).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    made = json.loads(command("generate_keys", "1", "json", cwd=folder))
    assert made["seconds"] < 4 * 60
    return folder


@pytest.mark.parametrize("picture", ["vale.jpg", "luis.png"])
def test_a_picture_is_classified_as_the_plain_model_does(folder, inputs, picture):
    pytest.importorskip("torch")
    result = json.loads(command("load_keys", "1", "input", str(inputs / picture), "plain", "json", cwd=folder))
    assert result["class"] == result["plain"]["class"] == {"vale.jpg": "Dog", "luis.png": "Cat"}[picture]
    assert result["plain"]["worst_difference"] <= 1.0
    assert sum(result["seconds"].values()) < 15 * 60
    assert result["peak_bytes"]["server"] < 12 << 30
