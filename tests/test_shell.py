"""The shell scripts in a copy of the tree, with a stand-in for Python: what they run, in which order, and how they
end."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Says in ``log`` what it was called with, and fails where that holds FAIL_ON.  ``-m venv`` makes copies of it.
STAND_IN = """#!/bin/sh
case "$*" in
    *libc_ver*) echo "${VERDICT:-3.10 ok}"; exit ;;
esac
echo "$(basename "$0") $*" >>log
case "$*" in *"${FAIL_ON:-nothing of the kind}"*) exit 6 ;; esac
case "$*" in
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/shellcheck" ;;
    *generate_keys*) mkdir -p keys/exp6 ;;
esac
"""
MADE = [
    "python3.10 -m venv .venv",
    "python -m pip install --quiet --quiet --disable-pip-version-check --editable .",
    "python -c import openfhe",
]
COMPLETED = [f"{MADE[1]}[torch,report,passphrase,test]", MADE[2]]
KEYS = "python -I -m lowmem_resnet20 generate_keys 6"
CLASSIFIED = "python -I -m lowmem_resnet20 load_keys 6 input inputs/vale.jpg plain verbose 0"
TESTED = "python -m pytest -n 2 --dist loadfile"
CHECKS = [
    "python -m ruff check src scripts tests",
    "python -m ruff format --check src scripts tests",
    "python -m mypy",
    "shellcheck --external-sources scripts/demo scripts/test scripts/environment.sh .ci/run",
]


@dataclass(frozen=True)
class Tree:
    """A copy of what the scripts use, and the stand-ins beside it."""

    root: Path

    def run(self, script: str, *arguments: str, **environment: str | None) -> tuple[int, list[str], str]:
        """Exit code, the commands run, what it said."""
        log = self.root / "log"
        log.write_text("")
        path = f"{self.root.parent / 'bin'}:/usr/bin:/bin"
        settings = os.environ | {"PATH": path, "PYENV_ROOT": str(self.root / "absent")} | environment
        done = subprocess.run(
            [self.root / script, *arguments],
            env={name: value for name, value in settings.items() if value is not None},
            cwd=self.root.parent,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, log.read_text().splitlines(), done.stderr


@pytest.fixture
def tree(tmp_path) -> Tree:
    root, programs = tmp_path / "a tree", tmp_path / "bin"
    for name in ("scripts/demo", "scripts/test", "scripts/environment.sh", ".ci/run", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    programs.mkdir()
    for name in ("python3.10", "python3.12", "python3", "python", "chromium"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    return Tree(root)


def test_the_demo_makes_all_it_needs_and_only_once(tree):
    assert tree.run("scripts/demo")[:2] == (0, [*MADE, KEYS, CLASSIFIED])
    assert tree.run("scripts/demo")[:2] == (0, [CLASSIFIED])
    with open(tree.root / "pyproject.toml", "a") as file:
        file.write("\n")
    assert tree.run("scripts/demo")[:2] == (0, [*MADE[1:], CLASSIFIED])


def test_the_demo_without_a_home(tree):
    assert tree.run("scripts/demo", HOME=None, PYENV_ROOT=None)[:2] == (0, [*MADE, KEYS, CLASSIFIED])


@pytest.mark.parametrize(("fails", "run"), [("generate_keys", [*MADE, KEYS]), ("load_keys", [*MADE, KEYS, CLASSIFIED])])
def test_the_demo_ends_as_what_it_runs_ends(tree, fails, run):
    assert tree.run("scripts/demo", FAIL_ON=fails)[:2] == (6, run)


@pytest.mark.parametrize("script", ["scripts/test", ".ci/run"])
def test_the_tests_come_after_the_checks(tree, script):
    assert tree.run(script)[:2] == (0, [MADE[0], *COMPLETED, *CHECKS, TESTED])


def test_the_tests_complete_what_the_demo_made_and_the_demo_takes_what_the_tests_made(tree):
    tree.run("scripts/demo")
    assert tree.run("scripts/test")[1] == [*COMPLETED, *CHECKS, TESTED]
    for _ in range(2):
        assert tree.run("scripts/demo")[1] == [CLASSIFIED]
        assert tree.run("scripts/test")[1] == [*CHECKS, TESTED]


def test_arguments_go_to_pytest(tree):
    assert tree.run("scripts/test", "-k", "a b")[1][-1] == f"{TESTED} -k a b"


def test_full_size_runs_come_one_after_the_other(tree):
    assert tree.run("scripts/test", "--full", "-k", "a b")[1][-1] == "python -m pytest --full -k a b"


@pytest.mark.parametrize("fails", ["ruff check", "ruff format", "mypy", "shellcheck", "pytest"])
def test_the_first_check_that_fails_ends_it(tree, fails):
    code, run, _ = tree.run("scripts/test", FAIL_ON=f"-m {fails}" if fails != "shellcheck" else "--external")
    assert code == 6
    assert fails in run[-1]
    assert [MADE[0], *COMPLETED, *CHECKS, TESTED][: len(run)] == run


def test_a_failed_installation_is_tried_again(tree):
    code, run, said = tree.run("scripts/demo", FAIL_ON="pip install")
    assert (code, run) == (7, MADE[:2])
    assert said.endswith(
        "error: the packages could not be installed\n"
        "hint: see pip's lines above; it needs a package index and 1 GB of disk\n"
    )
    assert tree.run("scripts/demo")[1] == [*MADE[1:], KEYS, CLASSIFIED]


def test_no_python_that_will_do(tree):
    code, run, said = tree.run("scripts/demo", VERDICT="3.11 unsupported", PATH=f"{tree.root.parent / 'bin'}:/bin")
    assert (code, run) == (7, [])
    assert said.startswith("error: only CPython 3.11 is here, and OpenFHE has wheels for 3.10 and 3.12 alone\nhint: ")
    assert not (tree.root / ".venv").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_venv_of_the_users_own_is_never_removed(tree, kind):
    own = tree.root / ".venv"
    if kind == "folder":
        own.mkdir()
        (own / "kept").write_text("mine")
    elif kind == "file":
        own.write_text("mine")
    else:
        own.symlink_to("elsewhere")
    code, run, said = tree.run("scripts/demo")
    assert (code, run) == (7, [])
    assert said == (
        "error: the Python in .venv cannot run this, and these scripts have not made it\n"
        "hint: move it away: mv .venv .venv.old\n"
    )
    assert os.path.lexists(own)
    assert kind != "folder" or (own / "kept").read_text() == "mine"


def test_a_venv_of_the_users_own_that_will_do_is_used(tree):
    (tree.root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(tree.root.parent / "bin" / "python3.10", tree.root / ".venv" / "bin" / "python")
    assert tree.run("scripts/demo")[1] == [*MADE[1:], KEYS, CLASSIFIED]
    (tree.root / ".venv" / "bin" / "python").unlink()
    assert tree.run("scripts/demo")[0] == 7
    assert (tree.root / ".venv" / "bin").exists()


@pytest.mark.parametrize("state", ["broken", "unfinished"])
def test_a_venv_of_the_scripts_is_made_again(tree, state):
    tree.run("scripts/demo")
    if state == "broken":
        (tree.root / ".venv" / "bin" / "python").unlink()
    else:  # killed as it was made
        (tree.root / ".venv" / "unfinished").touch()
    code, run, said = tree.run("scripts/demo")
    assert (code, run) == (0, [*MADE, CLASSIFIED])
    assert said.startswith("making .venv with python3.10\n")
