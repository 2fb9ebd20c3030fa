"""An output never replaces what it is made of, and what cannot be written is known before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_files import as_nobody

from lowmem_resnet20.errors import EnvironmentFault, UsageError
from lowmem_resnet20.machine.outputs import check_outputs, files_in


@pytest.mark.parametrize("make", [os.link, os.symlink], ids=["hard link", "link"])
@pytest.mark.parametrize("turned", [False, True])
def test_an_input_under_another_name(tmp_path, make, turned):
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_bytes(b"x")
    make(source, other)
    first, second = (other, source) if turned else (source, other)
    with pytest.raises(UsageError, match=rf"output {second} would overwrite {first}, which is read"):
        check_outputs([second], [first])
    check_outputs([tmp_path / "new"], [first])


def test_an_input_by_its_own_name_or_through_another_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    for output in ("a/x", "b/x", "a/../b/x", str(tmp_path / "a" / "x")):
        with pytest.raises(UsageError, match="would overwrite a/x"):
            check_outputs([Path("new"), Path(output)], [Path("a/x")])


def test_inputs_that_are_folders(tmp_path):
    (tmp_path / "keys" / "client").mkdir(parents=True)
    secret = tmp_path / "keys" / "client" / "secret.key"
    secret.write_bytes(b"x")
    with pytest.raises(UsageError, match="would overwrite"):
        check_outputs([secret], files_in(tmp_path / "absent", tmp_path / "keys"))


def test_one_output_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("b").symlink_to(".")
    with pytest.raises(UsageError, match="x and b/x are the same output"):
        check_outputs([Path("x"), Path("b/x")], [])


def test_a_folder_that_is_missing_or_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"cannot write .*absent/x: No such file") as caught:
        check_outputs([tmp_path / "absent" / "x"], [])
    assert caught.value.hint == "make its folder first"
    for output in (tmp_path / "file" / "x", tmp_path):
        with pytest.raises(EnvironmentFault, match="cannot write"):
            check_outputs([output], [])


def test_a_folder_without_permission():
    def check(folder: Path) -> None:
        try:
            check_outputs([folder / "x"], [])
        except EnvironmentFault as error:
            os._exit(7 if error.message.endswith("Permission denied") else 2)

    assert as_nobody(check, mode=0o555) == 7
