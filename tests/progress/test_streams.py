"""Streams that are closed, full, or of another encoding: results arrive or the exit code says so, and runs go on.

The program runs in a process of its own with stand-ins behind it (fakes.py), under redirections made by a shell.
"""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lowmem_resnet20.cli.main import main
from lowmem_resnet20.cli.output import Printer
from lowmem_resnet20.errors import EnvironmentFault
from lowmem_resnet20.machine.text import one_line
from lowmem_resnet20.progress.display import LineProgress, RichProgress, SilentProgress, make_progress
from lowmem_resnet20.progress.streams import reports

TESTS = Path(__file__).parents[1]
PROGRAM = """
import sys
import fakes
from lowmem_resnet20.cli.main import main
fakes.install()
sys.exit(main())
"""
PASSED = "test     passed\n"
FULL = "lowmem-resnet20: error: cannot write the result: No space left on device\nhint: free some disk space\n"


@pytest.fixture
def shell(tmp_path, inputs):
    """``shell("test", "2>&-")``: the program with these words and redirections; exit code, stdout and stderr."""

    def run(words: str, redirections: str = "", **variables: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(TESTS)} | variables
        command = ["bash", "-c", f'exec "$0" -c "$1" {words} {redirections}', sys.executable, PROGRAM]
        return subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )

    for name in ("dog.png", "cat.png"):
        shutil.copy(inputs / name, tmp_path / name)
    return run


CLOSED_OR_FULL = ["2>&-", "2>/dev/full", "2> >(exec true)", "2>/dev/null", "2</dev/null", "0<&-", "0<&- 2>&-"]


@pytest.mark.parametrize("redirections", CLOSED_OR_FULL)
def test_an_unusable_stderr_costs_neither_result_nor_exit_code(shell, redirections):
    done = shell("generate_keys 1 verbose 1", redirections)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["keys", "keys/exp1"]), done.stderr
    assert shell("generate_keys 1", redirections).returncode == 4  # exists already
    assert shell("load_keys 1 input absent.png", redirections).returncode == 3
    assert shell("lod_keys", redirections).returncode == 2


@pytest.mark.parametrize("redirections", [">/dev/full", ">&-", "1</dev/null"])
def test_a_result_that_stdout_cannot_take_goes_to_stderr(shell, redirections):
    done = shell("test", redirections)
    result, _, error = done.stderr.partition("lowmem-resnet20: error: ")
    assert (done.returncode, done.stdout) == (7, "")
    assert result.startswith(PASSED)
    assert error.startswith("cannot write the result: ") and len(error.splitlines()) <= 2


@pytest.mark.parametrize("redirections", [">/dev/full 2>/dev/full", ">&- 2>&-", "0<&- >&- 2>&-"])
def test_with_no_stream_at_all_the_exit_code_remains(shell, redirections):
    assert shell("test", redirections).returncode == 7
    assert shell("lod_keys", redirections).returncode == 2


def test_a_full_disk_under_stdout_does_not_stop_the_pictures(shell, tmp_path):
    done = shell("encrypt 1 input dog.png cat.png output sent json", ">/dev/full")
    *lines, _, _ = done.stderr.splitlines()
    assert done.returncode == 7 and done.stderr.endswith(FULL)
    assert [json.loads(line)["ciphertext"] for line in lines] == ["sent/1.ct", "sent/2.ct"]
    assert sorted(path.name for path in (tmp_path / "sent").iterdir()) == ["1.ct", "2.ct"]


def test_an_error_before_it_keeps_its_exit_code(shell):
    assert shell("load_keys 1 input absent.png json", ">/dev/full").returncode == 3


def test_results_are_written_as_they_come():
    """A process that is killed afterwards has told what it knew."""
    with open(os.devnull, "w") as nowhere:
        read, write = os.pipe()
        with open(write, "w") as out:
            printer = Printer(out, nowhere)
            for i in range(2):
                printer.json({"i": i})
                assert json.loads(os.read(read, 1000)) == {"i": i}
        os.close(read)


def test_a_closed_descriptor_is_not_taken_by_a_file(shell, tmp_path):
    """OpenFHE complains on descriptor 2, whatever has been opened as that."""
    program = "import os, sys; from lowmem_resnet20.cli.main import main; main(['help']); "
    program += "file = open('x', 'w'); print(file.fileno(), file=file)"
    (tmp_path / "program.py").write_text(program)
    command = ["bash", "-c", f"exec {sys.executable} program.py <&- >&- 2>&-"]
    subprocess.run(command, cwd=tmp_path, check=False, env=os.environ | {"PYTHONPATH": ""})
    assert int((tmp_path / "x").read_text()) > 2


def test_letters_that_the_encoding_lacks_are_escaped(shell, tmp_path):
    (tmp_path / "café.png").write_bytes((tmp_path / "dog.png").read_bytes())
    for encoding in ("ascii", "ascii:strict", "latin-1"):
        done = shell("encrypt 1 input . output sent", PYTHONIOENCODING=encoding)
        assert done.returncode == 0 and "Traceback" not in done.stderr
        assert "caf\\xe9.png" in done.stdout or encoding == "latin-1"
    assert "caf\udce9.png" in done.stdout
    done = shell("load_keys 1 input café", PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, r"lowmem-resnet20: error: there is no picture caf\xe9")


def test_names_that_are_no_text(shell, tmp_path):
    """Bytes that are not UTF-8 are escapes, in JSON too: a lone surrogate makes strict readers refuse the line."""
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes((tmp_path / "dog.png").read_bytes())
    done = shell("encrypt 1 input . output sent json")
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == ["caf\\xe9.png", "cat.png", "dog.png"]
    assert r"\ud" not in done.stdout
    assert "caf\\xe9.png" in shell("encrypt 1 input . output sent").stdout
    assert one_line("a\udce9\ud800\n") == r"a\xe9\ud800\n"


class Broken(io.StringIO):
    """A terminal on which nothing can be written."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError(5, "gone"), BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_no_display_fails(monkeypatch, error):
    monkeypatch.setenv("TERM", "xterm")
    for verbose, kind in ((0, RichProgress), (1, LineProgress), (-1, SilentProgress)):
        with make_progress(verbose, Broken(error)) as progress:
            assert type(progress) is kind
            progress.start("evaluating")
            progress.step("layer1", "block 0")
            progress.message("level: 3")
        assert [step[:2] for step in progress.times] == [("layer1", "block 0")]
    with make_progress(1, None) as progress:
        progress.start("evaluating")


def test_reports_on_a_closed_file_are_lost_in_peace():
    stream = io.StringIO()
    stream.close()
    told = reports(stream)
    told.write("x")
    told.flush()
    assert not told.isatty()
    assert reports(told) is told


def test_a_printer_says_at_the_end_what_was_lost():
    err = io.StringIO()
    printer = Printer(Broken(OSError(28, "x")), err)
    printer.fields({"class": "Dog"})
    printer.fields({"index": "5"})
    assert err.getvalue() == "class  Dog\nindex  5\n"
    with pytest.raises(EnvironmentFault, match="cannot write the result: No space left"):
        printer.results.finish()


def test_a_dumb_terminal_gets_no_codes(monkeypatch, tmp_path):
    """Seen from the terminal's end, with the live display of a slow command."""
    seen = {}
    for name in ("dumb", "xterm"):
        parent, terminal = pty.openpty()
        environment = os.environ | {"TERM": name, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-c", PROGRAM, "generate_keys", "1", "keys", name]
        subprocess.run(command, env=environment, cwd=tmp_path, stdout=terminal, stderr=terminal, check=True)
        os.close(terminal)
        seen[name] = os.read(parent, 100_000)
        os.close(parent)
    assert b"\x1b" not in seen["dumb"] and b"keys/exp1" not in seen["dumb"].replace(b"dumb/exp1", b"")
    assert b"\x1b" in seen["xterm"]


def test_main_takes_what_streams_there_are(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 7
    assert main(["x"]) == 2
