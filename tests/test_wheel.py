"""The wheel, built from this tree and installed beside the packages that are here already."""

from __future__ import annotations

import re
import venv
from pathlib import Path

import numpy as np
import pytest

import lowmem_resnet20
from wheel import ROOT, build, run

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of an environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build(folder)
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    programs = folder / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", wheel, cwd=folder)
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    dependencies = {str(Path(package.__file__).parents[1]) for package in (np, pytest)}
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    return programs


def test_the_command_is_there(installed, tmp_path):
    assert run(installed / "lowmem-resnet20", "--version", cwd=tmp_path) == (
        f"lowmem-resnet20 {lowmem_resnet20.__version__}\n"
    )
    assert "generate_keys" in run(installed / "lowmem-resnet20", "help", cwd=tmp_path)


WHAT_COMES_WITH_IT = """
from pathlib import Path
import lowmem_resnet20
from lowmem_resnet20.model.picture import default_pictures, find_picture, read_picture
from lowmem_resnet20.network.weights import default_weights_path, load_weights
package = Path(lowmem_resnet20.__file__).parent
assert default_weights_path().is_relative_to(package) and default_pictures().is_relative_to(package)
assert load_weights(default_weights_path()).fingerprint
assert read_picture(find_picture(Path("inputs/vale.jpg"))).shape == (3, 32, 32)
assert (package / "py.typed").exists()
print(package)
"""


def test_weights_pictures_and_types_come_with_it(installed, tmp_path):
    """Found from any working directory, in the installed package and not in the checkout."""
    package = Path(run(installed / "python", "-c", WHAT_COMES_WITH_IT, cwd=tmp_path).strip())
    assert package.is_relative_to(installed.parent)
    ours = {str(path.relative_to(Path(lowmem_resnet20.__file__).parent)) for path in tracked("src/lowmem_resnet20")}
    theirs = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    brought = {str(path.relative_to(ROOT)) for name in ("weights", "inputs") for path in tracked(name)}
    assert {name for name in theirs if "__pycache__" not in name} == ours | brought


def tracked(folder: str) -> list[Path]:
    """Files that belong to the tree, and not what an editor or a run may have left in it."""
    return [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_the_wheel_names_what_it_needs(installed, tmp_path):
    [metadata] = installed.parent.glob("lib/python*/site-packages/lowmem_resnet20-*.dist-info/METADATA")
    markers = r"(?:; [^\n]*python_version.*)?"
    needed = re.findall(rf"^Requires-Dist: ([\w-]+)[^;\n]*{markers}$", metadata.read_text(), re.MULTILINE)
    assert set(needed) == {"openfhe", "numpy", "numba", "pillow", "rich", "safetensors"}
