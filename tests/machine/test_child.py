"""Child processes run this package's modules and nothing that lies where they are started, and end with their
parent."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lowmem_resnet20
from lowmem_resnet20.machine import child
from lowmem_resnet20.machine.searchpath import trusted_path
from processes import ends

PACKAGE = Path(lowmem_resnet20.__file__).parent
#: What the interpreter itself imports before it runs a module named with -m: only -I keeps these from being taken here.
BEFORE_ANY_OF_OURS = {
    *("runpy", "importlib", "contextlib", "functools", "collections", "operator", "reprlib", "keyword", "types"),
    *("warnings", "itertools"),
}
THIRD = {"numpy", "openfhe", "PIL", "rich", "torch", "safetensors"}


@pytest.fixture
def littered(tmp_path, monkeypatch) -> Path:
    """A working directory with a file in the name of every module that may be imported; each says that it was run."""
    for name in {*sys.stdlib_module_names, *THIRD}:
        (tmp_path / f"{name}.py").write_text(f"open('was-run', 'a').write('{name} ')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finds_itself(search_path: list[str], package: Path) -> str:
    """A program that starts a child which says where it found the package, and what else it can import."""
    return (
        f"import sys; sys.path[:0] = {search_path!a}\n"
        f"import subprocess; from lowmem_resnet20.machine import child\n"
        f"done = subprocess.run(child.command('told', 'a', 'b'), capture_output=True, text=True)\n"
        f"sys.exit(done.stderr or done.stdout != {str(package)!a} + ' told a b')\n"
    )


TOLD = """
import json, random, sys
import numpy, openfhe
from pathlib import Path
from .machine import child
sys.stdout.write(" ".join([str(Path(child.__file__).parents[1]), Path(sys.argv[0]).stem, *sys.argv[1:]]))
"""


@pytest.fixture
def package(tmp_path_factory) -> Path:
    """A copy of the package, with a module that says what it finds."""
    copy = tmp_path_factory.mktemp("elsewhere") / "lowmem_resnet20"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "told.py").write_text(TOLD)
    return copy


@pytest.mark.parametrize("way", ["PYTHONPATH", "search path", "working directory and PYTHONPATH"])
def test_a_child_is_the_same_package_however_it_was_found(littered, package, way):
    folder, environment = str(package.parent), dict(os.environ)
    if way != "search path":
        environment["PYTHONPATH"] = folder
    program = finds_itself([folder] if way == "search path" else [], package)
    if way.startswith("working"):
        os.chdir(package.parent)
    script = package.with_name("program.py")
    script.write_text(program)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (littered / "was-run").exists()


def test_a_child_runs_nothing_of_an_empty_entry_in_pythonpath(littered):
    """PYTHONPATH=$PYTHONPATH:more has one where it was not set before."""
    path = trusted_path()
    try:
        sys.path[:0] = ["", str(littered)]
        assert trusted_path() == path
    finally:
        del sys.path[:2]


def test_python_m_runs_nothing_of_the_working_directory(littered):
    for name in BEFORE_ANY_OF_OURS:
        (littered / f"{name}.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "lowmem_resnet20", "generate_keys", "1", "keys", "/dev/null"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not (littered / "was-run").exists(), (littered / "was-run").read_text()
    assert done.returncode in (4, 7) and "Traceback" not in done.stderr


def test_the_installed_command_runs_nothing_of_an_empty_entry_in_pythonpath(tmp_path):
    """But for what the interpreter itself imports before it."""
    settings = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    [(module, function)] = re.findall(r'^lowmem-resnet20 = "([\w.]+):(\w+)"$', settings, re.MULTILINE)
    for name in {*THIRD, "argparse", "hashlib", "json", "tempfile"}:
        (tmp_path / f"{name}.py").write_text(f"open('was-run', 'a').write('{name} ')\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "command").write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "bin" / "command", "generate_keys", "1", "keys", "/dev/null"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not (tmp_path / "was-run").exists(), (tmp_path / "was-run").read_text()
    assert done.returncode in (4, 7) and "Traceback" not in done.stderr


def test_a_child_that_fails_ends_with_a_line(package):
    """As all the program does; here because a package cannot be loaded, of which its parent needs nothing."""
    (package.parent / "numpy.py").write_text("raise ValueError('fits no other')")
    (package / "told.py").write_text("import numpy")
    asks = f"import sys; sys.path[:0] = [{str(package.parent)!r}]\nimport subprocess\n"
    asks += "from lowmem_resnet20.machine import child\nsys.exit(subprocess.run(child.command('told')).returncode)"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=False)
    message, hint = done.stderr.splitlines()
    assert message == "lowmem-resnet20: error: the package numpy cannot be loaded: fits no other"
    assert (done.returncode, done.stdout) == (7, "") and hint.startswith("hint: ")


def test_a_child_whose_parent_has_ended_ends(monkeypatch):
    """The parent's id is the one that was passed on: read in the child, it would be that of whoever inherits it."""
    monkeypatch.setattr(os, "getpid", lambda: 1 << 30)
    done = subprocess.run(child.command("__main__", "--version"), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGKILL, b"")


def test_a_child_ends_with_its_parent(package):
    (package / "told.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(3600)")
    program = (
        "import subprocess, time; from lowmem_resnet20.machine import child\n"
        "subprocess.Popen(child.command('told')); time.sleep(3600)"
    )
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as process:
        pid = int(process.stdout.readline())
        process.kill()
    ends(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_child_is_ended_by_signals_that_its_parent_blocks(package, monkeypatch, number):
    (package / "told.py").write_text("import time; print('here', flush=True); time.sleep(3600)")
    monkeypatch.setattr(child, "_FOLDER", str(package.parent))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        pipe = subprocess.PIPE
        with subprocess.Popen(child.command("told"), stdout=pipe, stderr=pipe) as process:
            process.stdout.readline()
            process.send_signal(number)
            assert process.wait(300) == -number
            assert process.stderr.read() == b""
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
