"""Of several pictures, one that fails: told by the names that the user knows, and the others go on."""

import io
from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20.cli.named import checkpoints_left, checkpoints_of, ciphertexts_named
from lowmem_resnet20.cli.output import Printer
from lowmem_resnet20.cli.pictures import Each, Group, Item
from lowmem_resnet20.cli.words import Request
from lowmem_resnet20.errors import CiphertextError, ExitCode, KeyFolderError, Reported, WeightsError, naming, raise_told
from lowmem_resnet20.server.request import Job


@pytest.mark.parametrize("code", [*ExitCode][1:-1], ids=lambda code: code.name)
def test_whatever_a_server_says_of_one_job_the_others_go_on(code):
    err, done = io.StringIO(), []
    each = Each(Request("evaluate", 6), Printer(io.StringIO(), err), several=True)
    for i, line in enumerate(({"error": "it cannot", "hint": "", "exit_code": int(code)}, {})):
        with each.trying(Path(str(i)), of_job=True):
            raise_told(line)
            done.append(i)
    assert done == [1] and "error: it cannot\n" in err.getvalue()
    with pytest.raises(Reported) as ended:
        each.end()
    assert ended.value.exit_code == code


def test_what_concerns_every_picture_ends_all():
    each = Each(Request("evaluate", 6), Printer(io.StringIO(), io.StringIO()), several=True)
    for error in (KeyFolderError("no keys"), WeightsError("no weights")):
        with pytest.raises(type(error)), each.trying(Path("a")):
            raise error


def test_errors_name_pictures_and_not_temporary_files():
    items = [Item(Path(name), np.zeros((3, 4, 4))) for name in ("a.png", "b.png")]
    group = Group([*items, Item(Path("unreadable.png"))], Job(Path("/tmp/x/1.ct"), Path("/tmp/y/1.ct")))
    with pytest.raises(CiphertextError) as caught, naming(group.files):
        raise CiphertextError("/tmp/y/1.ct is damaged, unlike /tmp/x/1.ct")
    assert caught.value.message == "the result of a.png, b.png is damaged, unlike the encryption of a.png, b.png"
    assert Group(items).files == {}


def test_checkpoints_are_found_wherever_they_were_put(tmp_path):
    """``evaluate`` makes a folder for each of several results; ``decrypt`` may be given one of them, or all."""
    result, folder = Path("back/r.ct"), tmp_path / "checkpoints"
    assert checkpoints_left(None, result) is None
    for several in (False, True):
        put = checkpoints_of(folder, result, several)
        put.mkdir()
        assert checkpoints_left(folder, result) == put


def test_a_folder_of_ciphertexts(tmp_path, monkeypatch):
    """Hidden files, as some systems leave beside others, are none; an empty folder is told of, beside others too."""
    monkeypatch.chdir(tmp_path)
    for name in ("full/2.ct", "full/1.ct", "full/._1.ct", "full/README", "empty/.ct", "alone.ct"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    named = ciphertexts_named(Request("decrypt", 6, (Path("alone.ct"), Path("full"))))
    assert named == [Path("alone.ct"), Path("full/1.ct"), Path("full/2.ct")]
    with pytest.raises(CiphertextError, match="empty has no ciphertext in it"):
        ciphertexts_named(Request("decrypt", 6, (Path("full"), Path("empty"))))
