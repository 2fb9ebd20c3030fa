"""Imports run one way, down this list of wings, and never in a circle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from imports import imported_modules, imported_names, imports_of, module_names, tree

#: From the top down; those on one line stand beside each other and do not import one another.
WINGS = (
    ("__main__",),
    ("cli",),
    ("page",),
    ("service",),
    ("remote",),
    ("cluster",),
    ("client", "server"),
    ("openfhe",),
    ("files",),
    ("native",),
    ("model",),
    ("progress",),
    ("network",),
    ("machine",),
    ("errors",),
)
FLOOR = {wing: floor for floor, wings in enumerate(WINGS) for wing in wings}


def wing(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", module_names())
def test_imports_run_one_way(name):
    above = FLOOR[wing(name)]
    for imported in imports_of(name):
        inside = wing(imported) == wing(name) and imported != name
        assert inside or FLOOR[wing(imported)] > above, imported


#: The folders of ``native``, from the top down; below all other modules there.
NATIVE = ("keys", "refresh", "ring", "kernels")


@pytest.mark.parametrize("name", [name for name in module_names() if name.startswith("native.")])
def test_imports_between_the_folders_of_native_run_one_way(name):
    floors = {folder: floor for floor, folder in enumerate(NATIVE)}
    above, *found = (
        floors.get(module.split(".")[1], -1) for module in (name, *imports_of(name)) if module.startswith("native.")
    )
    assert all(floor >= above for floor in found)


def test_one_module_imports_openfhe():
    found = {name for name in module_names() for node in ast.walk(tree(name)) if "openfhe" in imported_names(node)}
    assert found == {"openfhe.library"}


@pytest.mark.parametrize("name", module_names())
def test_no_circle(name):
    assert not any(name in imported_modules(imported) for imported in imports_of(name))


@pytest.mark.parametrize("name", module_names())
def test_every_module_says_what_it_holds(name):
    first = (ast.get_docstring(tree(name)) or "").partition("\n")[0]
    assert first.endswith(".") and 20 <= len(first) <= 115, first


def test_the_list_for_contributors_is_this_one():
    """CONTRIBUTING.md names every wing, from the top down."""
    rows = re.findall(r"^\| (`.+?) \|", (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = [name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    floors = [FLOOR[name] for name in named]
    assert floors == sorted(floors)
    assert set(named) == set(FLOOR) - {"__main__"}
