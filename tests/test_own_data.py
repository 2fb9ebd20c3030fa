"""The page "your own data, from start to end": its very commands, on few pictures and the miniature's ring."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from documented import code_lines
from lowmem_resnet20.machine import child
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network.weights import load_weights
from miniature import INSECURE_NATIVE_SET

ROOT = Path(__file__).parents[1]
#: What a command is given more, so that it takes seconds: a network of 2,048 slots, for the miniature's ring.
SMALL = {"scripts/train.py": "--epochs 2 --side 16 --channels 8/16/32 --device cpu --threads 1"}
#: Pictures of each class that are left to train on and to test on.
FEW = {"train": 20, "test": 2}
NAMES = ["eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero"]
#: Runs a module of the package, which knows the insecure set in the place of set 6.
MODULE = """
import os, runpy, sys
sys.path.insert(0, {tests!r})
from lowmem_resnet20.network import parameters
from miniature import INSECURE_NATIVE_SET
parameters.PARAMETER_SETS[6, "native"] = INSECURE_NATIVE_SET
runpy.run_module("lowmem_resnet20." + {module!r}, run_name="__main__", alter_sys=True)
"""


def page() -> list[str]:
    """Its commands, in order."""
    text = (ROOT / "weights" / "README.md").read_text()
    [section] = re.findall(r"^## Your own data, from start to end\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    return [line for line in code_lines(section) if line]


def few(folder: Path, kept: set[str]) -> None:
    """Leave few pictures of each class, and those that the page names."""
    for part, count in FEW.items():
        for path in (folder / part).iterdir():
            for picture in sorted(path.iterdir())[count:]:
                if str(picture.relative_to(folder.parent)) not in kept:
                    picture.unlink()


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Run a script as its command does, in this process; what it would keep beside itself goes to the test's folder."""
    for package in ("torch", "sklearn"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def run_script(name: str, *arguments: str) -> None:
        assert (ROOT / name).stat().st_mode & 0o100
        module = importlib.import_module(Path(name).stem)
        if hasattr(module, "FOLDER"):
            monkeypatch.setattr(module, "FOLDER", tmp_path / "training")
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        module.main()

    return run_script


@pytest.fixture
def insecure(monkeypatch):
    """Set 6 is the miniature's, here and in the processes that are started."""
    monkeypatch.setitem(parameters.PARAMETER_SETS, (6, "native"), INSECURE_NATIVE_SET)
    command = child.command

    def started(module: str, *arguments: str) -> list[str]:
        if module != "server.worker":
            return command(module, *arguments)
        return [sys.executable, "-c", MODULE.format(tests=os.path.dirname(__file__), module=module)]

    monkeypatch.setattr(child, "command", started)


def test_every_command_of_the_page(run, script, insecure, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = {}
    for line in page():
        program, *words = shlex.split(line)
        if program == "lowmem-resnet20":
            done = run(*words)
            assert done.code == 0, done.err
            told[words[0]] = done
        else:
            script(program, *words, *shlex.split(SMALL.get(program, "")))
        if program == "scripts/digits.py":
            few(tmp_path / words[0], {word for line in page() for word in shlex.split(line)})
    weights = load_weights("digits.safetensors")
    assert (list(weights.classes), weights.name) == (NAMES, "resnet8")
    assert str(weights.architecture) == ("ResNet-8 of channels 8/16/32, for 16x16 pictures of 1 colour in 10 classes")
    simulated = dict(re.findall(r"^(\S.*?)  +(\S.*)$", told["simulate"].out, re.MULTILINE))
    assert simulated["pictures"] == "20" and {"right, plain", "right, simulated", "class differs"} <= set(simulated)
    told = dict(re.findall(r"^(\S.*?)  +(\S.*)$", told["load_keys"].out, re.MULTILINE))
    assert told["class"] == told["plain class"] and told["class"] in NAMES
    assert float(told["difference"].split()[0]) < 0.2 * weights.largest_logit
