"""The server without OpenFHE: in this Python, and in fresh environments of those that OpenFHE has no wheels for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import miniature
import parties
from lowmem_resnet20.network.weights import save_weights
from miniature import INSECURE_NATIVE_SET, random_picture, random_weights
from wheel import build, run

OTHERS = ("3.11", "3.13")
#: Evaluates, and prints the Python and the packages that were imported.
EVALUATES = """
import sys
import lowmem_resnet20 as lr
from miniature import INSECURE_NATIVE_SET
with lr.Server("server", "weights", set_=INSECURE_NATIVE_SET) as server:
    [answer] = server.evaluate(lr.Ciphertext.load("p.ct"))
answer.save(sys.argv[1])
print(".".join(map(str, sys.version_info[:2])), *sys.modules)
"""
#: The same, or the command line, on a Python that OpenFHE has no wheels for.
WITHOUT = """
import importlib.metadata, platform, sys
installed = importlib.metadata.version
def version(name):
    if name == "openfhe":
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)
importlib.metadata.version = version
platform.python_version_tuple = lambda: ("3", "13", "0")
sys.modules |= dict.fromkeys(("openfhe", "PIL", "rich"))
"""
COMMAND = f"{WITHOUT}\nfrom lowmem_resnet20.cli.main import main\nsys.exit(main())"
LINE = "lowmem-resnet20: error: this needs OpenFHE, which has wheels for CPython 3.10 and 3.12 on x86-64 alone"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a server is given, exp6 of the client, and ours.ct, which this Python has evaluated with OpenFHE beside."""
    folder, set_, weights = tmp_path_factory.mktemp("server"), INSECURE_NATIVE_SET, random_weights()
    save_weights(folder / "weights", weights)
    parties.generate_keys(set_, folder / "exp6")
    shutil.copytree(folder / "exp6" / "server", folder / "server")
    pixels = random_picture(set_.architecture, np.random.default_rng(5))
    parties.encrypt_picture(folder / "exp6", set_, pixels, weights, folder / "p.ct")
    shutil.copy(miniature.__file__, folder)
    (folder / "evaluates.py").write_text(EVALUATES)
    (folder / "without.py").write_text(WITHOUT + EVALUATES)
    run(sys.executable, "evaluates.py", "ours.ct", cwd=folder)
    return folder


def logits(folder: Path, name: str) -> np.ndarray:
    return parties.decrypt_logits(folder / "exp6", INSECURE_NATIVE_SET, folder / name, random_weights())


def test_native_keys_are_evaluated_without_openfhe(folder):
    """Nor with anything else but numpy, numba and safetensors, which reads the weights."""
    imported = run(sys.executable, "without.py", "without.ct", cwd=folder).split()
    assert {"numpy", "numba", "safetensors"} <= set(imported)
    assert (folder / "without.ct").read_bytes() == (folder / "ours.ct").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        "generate_keys 6",
        "test",
        "load_keys 6 input p.png",
        "encrypt 6 input p.png output p.ct",
        "decrypt 6 r.ct",
        "page 6",
        "serve 1 listen 127.0.0.1:0",
    ],
)
def test_whoever_needs_openfhe_is_told_which_python_to_take(tmp_path, words):
    done = command(sys.executable, "-c", COMMAND, *words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (7, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(LINE) and second.startswith("hint: take CPython 3.10")
    assert not list(tmp_path.iterdir())


def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


# --- other Pythons ----------------------------------------------------------------------------------------


def interpreter(version: str) -> str | None:
    """One of this version, on the path or of pyenv's; those on the path may be names alone."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for found in (f"python{version}", *map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}"))):
        if shutil.which(found) and command(found, "-c", "", cwd=Path("/")).returncode == 0:
            return found
    return None


@pytest.fixture(scope="module", params=OTHERS)
def programs(request, tmp_path_factory) -> Path:
    """The programs of a fresh environment, with the wheel and the packages that it asks for there."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"there is no CPython {request.param} here")
    folder = tmp_path_factory.mktemp("environment")
    run(python, "-m", "venv", "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", build(folder), cwd=folder)
    return programs


@pytest.mark.full
def test_another_python_evaluates_what_this_one_encrypted(programs, folder):
    version, *imported = run(programs / "python", "evaluates.py", "theirs.ct", cwd=folder).split()
    assert version in OTHERS and "openfhe" not in imported
    assert command(programs / "python", "-c", "import openfhe", cwd=folder).returncode == 1
    assert np.abs(logits(folder, "theirs.ct") - logits(folder, "ours.ct")).max() < 1e-2


@pytest.mark.full
def test_another_pythons_command_line(programs, tmp_path):
    """It helps, and says which Python a client takes."""
    assert "generate_keys" in run(programs / "lowmem-resnet20", "--help", cwd=tmp_path)
    done = command(programs / "lowmem-resnet20", "generate_keys", "6", cwd=tmp_path)
    assert done.returncode == 7 and done.stderr.startswith(LINE)
    evaluated = command(programs / "lowmem-resnet20", "evaluate", "6", "p.ct", "output", "r.ct", cwd=tmp_path)
    assert evaluated.returncode == 4 and "there is no key folder" in evaluated.stderr
