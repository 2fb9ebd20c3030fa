"""Another OpenFHE that the system finds first is named as the cause."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lowmem_resnet20.machine.libraries import loading_hint


def test_the_variable_and_the_folder_are_named(tmp_path):
    (tmp_path / "libOPENFHEcore.so.1").touch()
    assert "CPython 3.10" in loading_hint({"LD_LIBRARY_PATH": f"/absent::{tmp_path.parent / 'absent'}"})
    hint = loading_hint({"LD_LIBRARY_PATH": f"/usr/lib:{tmp_path}"})
    assert str(tmp_path) in hint and "unset LD_LIBRARY_PATH" in hint
    assert "unset LD_PRELOAD" in loading_hint({"LD_PRELOAD": f"{tmp_path}/libOPENFHEcore.so.1"})


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
