"""Transcripts of the command line: what each command prints, and what every mistake is answered with.

The modules behind it are stand-ins (fakes.py); the server's process is a shell script.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fakes
import lowmem_resnet20
from lowmem_resnet20.cli import main as cli
from lowmem_resnet20.cli import words
from lowmem_resnet20.cli.main import main
from lowmem_resnet20.cli.output import vector
from lowmem_resnet20.errors import CiphertextError, ExitCode, KeyFolderError, UsageError
from lowmem_resnet20.machine.interrupt import ENDING_SIGNALS
from lowmem_resnet20.machine.text import one_line
from lowmem_resnet20.model.classification import Classification
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.server import worker
from lowmem_resnet20.server.request import Evaluation, Job
from processes import ends

TESTS = Path(__file__).parents[1]
VECTOR = "[-0.500 -2.250 1.000 2.000 -1.500 9.125 -1.000 -1.000 -0.250 -1.500]"
PLAIN_VECTOR = "[-0.250 -2.250 1.000 2.000 -1.500 9.125 -1.000 -1.000 -0.250 -1.500]"
RESULT = f"logits  {VECTOR}\nclass   Dog\nindex   5\n"


@pytest.fixture
def faked(monkeypatch, tmp_path, inputs):
    """Stand-ins behind the command line, in an empty working directory."""
    fakes.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return fakes.calls


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Make the server's process run these shell commands, with its request on their standard input."""

    def replace(script: str) -> None:
        stub = tmp_path / "python"
        stub.write_text(f"#!/bin/sh\n{script}\n")
        stub.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(stub))

    return replace


WORKS = f'PYTHONPATH={TESTS} {sys.executable} {TESTS / "fake_worker.py"} "$@"'


def request() -> dict:
    """What the server's process was asked."""
    return json.loads(Path("request").read_text())


# --- what it prints ---------------------------------------------------------------------------------------


def test_help_names_every_word(run):
    for spelling in (["--help"], ["-h"], ["help"], ["load_keys", "--help"]):
        done = run(*spelling)
        assert done.code == 0
        assert done.err == ""
        for word in (*words.COMMANDS, *words.OPTIONS, "--version", "exit codes"):
            assert re.search(rf"^ *(-h, )?{word}\b", done.out, re.MULTILINE), word
        assert max(map(len, done.out.splitlines())) <= 120


def test_version(run):
    assert run("--version").out == f"lowmem-resnet20 {lowmem_resnet20.__version__}\n"


def test_generate_keys(run, faked):
    done = run("generate_keys", "2", "keys", "here")
    assert done.code == 0
    assert re.fullmatch(r"keys +here/exp2\ntime +\d\.\d s\npeak memory  .*iB\n", done.out)
    assert "log2 QP" in done.err
    assert faked == [("generate_keys", 2, Path("here/exp2"))]
    again = run("generate_keys", "2", "keys", "here")
    assert again.code == ExitCode.KEYS
    assert again.out == ""
    assert "lowmem-resnet20: error: here/exp2 exists already\nhint: " in again.err


def test_generate_keys_under_a_passphrase(run, faked, monkeypatch, tmp_path):
    sealing = pytest.importorskip("cryptography") and importlib.import_module("lowmem_resnet20.client.sealing")
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("correct horse\n")
    monkeypatch.setenv("LOWMEM_RESNET20_PASSPHRASE_FILE", "passphrase")
    assert run("generate_keys", "1", "passphrase", "verbose", "-1").code == ExitCode.OK
    sealed = Path("keys/exp1/client/secret.key").read_bytes()
    assert sealing.opened(sealed, b"correct horse") == b"secret"
    assert run("generate_keys", "2", "verbose", "-1").code == ExitCode.OK
    assert Path("keys/exp2/client/secret.key").read_bytes() == b"secret"
    (tmp_path / "passphrase").write_text("\n")
    refused = run("generate_keys", "3", "passphrase", "verbose", "-1")
    assert refused.code == ExitCode.KEYS and not Path("keys/exp3").exists()
    assert refused.err == (
        "lowmem-resnet20: error: the first line of passphrase is no passphrase: it has 0 bytes, not 1 to 1024\n"
    )


def test_keys_are_made_for_the_engine_that_is_named(run, faked):
    """By default the native one, for sets that it evaluates."""
    for i, (chosen, engine) in enumerate((
        (("6",), "native"),
        (("5", "engine", "native"), "native"),
        (("6", "engine", "openfhe"), "openfhe"),
        (("1", "engine", "openfhe"), "openfhe"),
        (("1",), "openfhe"),
    )):  # fmt: skip
        done = run("generate_keys", *chosen, "keys", str(i))
        assert done.code == 0
        assert re.search(rf"^  engine +{engine}$", done.err, re.MULTILINE), chosen
    made = len(faked)
    for chosen, message in (
        (("generate_keys", "6", "engine", "abacus"), "engine is one of openfhe, native, not 'abacus'"),
        (("generate_keys", "1", "engine", "native"), "parameter set 1 is not for engine native"),
        (("generate_keys", "6", "engine"), "engine "),
        (("load_keys", "6", "engine", "openfhe", "input", "inputs/vale.jpg"), "engine "),
    ):
        done = run(*chosen)
        assert (done.code, done.out) == (ExitCode.USAGE, "")
        first, *rest = done.err.splitlines()
        assert first.startswith(f"lowmem-resnet20: error: {message}"), first
        assert all(line.startswith("hint: ") for line in rest)
    assert len(faked) == made


def test_generate_keys_in_silence_and_as_json(run, faked):
    assert run("generate_keys", "1", "verbose", "-1").out == "keys  keys/exp1\n"
    done = run("json", "generate_keys", "3", "verbose", "-1")
    assert done.err == ""
    line = json.loads(done.out)
    assert line["keys"] == "keys/exp3"
    assert line["peak_bytes"] > 1 << 20


def test_load_keys_runs_the_three_steps(run, faked, server):
    server(WORKS)
    done = run("load_keys", "1", "input", "inputs/vale.jpg")
    assert (done.code, done.out) == (0, RESULT)
    assert re.fullmatch(
        r"time: encrypt .* s, evaluate .* s, decrypt .* s\npeak memory: server .*, client .*\n", done.err
    )
    [picture, result] = [Path(request()["jobs"][0][part]) for part in ("ciphertext", "output")]
    folder = Path("keys/exp1")
    assert faked == [
        ("load_weights", None),
        ("unlock", folder),
        ("encrypt_picture", folder, 1, (3, 32, 32), "inputs/vale.jpg"),
        ("decrypt_group", folder, 1, result),
    ]
    assert "run('server.worker', " in Path("words").read_text()  # and not a word of what it is asked
    assert request() == {
        "set_number": 1,
        "folder": "keys/exp1",
        "jobs": [{"ciphertext": str(picture), "output": str(result), "checkpoints": None}],
        "weights": None,
        "resume": False,
        "anyway": False,
        "ray": "",
    }
    assert not picture.parent.exists()


def test_the_server_is_never_told_where_the_secret_is(run, faked, server):
    server(WORKS + "; env >environment")
    run("load_keys", "1")
    told = Path("words").read_text() + Path("request").read_text()
    assert "client" not in told.replace(str(TESTS / "client"), "")  # where pytest finds tests
    assert "client" not in Path("environment").read_text().replace(str(Path.cwd()), "")


def test_the_server_learns_no_names(run, faked, server, inputs):
    server(WORKS)
    run("load_keys", "1", "input", str(inputs))
    names = [Path(job[part]).name for job in request()["jobs"] for part in ("ciphertext", "output")]
    assert names == [f"{number:02d}.ct" for number in range(1, 13) for _ in range(2)]
    assert "dog" not in Path("request").read_text()


def test_words_come_in_any_order(run, faked, server, inputs):
    server(WORKS)
    picture = str(inputs / "dog.png")
    orders = (
        ["input", picture, "verbose", "-1", "load_keys", "4", "keys", "k", "weights", "w"],
        ["weights", "w", "load_keys", "4", "keys", "k", "input", picture, "verbose", "-1"],
    )
    for number, order in enumerate(orders):
        assert run(*order) == type(run("--version"))(0, result_of(number), "")
        assert request()["weights"] == "w"
        assert ("load_weights", Path("w")) in faked


def test_plain(run, faked, server):
    server(WORKS)
    done = run("load_keys", "1", "plain", "verbose", "-1")
    assert done.out == (
        f"logits        {VECTOR}\nplain logits  {PLAIN_VECTOR}\nplain class   Dog\nplain by      numpy 2\n"
        "difference    0.250 at worst\nclass         Dog\nindex         5\n"
    )


def test_json(run, faked, server):
    server(WORKS)
    done = run("load_keys", "1", "plain", "json", "verbose", "-1", "input", "inputs/vale.jpg")
    assert done.err == ""
    assert done.out.count("\n") == 1
    line = json.loads(done.out)
    assert line["set"] == 1
    assert line["input"] == "inputs/vale.jpg"
    assert (line["class"], line["index"], line["logits"]) == ("Dog", 5, list(fakes.LOGITS))
    assert line["plain"] == {
        "class": "Dog",
        "index": 5,
        "logits": list(fakes.PLAIN_LOGITS),
        "by": "numpy 2",
        "worst_difference": 0.25,
    }
    assert list(line["seconds"]) == ["encrypt", "evaluate", "decrypt"]
    assert line["peak_bytes"]["server"] > 0 < line["peak_bytes"]["client"]


def test_the_servers_cost_is_measured(run, faked, server):
    """Its time from start to end; its memory as it says itself, however much this process has had."""
    server(f"{WORKS}; sleep 0.5")
    started = time.monotonic()
    line = json.loads(run("load_keys", "1", "json").out)
    assert 0.5 < line["seconds"]["evaluate"] < time.monotonic() - started
    assert line["peak_bytes"]["server"] == 1000 < line["peak_bytes"]["client"]


def test_verbose_2_shows_the_precision(run, faked, server):
    server(WORKS)
    done = run("load_keys", "1", "verbose", "2")
    assert done.out == RESULT
    assert "\nconv1\nconv1.refresh\ncompared with the plain network by numpy 2\ntime: " in done.err
    [inspected] = [call for call in faked if call[0] == "inspect_checkpoints"]
    assert str(inspected[3]) == request()["jobs"][0]["checkpoints"]
    assert not inspected[3].exists()


def test_checkpoints_are_kept_where_wanted(run, faked, server):
    server(WORKS)
    run("load_keys", "1", "checkpoints", "kept")
    assert request()["jobs"][0]["checkpoints"] == "kept"


def test_what_the_server_says_is_passed_through(run, faked, server):
    server(f"echo layer1 >&2; {WORKS}")
    assert run("load_keys", "1").err.startswith("layer1\n")


def test_the_servers_progress_is_shown(run, faked, server):
    server(WORKS)
    err = run("load_keys", "1", "verbose", "1").err
    assert re.match(r"evaluating\n\[ .* s\] layer1     block 0 .* 5\.00 GiB\n", err)


def test_two_machines(run, faked, server):
    assert run("encrypt", "1", "output", "picture.ct", "input", "inputs/luis.png").code == 0
    server(f"echo layer1 >&2; {WORKS}")
    done = run("evaluate", "1", "picture.ct", "output", "result.ct", "verbose", "1", "checkpoints", "c", "resume")
    assert done.code == 0
    assert re.fullmatch(r"ciphertext   result\.ct\ntime +\d\.\d s\npeak memory  .*iB\n", done.out)
    assert "layer1\n" in done.err and " layer1     block 0 " in done.err
    asked = request()
    assert (asked["resume"], asked["jobs"][0]["checkpoints"]) == (True, "c")
    done = run("decrypt", "1", "result.ct")
    assert (done.code, done.out, done.err) == (0, RESULT, "")
    done = run("decrypt", "1", "result.ct", "json")
    assert json.loads(done.out) == {"set": 1, "class": "Dog", "index": 5, "logits": list(fakes.LOGITS)}


def serve(*jobs: Job, **fields) -> tuple[list[dict], list[list]]:
    """What the server's process does, in this one: its answer in lines of JSON, and the events of its progress."""
    asked = Evaluation.from_json(Evaluation(1, Path("keys/exp1"), jobs, **fields).to_json())
    with contextlib.redirect_stdout(io.StringIO()) as out:
        worker.evaluate(asked, worker.here)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return [line for line in lines if "progress" not in line], [x["progress"] for x in lines if "progress" in x]


def test_the_servers_side(faked, capsys):
    [line, shared], events = serve(Job(Path("p.ct"), Path("r.ct"), Path("c")))
    assert [step[:2] for step in shared["steps"]] == [["layer1", "block 0"]]
    assert [event[0] for event in events] == ["start", "step", "ended", "close"]
    assert events[:2] == [["start", "evaluating"], ["step", "layer1", "block 0"]]
    assert line["job"] == 0 and line["seconds"] == 2.0 and line["peak_bytes"] > 0
    assert faked == [
        ("Server", Path("keys/exp1"), None, 1, False),
        ("evaluate", Path("keys/exp1"), Path("p.ct"), Path("r.ct"), Path("c"), False),
    ]
    assert capsys.readouterr().err == "lowmem-resnet20: warning: it is slow\nhint: buy another\n"


@pytest.mark.parametrize(
    "asked", [b"", b"null", b"7", b"[]", b'"jobs"', b"{}", b"[" * 100_000, b"\xff", b'{"jobs": 1}']
)
def test_a_request_that_is_none(faked, monkeypatch, capsys, asked):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(asked), "utf-8"))
    assert worker.main() == ExitCode.ENVIRONMENT
    line = json.loads(capsys.readouterr().out)
    assert line["error"].startswith("the server was not given a request: ")
    assert line["exit_code"] == ExitCode.ENVIRONMENT


def test_the_server_goes_on_after_a_bad_ciphertext(faked):
    jobs = [Job(Path(f"{name}.ct"), Path(f"results/{name}.ct")) for name in ("a", "bad", "c")]
    lines, _ = serve(*jobs, resume=True)
    assert [line.get("exit_code") for line in lines[:-1]] == [None, 6, None]
    assert (lines[1]["error"], lines[1]["hint"]) == ("bad.ct is bad", "make it again")
    assert faked[-1][3:] == (Path("results/c.ct"), None, True)


def test_a_bad_ciphertext_is_named_as_the_user_named_it(run, faked, server):
    server(WORKS)
    Path("sent").mkdir()
    fakes.write_ciphertext(Path("sent/a.ct"), "picture", "", b"good")
    fakes.write_ciphertext(Path("sent/b.ct"), "picture", "", b"bad")
    done = run("evaluate", "1", "sent", "output", "back", "json")
    first, second = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 6 and first["ciphertext"] == "back/a.ct"
    assert second == {"set": 1, "input": "sent/b.ct", "error": "sent/b.ct is bad", "exit_code": 6}
    assert done.err == "lowmem-resnet20: error: sent/b.ct is bad\nhint: make it again\n"


def result_of(number: int) -> str:
    """What is printed of the number-th encryption."""
    logits = fakes.logits_of(number)
    index = int(np.argmax(logits))
    return f"logits  {vector(logits)}\nclass   {CIFAR10_CLASSES[index]}\nindex   {index}\n"


def test_several_pictures(run, faked, server, inputs):
    """A folder and files; one that cannot be read is reported, and the others go on."""
    server(WORKS)
    Path("bad.png").write_text("no picture")
    done = run("load_keys", "1", "input", str(inputs / "dog.png"), "bad.png", str(inputs / "vale.jpg"))
    assert done.code == ExitCode.PICTURE
    assert done.out == f"picture  {inputs / 'dog.png'}\n{result_of(0)}picture  {inputs / 'vale.jpg'}\n{result_of(1)}"
    assert done.err.startswith("lowmem-resnet20: error: bad.png is not a JPEG or PNG picture\ntime: encrypt")
    assert "; a picture after the first 2.0 s\n" in done.err
    done = run("load_keys", "1", "input", str(inputs), "json", "plain", "verbose", "-1")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0 and len(lines) == 12
    assert [line["input"] for line in lines] == sorted(str(p) for p in inputs.iterdir() if p.suffix in (".png", ".jpg"))
    assert [line["logits"] for line in lines] == [list(fakes.logits_of(number)) for number in range(2, 14)]
    assert all(line["seconds"]["evaluate"] == 2.0 for line in lines)


def test_a_folder_of_one_picture_is_as_one_of_two(run, faked, server, inputs):
    server(WORKS)
    Path("one").mkdir()
    shutil.copy(inputs / "dog.png", "one/dog.png")
    assert run("load_keys", "1", "input", "one").out.startswith("picture  one/dog.png\n")
    assert run("encrypt", "1", "input", "one", "output", "sent").code == 0
    assert run("evaluate", "1", "sent", "output", "back").code == 0
    assert run("decrypt", "1", "back").out.startswith("picture  one/dog.png\n")
    assert Path("sent/1.ct").is_file() and Path("back/1.ct").is_file()
    assert run("encrypt", "1", "input", str(inputs / "dog.png"), "output", "newdir/").code == 0
    assert Path("newdir/1.ct").is_file()


def test_folders_that_hold_the_same_name(run, faked, server, inputs):
    server(WORKS)
    for name, source in (("a", "dog.png"), ("b", "cat.png")):
        Path(name).mkdir()
        shutil.copy(inputs / source, f"{name}/1.png")
    done = run("load_keys", "1", "input", "a", "b", "json")
    assert [json.loads(line)["input"] for line in done.out.splitlines()] == ["a/1.png", "b/1.png"]


def test_a_folder_that_cannot_be_opened_stops_no_other(run, faked, server, inputs):
    server(WORKS)
    Path("empty").mkdir()
    done = run("load_keys", "1", "input", "empty", str(inputs / "dog.png"), "json")
    failed, answered = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == ExitCode.PICTURE and failed["input"] == "empty" and answered["class"] == "Dog"


def test_a_picture_that_fails_in_the_server_has_its_line(run, faked, server, monkeypatch, inputs):
    server(WORKS)
    seal = fakes.Client.seal

    def bad_dog(client, payload, group):
        return seal(client, b"bad" if "dog" in group[0].name else payload, group)

    monkeypatch.setattr(fakes.Client, "seal", bad_dog)
    dog, cat = str(inputs / "dog.png"), str(inputs / "cat.png")
    done = run("load_keys", "1", "input", dog, cat, "json", "verbose", "-1")
    failed, answered = [json.loads(line) for line in done.out.splitlines()]
    assert (failed["input"], failed["exit_code"], answered["input"]) == (dog, 6, cat)
    assert done.code == 6 and "lowmem-resnet20-" not in done.err + done.out


def test_several_pictures_of_which_none_can_be_read(run, faked, server):
    server("touch started")
    done = run("load_keys", "1", "input", "a.png", "b.png", "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == ExitCode.PICTURE and [line["input"] for line in lines] == ["a.png", "b.png"]
    assert not Path("started").exists()


def test_two_machines_and_several_pictures(run, faked, server, inputs):
    pictures = [str(inputs / name) for name in ("dog.png", "cat.png")]
    done = run("encrypt", "1", "input", *pictures, "output", "sent", "verbose", "-1")
    assert done.out == "ciphertext  sent/1.ct\nciphertext  sent/2.ct\n"
    server(WORKS)
    done = run("evaluate", "1", "sent", "output", "back", "json")
    names = [Path(json.loads(line)["ciphertext"]).name for line in done.out.splitlines()]
    assert done.code == 0 and names == ["1.ct", "2.ct"]
    done = run("decrypt", "1", "back", "json")
    assert [json.loads(line)["input"] for line in done.out.splitlines()] == pictures
    Path("empty").mkdir()
    assert run("decrypt", "1", "empty").err.startswith("lowmem-resnet20: error: empty has no ciphertext in it\n")
    assert run("encrypt", "1", "input", "empty", "output", "o").err.startswith(
        "lowmem-resnet20: error: empty has no picture in it\n"
    )


def classes(out: str) -> dict[str, str]:
    """Class by picture, of lines of JSON."""
    return {line["input"]: line["class"] for line in map(json.loads, out.splitlines()) if "class" in line}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_result_is_paired_with_the_picture_it_answers(run, faked, server, inputs, order):
    """Whatever the order of files and words: today's pictures, named so that sorting changes it."""
    names = ["b.png", "a.png"]
    for name, source in zip(names, ("dog.png", "cat.png"), strict=True):
        shutil.copy(inputs / source, name)
    server(WORKS)
    run("encrypt", "1", "input", *names, "output", "sent")
    run("evaluate", "1", "sent", "output", "back")
    given_words = [names[i] for i in order]
    done = run("decrypt", "1", "back", "input", *given_words, "json")
    assert done.code == 0
    assert classes(done.out) == {"b.png": result_class(0), "a.png": result_class(1)}
    Path("back/1.ct").rename("back/9.ct")  # and whatever the files are called
    done = run("decrypt", "1", "back/9.ct", "back/2.ct", "input", *given_words, "json")
    assert classes(done.out) == {"b.png": result_class(0), "a.png": result_class(1)}


def result_class(number: int) -> str:
    return CIFAR10_CLASSES[int(np.argmax(fakes.logits_of(number)))]


def test_results_of_pictures_not_given_are_refused(run, faked, server, inputs):
    dog, cat = str(inputs / "dog.png"), str(inputs / "cat.png")
    server(WORKS)
    run("encrypt", "1", "input", dog, cat, "output", "sent")
    run("evaluate", "1", "sent", "output", "back")
    done = run("decrypt", "1", "back", "input", cat, "json")
    assert done.code == ExitCode.CIPHERTEXT and list(classes(done.out)) == [cat]
    assert done.err == f"lowmem-resnet20: error: back/1.ct answers {dog}, which is not among the pictures given\n"
    done = run("decrypt", "1", "back/1.ct", "input", cat)
    assert (done.code, done.out) == (ExitCode.CIPHERTEXT, "")
    done = run("decrypt", "1", "back/1.ct", "input", dog, cat)
    assert done.code == ExitCode.CIPHERTEXT
    assert f"no result that was given answers {cat}" in done.err
    fakes.write_ciphertext(Path("foreign.ct"), "logits", "somewhere", b"result")
    done = run("decrypt", "1", "foreign.ct", "input", cat)
    assert (done.code, done.out) == (ExitCode.CIPHERTEXT, "") and "list of encryptions" in done.err


def encrypted_result(run, server, *given_words: str) -> None:
    """r.ct, the result of a picture."""
    server(WORKS)
    run("encrypt", "1", "output", "p.ct", *given_words)
    run("evaluate", "1", "p.ct", "output", "r.ct")


def test_decrypt_compares(run, faked, server):
    encrypted_result(run, server, "input", "inputs/vale.jpg")
    done = run("decrypt", "1", "r.ct", "plain", "input", "inputs/vale.jpg", "checkpoints", "c")
    assert "difference    0.250" in done.out
    assert done.err == "conv1\nconv1.refresh\ncompared with the plain network by numpy 2\n"
    assert "checkpoint" not in done.out


BLACK = "comes to 1.50 times what set 6 can take, at layer2.0.conv1: the result may be wrong"


@pytest.fixture
def black(tmp_path):
    """A picture whose values leave their range, as the stand-ins have it."""
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    return "black.png"


@pytest.mark.parametrize("verbose", ["-1", "0"])
@pytest.mark.parametrize("command", [["load_keys", "6"], ["encrypt", "6", "output", "o.ct"]])
def test_a_picture_out_of_range_is_warned_of_and_goes_on(run, faked, server, black, command, verbose):
    """In silence too: a result that may be wrong is not one to be silent about."""
    server(WORKS)
    done = run(*command, "input", black, "verbose", verbose)
    assert done.code == 0 and done.out
    lines = done.err.splitlines()
    assert lines[:2] == [
        f"lowmem-resnet20: warning: black.png {BLACK}",
        "hint: give import_weights pictures like this one to calibrate on",
    ]
    assert len(lines) == 2 or verbose == "0"
    assert [call[0] for call in faked if call[0] != "unlock"][1] == "encrypt_picture"


def test_programs_read_how_far_values_come(run, faked, server, black, inputs):
    server(WORKS)
    for picture, reached, warnings in (
        (str(inputs / "dog.png"), 0.75, []),
        (black, 1.5, [f"black.png {BLACK}"]),
    ):
        for command in ("load_keys 6", "encrypt 6 output p.ct", "evaluate 6 p.ct output r.ct", "decrypt 6 r.ct"):
            named = [] if command.startswith("evaluate") else ["input", picture]
            line = json.loads(run(*command.split(), *named, "json", "verbose", "-1").out)
            if named:
                assert line["range"] == {"layer": "layer2.0.conv1", "reached": reached}
                assert line["warnings"] == warnings
    assert "warnings" not in json.loads(run("decrypt", "6", "r.ct", "json").out)


def test_logits_unlike_the_plain_networks_are_warned_of(run, faked, server, monkeypatch):
    encrypted_result(run, server, "input", "inputs/vale.jpg")
    wrong = fakes.LOGITS + np.array([0, 7.5, *[0] * 8])
    monkeypatch.setattr(fakes.Client, "decrypt_group", lambda *_: wrong[None])
    message = "inputs/vale.jpg: a logit is 7.50 from the plain network's: the result may be wrong"
    for command in (["load_keys", "1"], ["decrypt", "1", "r.ct"]):
        done = run(*command, "input", "inputs/vale.jpg", "json", "verbose", "-1")
        line = json.loads(done.out)
        assert done.code == 0 and line["class"] == "Dog" and line["warnings"] == [message]
        assert done.err.startswith(f"lowmem-resnet20: warning: {message}\nhint: a value left its range, or")
    assert run("decrypt", "1", "r.ct").err == ""  # the picture is not looked at


NOTHING_GIVEN = {"epsilon": None, "classes": None, "logits": None, "name": "", "side": 0}


def test_few_pictures_to_calibrate_on_are_warned_of(run, faked):
    done = run("import_weights", "a.npz", "b", "pictures", "few", "logits", "l.npy", "verbose", "-1")
    assert (done.code, done.out) == (0, "weights  b\n")
    assert done.err == (
        "lowmem-resnet20: warning: only 2 of the pictures differ and have more than one colour: "
        "the values of others may leave the ranges found\nhint: give hundreds of pictures, of all classes\n"
    )


def test_import_weights(run, faked):
    done = run("import_weights", "a.npz", "b", "pictures", "p", "mean", "0,0,0", "std", "1", "verbose", "-1")
    assert done.out == "weights  b\n"
    assert faked == [("import_weights", Path("a.npz"), Path("b"), Path("p"), (0.0,) * 3, (1.0,), NOTHING_GIVEN)]
    assert done.err == (
        "lowmem-resnet20: warning: nothing was compared with the source's own answers (batch norm eps taken: 1e-05)\n"
        "hint: give logits FILE, or pictures in folders named by class\n"
    )


def test_import_weights_takes_what_is_known_beside_them(run, faked):
    words = ("classes", "c.txt", "logits", "l.npy", "name", "Signs", "side", "16", "eps", "1e-3")
    done = run("import_weights", "a", "b", "pictures", "p", *words)
    given = {"classes": Path("c.txt"), "logits": Path("l.npy"), "name": "Signs", "side": 16, "epsilon": 1e-3}
    assert faked[0][-1] == given and done.err == "" and "difference      1e-06\n" in done.out


def test_import_weights_says_what_it_read(run, faked):
    lines = run("import_weights", "a.pt", "b", "pictures", "p").out.splitlines()
    rows = [("weights", "b"), ("network", "ResNet-20"), ("classes", "CIFAR-10"), ("normalisation", "words")]
    rows += [("parameters", "272474"), ("pictures", "3"), ("largest bound", "7.25"), ("batch norm eps", "1e-05")]
    assert lines[:8] == [f"{name:<14}  {value}" for name, value in rows]
    line = json.loads(run("import_weights", "a.pt", "b", "pictures", "p", "eps", "0.1", "json").out)
    assert line["largest_bound"] == 7.25 and line["difference"] is None and line["batch_norm_eps"] == 0.1
    assert line["warnings"] == ["nothing was compared with the source's own answers (batch norm eps taken: 0.1)"]


def test_import_weights_says_on_how_many_pictures_they_are_right(run, faked):
    done = run("import_weights", "a.pt", "b", "pictures", "labelled")
    assert "right, plain    1 of 20\nright, set 6    2 of 20\n" in done.out
    assert "warning: it is right on only 1 of 20 labelled pictures\nhint: are mean, std, eps and the order" in done.err
    line = json.loads(run("import_weights", "a.pt", "b", "pictures", "labelled", "json").out)
    assert line["right"] == {"plain": [1, 20], "set 6": [2, 20]}


def test_self_test(run, faked):
    assert run("test").out.startswith("test     passed\n")
    assert json.loads(run("test", "json").out)["test"] == "passed"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_that_wants_it(run, faked, server, monkeypatch):
    encrypted_result(run, server)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    main(["decrypt", "1", "r.ct"], out, io.StringIO())
    assert "\x1b[1;32mDog\x1b[0m" in out.getvalue()
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv("NO_COLOR", "")
        monkeypatch.setenv(name, value)
        out, err = Terminal(), Terminal()
        main(["decrypt", "1", "r.ct"], out, err)
        assert main(["x"], out, err) == ExitCode.USAGE
        assert "\x1b" not in out.getvalue() + err.getvalue(), name


# --- without a word ---------------------------------------------------------------------------------------


def test_without_a_word_keys_are_made_for_one_picture(run, faked, server, temporary):
    """What it takes is said before it begins; the keys go with the run, and the next commands make one's own."""
    server(WORKS)
    done = run()
    assert (done.code, done.out) == (0, RESULT)
    first, *_ = done.err.splitlines()
    assert re.fullmatch(
        r"there are no keys in keys/exp6: making some for this run alone: 1\.\d GB in .*/tmp/lowmem-\S+, some 20 s",
        first,
    )
    (_, number, folder), *rest = [call for call in faked if call[0] in ("generate_keys", "encrypt_picture")]
    assert (number, folder.parent.parent, folder.name) == (6, temporary, "exp6")
    assert rest == [("encrypt_picture", folder, 6, (3, 32, 32), "inputs/luis.png")]
    assert "\nclassifying inputs/luis.png, some 30 s\n" in done.err
    assert done.err.endswith(
        "next:  lowmem-resnet20 generate_keys 6\n       lowmem-resnet20 load_keys 6 input inputs/vale.jpg plain\n"
    )
    assert list(temporary.iterdir()) == [] and not Path("keys").exists()


def test_without_a_word_the_keys_that_are_there_are_taken(run, faked, server, temporary):
    server(WORKS)
    Path("keys/exp6").mkdir(parents=True)
    done = run()
    assert (done.code, done.out) == (0, RESULT)
    assert done.err.startswith("classifying inputs/luis.png, some 30 s\n")
    assert [call[1] for call in faked if call[0] == "encrypt_picture"] == [Path("keys/exp6")]
    assert not [call for call in faked if call[0] == "generate_keys"]
    assert done.err.endswith(
        "next:  lowmem-resnet20 load_keys 6 input inputs/vale.jpg plain\n       lowmem-resnet20 page 6\n"
    )
    assert list(temporary.iterdir()) == []


def test_without_a_word_what_fails_is_told_and_no_keys_stay(run, faked, server, temporary):
    server("exit 0")
    done = run()
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    assert done.err.endswith("lowmem-resnet20: error: the server ended without writing a result\n")
    assert list(temporary.iterdir()) == []


def test_the_commands_that_come_next_are_ones():
    for example in words.EXAMPLES:
        assert words.parse(example.split()).command == example.split()[0]


# --- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_words", "message", "hint"),
    [
        ("verbose 1", "no command given", "lowmem-resnet20 --help"),
        ("load_key 1", "unknown word 'load_key'", "did you mean load_keys?"),
        ("load-keys 1", "unknown word 'load-keys'", "did you mean load_keys?"),
        ("load_keys 1 plian", "unknown word 'plian'", "did you mean plain?"),
        ("load_keys 1 PLAIN", "unknown word 'PLAIN'", "did you mean plain?"),
        ("load_keys 1 --plain", "unknown word '--plain'", "did you mean plain?"),
        ("--verbos 1 load_keys 1", "unknown word '--verbos'", "did you mean verbose?"),
        ("load_keys 1 dog.PNG", "unknown word 'dog.PNG'", "did you mean: input dog.PNG?"),
        ("-x.png", "unknown word '-x.png'", "a file of that name is written ./-x.png"),
        ("load_keys 1 input -x.png", "unknown word '-x.png'", "a file of that name is written ./-x.png"),
        ("load_keys 1 input -horse.png", "unknown word '-horse.png'", "a file of that name is written ./-horse.png"),
        ("load_keys 1 input --help.png", "unknown word '--help.png'", "a file of that name is written ./--help.png"),
        ("decrypt 1 -r.ct", "unknown word '-r.ct'", "a file of that name is written ./-r.ct"),
        ("load_keys 1 input=x.png", "unknown word 'input=x.png'", "did you mean: input x.png?"),
        ("load_keys 1 --input=x.png", "unknown word '--input=x.png'", "did you mean: input x.png?"),
        ("load_keys 1 input a.png verbose=-1", "unknown word 'verbose=-1'", "did you mean: verbose -1?"),
        ("evaluate 1 a.ct output=b.ct", "unknown word 'output=b.ct'", "did you mean: output b.ct?"),
        ("load_keys 1 plain=", "unknown word 'plain='", "did you mean: plain?"),
        ("load_keys 1 plain=yes", "unknown word 'plain=yes'", "did you mean: plain?"),
        ("load_keys=1", "unknown word 'load_keys=1'", "did you mean: load_keys 1?"),
        ("load_keys 1 input = x.png", "input = is written without =", "such as: input FILE .."),
        ("load_keys 1 x.webp", "unknown word 'x.webp'", "did you mean: input x.webp?"),
        ("load_keys 1 image x.png", "unknown word 'image'", "did you mean input?"),
        (
            "generate_keys 1 passphrase secret",
            "passphrase takes no value",
            f"passphrase: {words.OPTIONS['passphrase'].help}",
        ),
        ("generate_keys 1 passphrase enigne native", "unknown word 'enigne'", "did you mean engine?"),
        (
            "generate_keys 1 passphrase severe",
            "passphrase takes no value",
            f"passphrase: {words.OPTIONS['passphrase'].help}",
        ),
        ("generate_keys 1 a.png", "unknown word 'a.png'", "no more belongs to generate_keys than this: "),
        ("generate_keys 1 https://a.b", "unknown word 'https://a.b'", "no more belongs to generate_keys than this: "),
        ("generate_keys 1 input=a", "unknown word 'input=a'", "no more belongs to generate_keys than this: "),
        ("generate_keys 1 run", "unknown word 'run'", "no more belongs to generate_keys than this: "),
        ("generate_keys 1 --plain", "unknown word '--plain'", "see:"),
        ("encrypt 1 input a.png severe", "encrypt needs output CT", "see:"),
        ("load_keys 1 json true", "json takes no value", f"json: {words.OPTIONS['json'].help}"),
        ("load_keys 1 plain e", "plain takes no value", f"plain: {words.OPTIONS['plain'].help}"),
        ("test 6", "test takes no value", f"test: {words.COMMANDS['test'].help}"),
        ("load_keys 1 2", "unknown word '2'", "no more belongs to load_keys than this: load_keys N"),
        ("evaluate 1 a.ct output b c", "unknown word 'c'", "no more belongs to output than this: output CT"),
        ("load_keys 1 http://127.0.0.1", "unknown word 'http://127.0.0.1'", "did you mean: server http://127.0.0.1?"),
        ("load_keys 1 -i x.png", "unknown word '-i'", "did you mean input?"),
        ("load_keys 1 -v 2", "unknown word '-v'", "did you mean verbose?"),
        ("encrypt 1 -o p.ct", "unknown word '-o'", "did you mean output?"),
        ("evaluate 1 a.ct out b.ct", "unknown word 'out'", "did you mean output?"),
        ("classify x.png", "unknown word 'classify'", "did you mean load_keys?"),
        ("version", "unknown word 'version'", "did you mean --version?"),
        ("-V", "unknown word '-V'", "did you mean --version?"),
        ("load_keys 1 a.ct", "unknown word 'a.ct'", "right after the command and its N"),
        ("load_keys exp2", "'exp2' is not the number of a parameter set", "did you mean 2?"),
        ("load_keys keys/exp6/", "'keys/exp6/' is not the number of a parameter set", "did you mean 6?"),
        ("load_keys -7x", "unknown word '-7x'", "see:"),
        ("load_keys", "load_keys needs N after it", "see:"),
        ("load_keys plain", "load_keys needs N after it, not the word plain", "see:"),
        ("load_keys keys/exp12/", "'keys/exp12/' is not the number of a parameter set", "did you mean 12?"),
        ("load_keys one", "'one' is not the number of a parameter set", "such as 1"),
        ("load_keys -1", "'-1' is not the number of a parameter set", "such as 1"),
        ("load_keys 9", "there is no parameter set 9", "the sets are 1, 2, 3, 4"),
        ("generate_keys 0", "there is no parameter set 0", "the sets are 1, 2, 3, 4"),
        ("load_keys 1 load_keys 1", "load_keys is given twice", ""),
        ("load_keys 1 plain plain", "plain is given twice", ""),
        ("load_keys 1 input a input b", "input is given twice", ""),
        ("load_keys 1 resume", "resume does not go with load_keys", "see:"),
        ("load_keys 1 generate_keys 1", "two commands: load_keys and generate_keys", "give one at a time"),
        ("load_keys 1 help", "two commands: load_keys and help", "give one at a time"),
        ("load_keys 1 input", "input needs FILE .. after it", "see:"),
        ("load_keys 1 input plain", "input needs FILE .. after it, not the word plain", "./plain"),
        ("load_keys 1 input a.png plian", "unknown word 'plian'", "did you mean plain?"),
        ("load_keys 1 verbose", "verbose needs V after it", "see:"),
        ("load_keys 1 verbose 3", "verbose is one of -1, 0, 1, 2, not '3'", ""),
        ("load_keys 1 verbose high", "verbose is one of -1, 0, 1, 2, not 'high'", ""),
        ("encrypt 1", "encrypt needs output CT", "see:"),
        ("evaluate 1 a.ct", "evaluate needs output CT", "see:"),
        ("evaluate 1", "evaluate needs CT .. after it", "see:"),
        ("evaluate 1 a.ct output b.ct plain", "plain does not go with evaluate", "see:"),
        ("generate_keys 1 resize", "resize does not go with generate_keys", "see:"),
        ("decrypt 1 a.ct plain", "to compare with the plain model, decrypt needs input FILE", "see:"),
        ("decrypt 1 a.ct checkpoints c", "to compare with the plain model, decrypt needs input FILE", "see:"),
        (
            f"fetch 6-{24 * '0'} server http://127.0.0.1:1 plain",
            "to compare with the plain model, fetch needs input FILE",
            "see:",
        ),
        ("import_weights a b", "import_weights needs pictures PATH", "see:"),
        ("import_weights a b pictures p mean 1,2", "'1,2' is not one or three numbers", "such as 0.49,0.48,0.45"),
        ("import_weights a b pictures p std 1,1,nan", "'1,1,nan' has numbers that are not finite", ""),
        ("import_weights a b pictures p eps 1e5", "'1e5' is not a number from 0 to 1", "such as 1e-3"),
        ("import_weights a b pictures p eps nan", "'nan' is not a number from 0 to 1", "such as 1e-3"),
        ("import_weights a b pictures p eps small", "'small' is not a number from 0 to 1", "such as 1e-3"),
        ("import_weights a b pictures p std 1,0,1", "'1,0,1' has numbers that are not above 0", ""),
        ("import_weights a b pictures p side 28", "'28' is not the side of pictures", "one of 4, 8, 16, 32, 64, "),
    ],
)
def test_usage_errors(run, given_words, message, hint):
    done = run(*given_words.split())
    assert done.code == ExitCode.USAGE == 2
    assert done.out == ""
    first, *rest = done.err.splitlines()
    assert first == f"lowmem-resnet20: error: {message}"
    assert (rest == []) if not hint else (len(rest) == 1 and rest[0].startswith("hint: ") and hint in rest[0])


def test_words_in_quotes_together(run):
    done = run("load-keys 6 plain")
    assert done.err.splitlines() == [
        "lowmem-resnet20: error: unknown word 'load-keys 6 plain'",
        "hint: without quotes around all of it: load_keys 6 plain",
    ]


def test_the_spellings_that_are_hinted_at_work(run, faked, inputs):
    """Files named like options or like words."""
    data = (inputs / "dog.png").read_bytes()
    for name in ("-x.png", "--help.png", "input=x.png", "plain"):
        Path(name).write_bytes(data)
        done = run("encrypt", "1", "output", "o.ct", "input", f"./{name}", "verbose", "-1")
        assert (done.code, done.err) == (0, ""), name
        assert faked[-1][4] == name
    assert run("encrypt", "1", "output", "o.ct", "input", "input=x.png").code == 0  # a file there is a file
    assert run("encrypt", "1", "output", "o.ct", "--", "input", "-x.png").code == 0


def test_an_empty_name_is_no_name(run):
    assert run("load_keys", "1", "input", "").err.startswith(
        "lowmem-resnet20: error: '' cannot be the name of a file\n"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", "there is no picture absent.png"),
        ("tmp", "tmp has no picture in it"),
        ("text.png", "text.png is not a JPEG or PNG picture"),
        ("../" * 2 + "absent\n\x1b[31m.png", r"there is no picture ../../absent\n\x1b[31m.png"),
    ],
)
def test_picture_errors(run, faked, name, message):
    Path("text.png").write_text("hello")
    Path("tmp").mkdir()
    for command in (["load_keys", "1"], ["encrypt", "1", "output", "o.ct"]):
        done = run(*command, "input", name)
        assert (done.code, done.out) == (ExitCode.PICTURE, "")
        assert done.err.splitlines()[0] == f"lowmem-resnet20: error: {message}"
    assert not Path("o.ct").exists()


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 7])
def test_the_servers_exit_codes_are_passed_on(run, faked, server, code):
    server(f"echo 'lowmem-resnet20: error: something' >&2; exit {code}")
    done = run("load_keys", "1")
    assert (done.code, done.out) == (code, "")
    assert done.err == "lowmem-resnet20: error: something\n"
    assert not [call for call in faked if call[0] == "decrypt_group"]


def test_what_the_server_cannot_do_at_all_is_an_error_as_any(run, faked, server):
    told = json.dumps({"error": "keys/exp1/server is missing", "hint": "copy it", "exit_code": 4})
    server(f"echo '{told}'; exit 4")
    done = run("load_keys", "1")
    assert (done.code, done.out) == (ExitCode.KEYS, "")
    assert done.err == "lowmem-resnet20: error: keys/exp1/server is missing\nhint: copy it\n"


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        ("kill -KILL $$", "the server was killed by SIGKILL", "memory"),
        ("kill -SEGV $$", "the server was killed by SIGSEGV", ""),
        ("kill -ABRT $$", "the server was killed by SIGABRT", "are the keys of this version and set?"),
        ("exit 77", "the server ended with exit code 77", ""),
        ("exit 0", "the server ended without writing a result", ""),
    ],
)
def test_a_server_that_dies(run, faked, server, monkeypatch, tmp_path, script, message, hint):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    server(script)
    done = run("load_keys", "1")
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    first, *rest = done.err.splitlines()
    assert first == f"lowmem-resnet20: error: {message}"
    assert len(rest) == bool(hint)
    assert hint in "".join(rest)
    assert list((tmp_path / "tmp").iterdir()) == []


def failing(error: BaseException):
    def fails(*_, **__):
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "code", "message", "hint"),
    [
        (CiphertextError("r.ct is bad", "make it again"), 6, "r.ct is bad", "make it again"),
        (MemoryError(), 7, "there is not enough memory", "close"),
        (
            ImportError("libc: GLIBC_2.38", name="openfhe.openfhe"),
            7,
            "OpenFHE cannot be loaded: libc: GLIBC_2.38",
            "3.10",
        ),
        (ImportError("no numpy", name="numpy"), 7, "a package cannot be loaded: no numpy", "install"),
        (PermissionError(13, "x", "r.ct"), 7, "cannot use r.ct: Permission denied", "permission"),
        (RuntimeError("can't start new thread"), 7, "no more threads can be started", "ulimit -u"),
        (RuntimeError("two\nlines"), 1, r"unexpected RuntimeError: two\nlines", "LOWMEM_RESNET20_DEBUG=1"),
    ],
)
def test_errors_below(run, faked, server, monkeypatch, error, code, message, hint):
    encrypted_result(run, server)
    monkeypatch.setattr(fakes.Client, "decrypt_group", failing(error))
    done = run("decrypt", "1", "r.ct")
    assert (done.code, done.out) == (code, "")
    first, second = done.err.splitlines()
    assert first == f"lowmem-resnet20: error: {message}"
    assert second.startswith("hint: ")
    assert hint in second


def test_a_system_that_has_not_one_thread_more(run, capsys, monkeypatch):
    """Neither for the client nor for the server, both of which start with one; nothing stays blocked."""
    monkeypatch.setattr("threading.Thread.start", failing(RuntimeError("can't start new thread")))
    message, hint = "no more threads can be started", "are there too many processes, by ulimit -u too?"
    done = run("test")
    assert (done.code, done.err) == (7, f"lowmem-resnet20: error: {message}\nhint: {hint}\n")
    assert worker.main() == 7
    assert json.loads(capsys.readouterr().out) == {"error": message, "hint": hint, "exit_code": 7}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(ENDING_SIGNALS)


def test_debugging_shows_where(run, faked, monkeypatch):
    monkeypatch.setattr("lowmem_resnet20.client.selftest.self_test", failing(RuntimeError("x")))
    monkeypatch.setenv("LOWMEM_RESNET20_DEBUG", "1")
    assert "Traceback" in run("test").err


def test_ctrl_c_below(run, faked, monkeypatch):
    monkeypatch.setattr("lowmem_resnet20.client.selftest.self_test", failing(KeyboardInterrupt()))
    done = run("test")
    assert (done.code, done.out, done.err) == (130, "", "")


def test_noise_is_no_result(run, faked, server, monkeypatch):
    encrypted_result(run, server)
    monkeypatch.setattr(fakes.Client, "decrypt_group", lambda *_: np.full((1, 10), np.nan))
    done = run("decrypt", "1", "r.ct", "json")
    assert done.code == ExitCode.CIPHERTEXT
    assert json.loads(done.out)["error"] == "the decrypted logits are not finite numbers"
    assert "not finite" in done.err


# --- files that are there already -------------------------------------------------------------------------


@pytest.fixture
def sent(faked, inputs) -> Path:
    """A folder of one encrypted picture, a.ct; keys, and a picture of one's own, in the working directory."""
    Path("sent").mkdir()
    fakes.write_ciphertext(Path("sent/a.ct"), "picture", "", b"picture")
    for side in ("client", "server"):
        Path("keys/exp1", side).mkdir(parents=True)
    Path("keys/exp1/client/secret.key").write_text("secret")
    Path("keys/exp12").mkdir()
    Path("keys/exp12/secret.key").write_text("secret")
    shutil.copy(inputs / "dog.png", "own.png")
    shutil.copy(inputs / "dog.png", "keys/exp1/not a key.png")
    return Path("sent")


@pytest.mark.parametrize(
    ("given_words", "message"),
    [
        ("encrypt 1 input own.png output own.png", "output own.png would overwrite own.png, which is read"),
        ("encrypt 1 input own.png output ./sent/../own.png", "would overwrite own.png"),
        ("encrypt 1 input own.png output link", "output link would overwrite own.png"),
        ("encrypt 1 input link output own.png", "output own.png would overwrite link"),
        ("encrypt 1 input own.png output hard", "output hard would overwrite own.png"),
        ("encrypt 1 input own.png output keys/exp1/client/secret.key", "would overwrite keys/exp1/client/secret.key"),
        ("encrypt 2 input own.png output keys/exp1/client/secret.key", "would overwrite keys/exp1/client/secret.key"),
        ("encrypt 1 input own.png output keys/exp12/secret.key", "would overwrite keys/exp12/secret.key"),
        ("import_weights w keys/exp1/client/secret.key pictures own.png", "overwrite keys/exp1/client/secret.key"),
        ("encrypt 1 input own.png output w weights w", "output w would overwrite w"),
        ("evaluate 1 sent/a.ct output sent/a.ct", "output sent/a.ct would overwrite sent/a.ct"),
        ("evaluate 1 sent output sent", "output sent/a.ct would overwrite sent/a.ct"),
        ("evaluate 1 sent/a.ct output sent", "output sent/a.ct would overwrite sent/a.ct"),
        ("evaluate 1 sent output same", "output same/a.ct would overwrite sent/a.ct"),
        ("evaluate 1 c/conv1.ct output r.ct checkpoints c", "output c/conv1.ct would overwrite c/conv1.ct"),
        ("evaluate 1 sent/a.ct output c/conv1.ct checkpoints c", "c/conv1.ct and c/conv1.ct are the same output"),
        ("import_weights w w pictures sent/../own.png", "output w would overwrite w"),
        ("import_weights w own.png pictures own.png", "output own.png would overwrite own.png"),
        ("import_weights w own.png pictures other.npz logits own.png", "output own.png would overwrite own.png"),
        ("import_weights sent sent/a.ct pictures own.png", "output sent/a.ct would overwrite sent/a.ct"),
        ("load_keys 1 input c/conv1.ct checkpoints c", "output c/conv1.ct would overwrite c/conv1.ct"),
        ("encrypt 1 input own.png output pipe", "pipe is a pipe"),
        ("evaluate 1 sent/a.ct output pipe", "pipe is a pipe"),
        ("import_weights w pipe pictures own.png", "pipe is a pipe"),
        ("encrypt 1 input own.png output to-pipe", "to-pipe is a pipe"),
        ("encrypt 1 input own.png output null", "null is a device"),
        ("evaluate 1 sent/a.ct output null", "null is a device"),
    ],
)
def test_what_is_there_is_not_destroyed(run, sent, server, given_words, message):
    """Refused before any work; each of these ate its input, or the device, in silence."""
    server("touch started")
    Path("link").symlink_to("own.png")
    os.link("own.png", "hard")
    Path("same").symlink_to("sent")
    Path("w").write_text("weights")
    Path("c").mkdir()
    shutil.copy("own.png" if "load_keys" in given_words else "sent/a.ct", "c/conv1.ct")
    os.mkfifo("pipe")
    Path("to-pipe").symlink_to("pipe")
    if "null" in given_words:
        try:
            os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("this user may not make devices")
    before = snapshot()
    done = run(*given_words.split())
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert message in done.err.splitlines()[0]
    assert snapshot() == before
    assert not {call[0] for call in fakes.calls} & {"encrypt_picture", "evaluate", "import_weights"}


def test_a_set_and_its_jobs_may_have_a_number_of_two_digits():
    job = f"12-{24 * '0'}"
    assert words.parse(["fetch", job, "server", "http://127.0.0.1:1"]).set_number == 12


def snapshot() -> dict[str, tuple]:
    """What is in the working directory, links not followed."""
    paths = [path for path in Path().rglob("*") if not path.is_dir() or path.is_symlink()]
    status = {str(path): path.lstat() for path in paths}
    return {
        name: (s.st_ino, s.st_mode, s.st_rdev, Path(name).read_bytes() if stat.S_ISREG(s.st_mode) else b"")
        for name, s in status.items()
    }


def test_an_output_that_is_a_link_is_written_through(run, sent, server):
    server(WORKS)
    Path("elsewhere").mkdir()
    Path("r.ct").symlink_to("elsewhere/r.ct")
    assert run("evaluate", "1", "sent/a.ct", "output", "r.ct").code == 0
    assert Path("r.ct").is_symlink()


@pytest.mark.parametrize("command", ["evaluate 1 sent/a.ct", "encrypt 1 input own.png"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(run, sent, server, command):
    server("touch started")
    done = run(*command.split(), "output", "absent/r.ct")
    assert done.code == ExitCode.ENVIRONMENT
    assert done.err.splitlines() == [
        "lowmem-resnet20: error: cannot write absent/r.ct: No such file or directory",
        "hint: make its folder first",
    ]
    assert not Path("started").exists() and not [call for call in fakes.calls if call[0] == "encrypt_picture"]


# --- keys and results on the disk -------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["./keys", "keys/exp1", "renamed"])
def test_the_folder_of_a_set_may_be_named_itself(run, sent, server, named):
    server(WORKS)
    Path("renamed").symlink_to("keys/exp1")
    assert run("load_keys", "1", "keys", named, "input", "own.png").code == 0
    expected = "renamed" if named == "renamed" else "keys/exp1"
    assert request()["folder"] == expected


def test_new_keys_are_made_under_the_name_given(run, faked):
    assert run("generate_keys", "1", "keys", "here/exp1", "verbose", "-1").out == "keys  here/exp1\n"
    assert run("generate_keys", "2", "keys", "here", "verbose", "-1").out == "keys  here/exp2\n"
    again = run("generate_keys", "1", "keys", "here/exp1")
    assert "here/exp1 exists already" in again.err


@pytest.mark.parametrize("command", ["load_keys 1", "encrypt 1 output p.ct"])
def test_a_secret_key_that_will_be_refused_is_refused_at_once(run, sent, server, command):
    server("touch started")
    Path("keys/exp1/client/refused").touch()
    done = run(*command.split(), "input", "own.png")
    assert done.code == ExitCode.KEYS and "can be read by others" in done.err
    assert not Path("started").exists() and not [call for call in fakes.calls if call[0] == "encrypt_picture"]


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def kept_result(done, temporary: Path) -> Path:
    """The one file that is left in the temporary folder, as the line on stderr names it."""
    [path] = [path for path in temporary.rglob("*") if path.is_file()]
    assert path.parent.stat().st_mode & 0o077 == 0
    [line] = [line for line in done.err.splitlines() if line.startswith("the encrypted result is kept: ")]
    assert line.endswith(f"lowmem-resnet20 decrypt 1 {path.parent} keys keys/exp1")
    return path


@pytest.mark.parametrize("error", [CiphertextError("x"), KeyFolderError("x"), OSError(5, "x"), RuntimeError("x")])
def test_a_result_that_cannot_be_decrypted_is_kept(run, sent, server, monkeypatch, temporary, error):
    server(WORKS)
    decrypt = fakes.Client.decrypt_group
    monkeypatch.setattr(fakes.Client, "decrypt_group", failing(error))
    done = run("load_keys", "1", "input", "own.png")
    assert done.code and done.out == ""
    kept_result(done, temporary)
    monkeypatch.setattr(fakes.Client, "decrypt_group", decrypt)
    again = run(*done.err.split("lowmem-resnet20 ", 1)[1].splitlines()[0].split(), "verbose", "-1")
    assert again.code == 0 and RESULT in again.out


def test_of_several_results_those_that_were_not_told_are_kept(run, sent, server, monkeypatch, temporary, inputs):
    server(WORKS)
    decrypt = fakes.Client.decrypt_group

    def fails_for_the_second(client, result, group):
        if result.path.name == "2.ct":
            raise CiphertextError("x")
        return decrypt(client, result, group)

    monkeypatch.setattr(fakes.Client, "decrypt_group", fails_for_the_second)
    pictures = [str(inputs / name) for name in ("dog.png", "cat.png", "frog.png")]
    done = run("load_keys", "1", "input", *pictures)
    assert done.code == ExitCode.CIPHERTEXT and done.out.count("picture  ") == 2
    assert kept_result(done, temporary).name == "2.ct"


def test_nothing_is_kept_when_all_was_told(run, sent, server, temporary):
    server(WORKS)
    assert run("load_keys", "1", "input", "own.png").code == 0
    assert list(temporary.iterdir()) == []


def test_a_cluster_is_asked_by_the_servers_process(run, sent, server):
    """It is told the address; a picture that workers of the cluster died of is that picture's failure."""
    server(WORKS)
    assert run("evaluate", "1", "sent/a.ct", "output", "r.ct", "ray", "10.0.0.1:6379").code == ExitCode.OK
    assert request()["ray"] == "10.0.0.1:6379"
    answer = '{"job": 0, "seconds": 0, "peak_bytes": 0, "error": "3 workers died", "hint": "memory", "exit_code": 8}'
    other = '{"job": 1, "seconds": 2.0, "peak_bytes": 1000}'
    server(f"cat >request; echo '{answer}'; echo '{other}'")
    done = run("evaluate", "1", "sent/a.ct", "sent/b.ct", "output", "results/", "ray", "auto", "json")
    assert done.code == ExitCode.SERVER
    assert [json.loads(line).get("error") for line in done.out.splitlines()] == ["3 workers died", None]
    assert done.err == "lowmem-resnet20: error: 3 workers died\nhint: memory\n"


def test_memory_is_looked_at_unless_the_user_knows_better(run, sent, server):
    for anyway in (False, True):
        fakes.calls.clear()
        serve(Job(Path("p.ct"), Path("r.ct")), anyway=anyway)
        assert fakes.calls[0] == ("Server", Path("keys/exp1"), None, 1, anyway)
    server(WORKS)
    for command in ("load_keys 1 input own.png anyway", "evaluate 1 sent/a.ct output r.ct anyway"):
        assert run(*command.split()).code == 0
        assert request()["anyway"] is True


# --- as a process -----------------------------------------------------------------------------------------


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=600, check=False, **options
    )


def test_the_module_and_its_exit_code(tmp_path):
    done = python("-m", "lowmem_resnet20", "lod_keys", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lowmem-resnet20: error: unknown word 'lod_keys'\nhint: did you mean load_keys?\n"


def test_a_package_that_fails_while_it_is_loaded(tmp_path):
    """For want of nothing that is an ImportError: of a variable that is its own, or because it fits no other."""
    (tmp_path / "broken" / "numpy").mkdir(parents=True)
    (tmp_path / "broken" / "numpy" / "__init__.py").write_text("raise ValueError('fits no other')")
    for variables, said in (
        ({"NUMPY_MADVISE_HUGEPAGE": "x"}, "invalid literal for int() with base 10: 'x'"),
        ({"PYTHONPATH": str(tmp_path / "broken")}, "fits no other"),
    ):
        done = python("-m", "lowmem_resnet20", "test", cwd=tmp_path, env=os.environ | variables)
        message, hint = done.stderr.splitlines()
        assert message == f"lowmem-resnet20: error: the package numpy cannot be loaded: {said}"
        assert (done.returncode, done.stdout) == (7, "") and hint.startswith("hint: does a variable")


def test_help_and_mistakes_import_nothing_heavy():
    script = (
        "import sys\nfrom lowmem_resnet20.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "print('HEAVY', *{'openfhe', 'torch', 'numpy', 'PIL', 'rich', 'safetensors'} & set(sys.modules))"
    )
    for given_words in (["--help"], ["load_keys", "1", "plian"], ["load_keys"]):
        assert python("-c", script, *given_words).stdout.endswith("HEAVY\n")


def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "lowmem_resnet20", "--help"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("words", ["serve 6 store s", "generate_keys 6"])
def test_a_working_directory_that_has_been_removed(tmp_path, words):
    program = "import os, sys; os.rmdir(os.getcwd()); from lowmem_resnet20.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "")
    assert "lowmem-resnet20: error: the working directory has been removed\nhint: cd to another" in done.stderr


def test_a_full_disk_under_stdout():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lowmem_resnet20", "--help"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 7
    text, _, error = done.stderr.partition("lowmem-resnet20: error: ")
    assert text.startswith("usage: lowmem-resnet20 ") and text.endswith("result.ct\n")
    assert error == "cannot write the result: No space left on device\nhint: free some disk space\n"


LOAD_KEYS = """
import signal, sys
from lowmem_resnet20.machine.interrupt import ENDING_SIGNALS
signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)  # as in the program, where numpy comes after main's start
import fakes
from lowmem_resnet20.cli.main import main
fakes.install()
sys.executable = sys.argv[1]
sys.exit(main(["load_keys", "1"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_kills_the_server_and_leaves_nothing(tmp_path, number):
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho $$\necho $$ >&2\nexec sleep 3600\n")
    stub.chmod(0o700)
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", LOAD_KEYS, str(stub)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, cwd=tmp_path) as process:
        server_id = int(process.stderr.readline())
        [folder] = (tmp_path / "tmp").iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        process.send_signal(number)
        assert process.wait(300) == 128 + number
        assert process.stderr.read() == b""
    assert list((tmp_path / "tmp").iterdir()) == []
    ends(server_id)


# --- fuzz -------------------------------------------------------------------------------------------------

WORD = st.one_of(
    st.sampled_from(
        [*words.COMMANDS, *words.OPTIONS, "1", "2", "-1", "0", "a,b", "1,2,3", "x.png", "--", "-x", "--help"]
    ),
    st.text(max_size=8),
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(WORD, max_size=10))
def test_fuzz_words(given_words):
    try:
        request = words.parse(given_words)
    except UsageError as error:
        assert error.message
    else:
        assert request.command in given_words
        assert request.verbose in words.VERBOSITIES


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(WORD, max_size=6), st.text(max_size=5))
def test_fuzz_command_line(given_words, tail):
    """Whatever is typed, there is an exit code, and an error is a line or two."""
    out, err, done = io.StringIO(), io.StringIO(), []
    with mock.patch.dict(cli._COMMANDS, dict.fromkeys(cli._COMMANDS, lambda *_: done.append(True))):
        code = main([*given_words, tail + "?"], out, err)
    assert code in (ExitCode.OK, ExitCode.USAGE)
    if code:
        assert out.getvalue() == "" and not done
        assert 1 <= len(err.getvalue().splitlines()) <= 2
    else:
        assert done or {"--help", "-h", "help", "--version"} & set(given_words)


@given(st.text())
def test_one_line(text):
    assert "\n" not in one_line(text)
    assert one_line(text).isprintable()


@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=10))
def test_the_class_is_the_greatest_logit(logits):
    result = Classification.of(logits, CIFAR10_CLASSES)
    assert result.logits[result.index] == max(logits)


# --- groups: set 7 ----------------------------------------------------------------------------------------


@pytest.fixture
def ten(inputs) -> list[str]:
    """Ten words: pictures, but for the third and the last."""
    for name in ("bad.png", "worse.png"):
        Path(name).write_bytes(b"not a picture")
    good = sorted(str(path) for path in inputs.iterdir() if path.suffix in (".png", ".jpg"))[:8]
    return [*good[:2], "bad.png", *good[2:], "worse.png"]


def test_pictures_go_in_groups_and_one_that_cannot_be_read_leaves_its_place_empty(run, faked, server, ten):
    """Eight and two; each picture has its line, its logits, its share of the group's time, and the group's."""
    server(WORKS)
    done = run("load_keys", "7", "input", *ten, "json", "verbose", "-1")
    lines = [json.loads(line) for line in done.out.splitlines()]
    failed, told = lines[:2], lines[2:]
    assert done.code == ExitCode.PICTURE and [line["input"] for line in failed] == ["bad.png", "worse.png"]
    good = [word for word in ten if word not in ("bad.png", "worse.png")]
    assert [line["input"] for line in told] == good
    assert [line["logits"] for line in told] == [list(fakes.logits_of(number)) for number in range(8)]
    assert [line["group"]["place"] for line in told] == [1, 2, 4, 5, 6, 7, 8, 1]
    assert [line["group"]["pictures"] for line in told] == [7] * 7 + [1]
    assert [line["group"]["seconds"]["evaluate"] for line in told] == [2.0] * 8
    assert [line["seconds"]["evaluate"] for line in told] == [2 / 7] * 7 + [2.0]
    groups = [call[3] for call in faked if call[0] == "encrypt_group"]
    assert groups == [[word if word in good else None for word in ten[:8]], [ten[8], None]]
    assert len(request()["jobs"]) == 2
    assert sum(call[0] == "decrypt_group" for call in faked) == 2  # once a group


def test_a_group_of_which_no_picture_can_be_read_is_no_job(run, faked, server, ten):
    server(WORKS)
    done = run("load_keys", "7", "input", *ten[:8], "worse.png", "json", "verbose", "-1")
    assert done.code == ExitCode.PICTURE and len(request()["jobs"]) == 1


def test_a_group_that_fails_in_the_server_has_a_line_for_each_picture(run, faked, server, monkeypatch, ten):
    server(WORKS)
    seal = fakes.Client.seal
    monkeypatch.setattr(fakes.Client, "seal", lambda client, payload, group: seal(client, b"bad", group))
    done = run("load_keys", "7", "input", *ten[:2], *ten[3:5], "json", "verbose", "-1")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 6 and [line["input"] for line in lines] == [*ten[:2], *ten[3:5]]
    assert done.err.count("error:") == 1 and f"the encryption of {', '.join([*ten[:2], *ten[3:5]])} is bad" in done.err


def test_time_of_groups_is_told_by_picture(run, faked, server, ten):
    server(WORKS)
    done = run("load_keys", "7", "input", *ten)
    assert "; a group after the first 2.0 s; " in done.err and " of evaluation a picture\n" in done.err


@pytest.mark.parametrize("pictures, advised", [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("command", [["load_keys", "7"], ["encrypt", "7", "output", "sent/"]])
def test_for_few_pictures_set_6_is_the_better_choice(run, faked, server, ten, pictures, advised, command):
    server(WORKS)
    told = run(*command, "input", *ten[3 : 3 + pictures]).err
    advice = "set 7 takes as long for one picture as for 8: for fewer than 3, set 6 is the better choice\n"
    assert (advice in told) == advised
    assert "better choice" not in run("load_keys", "6", "input", ten[3]).err


def test_two_machines_and_a_group(run, faked, server, ten):
    good = [*ten[:2], *ten[3:5]]
    done = run("encrypt", "7", "input", *good[:2], "bad.png", *good[2:], "output", "sent", "json")
    failed, *lines = [json.loads(line) for line in done.out.splitlines()]
    assert failed["input"] == "bad.png" and [line["input"] for line in lines] == good
    assert {line["ciphertext"] for line in lines} == {"sent/1.ct"} and [line["place"] for line in lines] == [1, 2, 4, 5]
    server(WORKS)
    assert run("evaluate", "7", "sent", "output", "back").code == 0
    done = run("decrypt", "7", "back", "json")
    assert [json.loads(line)["input"] for line in done.out.splitlines()] == good
    assert run("decrypt", "7", "back", "input", *good).code == 0
    done = run("decrypt", "7", "back", "input", *good[:3])
    assert f"answers {good[3]}, which is not among the pictures given" in done.err
    assert done.out.count("picture  ") == 3
    fakes.write_ciphertext(Path("back/2.ct"), "logits", "made.up", b"result")
    done = run("decrypt", "7", "back", "json", "verbose", "-1")
    assert [json.loads(line).get("exit_code") for line in done.out.splitlines()] == [None] * 4 + [6] * 8
    fakes.entries.clear()  # another client's list: the places are told by number
    told = re.findall("picture  (.*)", run("decrypt", "7", "back/1.ct").out)
    assert told == [f"back/1.ct, place {place}" for place in range(1, 9)]
