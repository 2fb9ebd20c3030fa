"""Why OpenFHE does not load: another Python than it has wheels for, or another OpenFHE that the system finds first."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from lowmem_resnet20.errors import EnvironmentFault
from lowmem_resnet20.machine import libraries
from lowmem_resnet20.machine.faults import explain
from lowmem_resnet20.machine.libraries import loading_hint


def test_the_variable_and_the_folder_are_named(tmp_path):
    (tmp_path / "libOPENFHEcore.so.1").touch()
    assert "CPython 3.10" in loading_hint({"LD_LIBRARY_PATH": f"/absent::{tmp_path.parent / 'absent'}"})
    hint = loading_hint({"LD_LIBRARY_PATH": f"/usr/lib:{tmp_path}"})
    assert str(tmp_path) in hint and "unset LD_LIBRARY_PATH" in hint
    assert "unset LD_PRELOAD" in loading_hint({"LD_PRELOAD": f"{tmp_path}/libOPENFHEcore.so.1"})


@pytest.mark.parametrize(("python", "machine"), [("3.11", "x86_64"), ("3.13", "x86_64"), ("3.10", "aarch64")])
def test_where_there_are_no_wheels_a_line_says_which_python_to_take(monkeypatch, python, machine):
    monkeypatch.setattr(platform, "python_version_tuple", lambda: (*python.split("."), "1"))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(libraries, "version", without_openfhe)
    with pytest.raises(EnvironmentFault) as caught:
        libraries.openfhe_version()
    assert caught.value.message == (
        "this needs OpenFHE, which has wheels for CPython 3.10 and 3.12 on x86-64 alone, "
        f"and this is {python} on {machine}"
    )
    assert "glibc 2.35" in caught.value.hint and "evaluate, serve" in caught.value.hint
    assert explain(ModuleNotFoundError("No module named 'openfhe'", name="openfhe")).message == caught.value.message


def without_openfhe(name: str) -> str:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize("command", [["test"], ["generate_keys", "1", "keys", "k"]])
def test_a_library_that_is_another(tmp_path, command):
    """One that cannot be loaded at all stands for one that lacks what the wheel's module looks for."""
    for name in ("core", "pke", "binfhe"):
        (tmp_path / f"libOPENFHE{name}.so.1").write_bytes(b"not a library")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "lowmem_resnet20", *command],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    error, hint = done.stderr.splitlines()[-2:]
    assert done.returncode == 7
    assert error.startswith("lowmem-resnet20: error: OpenFHE cannot be loaded: ")
    assert (
        hint
        == f"hint: LD_LIBRARY_PATH names another OpenFHE, {tmp_path}, which is loaded instead: unset LD_LIBRARY_PATH"
    )
