"""Where a passphrase comes from: a terminal, on which it does not show, or a file."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from lowmem_resnet20.cli import passphrase
from lowmem_resnet20.cli.passphrase import FILE_VARIABLE
from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError

ASKING = """
import sys
from lowmem_resnet20.machine.interrupt import ends_at_once
from lowmem_resnet20.cli.passphrase import new_passphrase
with ends_at_once():
    try:
        print(new_passphrase().hex())
    except Exception as error:
        print(type(error).__name__, error)
"""


class Terminal:
    """A process that asks, and the terminal it does so on."""

    def __init__(self) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            environment = {name: value for name, value in os.environ.items() if name != FILE_VARIABLE}
            os.execve(sys.executable, [sys.executable, "-c", ASKING], environment)
        self.said = b""

    def wait_for(self, prompt: bytes) -> None:
        while prompt not in self.said:
            self.said += os.read(self.master, 4096)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def answer(self, prompt: bytes, text: bytes) -> None:
        self.wait_for(prompt)
        while self.echoes():
            time.sleep(0.01)
        os.write(self.master, text + b"\n")

    def end(self) -> int:
        try:
            while more := os.read(self.master, 4096):
                self.said += more
        except OSError:  # the other end is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_it_is_asked_for_twice_and_does_not_show():
    terminal, typed = Terminal(), "näiv é".encode()
    terminal.answer(b"new passphrase of the secret key: ", typed)
    terminal.answer(b"the same again: ", typed)
    assert terminal.end() == 0
    assert re.search(rb"^%s\r$" % typed.hex().encode(), terminal.said, re.MULTILINE)
    assert typed not in terminal.said


def test_two_that_differ():
    terminal = Terminal()
    terminal.answer(b"secret key: ", b"one")
    terminal.answer(b"again: ", b"other")
    assert terminal.end() == 0
    assert b"KeyFolderError the two passphrases differ" in terminal.said


@pytest.mark.parametrize("typed", (b"", b"\x04"), ids=("nothing", "Ctrl-D"))
def test_none(typed):
    terminal = Terminal()
    terminal.answer(b"secret key: ", typed)
    assert terminal.end() == 0
    assert b"KeyFolderError what was typed is no passphrase" in terminal.said


def test_an_interrupt_leaves_the_terminal_as_it_was():
    terminal = Terminal()
    before = Terminal.echoes(terminal)
    terminal.answer(b"secret key: ", b"one")
    terminal.wait_for(b"again: ")
    os.write(terminal.master, b"\x03")
    deadline = time.monotonic() + 60
    while not terminal.echoes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert terminal.echoes() and before
    assert terminal.end() == 128 + signal.SIGINT


def test_without_a_terminal():
    environment = {name: value for name, value in os.environ.items() if name != FILE_VARIABLE}
    command = [sys.executable, "-c", ASKING]
    done = subprocess.run(
        command, input="typed\n", env=environment, capture_output=True, text=True, start_new_session=True, check=True
    )
    assert done.stdout.startswith("EnvironmentFault") and "no terminal to ask" in done.stdout


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    return path


@pytest.mark.parametrize("content", (b"correct horse", b"correct horse\n", b"correct horse\r\nsecond line\n"))
def test_a_files_first_line(file, content):
    file.write_bytes(content)
    assert passphrase.new_passphrase() == b"correct horse" == passphrase.passphrase_of(Path("secret.key"))


@pytest.mark.parametrize("content", (b"", b"\nsecond", b"x" * 1025))
def test_a_file_without_one(file, content):
    file.write_bytes(content)
    with pytest.raises(KeyFolderError, match=r"the first line of .* is no passphrase"):
        passphrase.new_passphrase()


def test_a_file_that_others_can_read(file):
    file.write_bytes(b"one")
    file.chmod(0o640)
    with pytest.raises(KeyFolderError, match="can be read by others") as caught:
        passphrase.new_passphrase()
    assert caught.value.hint == f"chmod 600 {file}"


def test_a_file_that_others_can_read_and_whose_mode_cannot_be_changed(file, monkeypatch):
    """As where it is mounted read-only: what the hint says works in a shell."""
    file.write_bytes(b"one\n")
    file.chmod(0o444)

    def refuse(path: Path, mode: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch, pytest.raises(KeyFolderError) as caught:
        patch.setattr(Path, "chmod", refuse)
        passphrase.new_passphrase()
    assert caught.value.hint == f"{FILE_VARIABLE}=<(cat {file})"
    command = f"{caught.value.hint} {shlex.quote(sys.executable)} -c {shlex.quote(ASKING)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == f"{b'one'.hex()}\n"


def test_a_file_that_is_missing(file):
    file.unlink()
    with pytest.raises(EnvironmentFault, match=r"cannot read .*passphrase: No such file"):
        passphrase.new_passphrase()


def test_a_pipe_will_do(file, monkeypatch):
    source, sink = os.pipe()
    os.write(sink, b"through a pipe\n")
    os.close(sink)
    monkeypatch.setenv(FILE_VARIABLE, f"/proc/self/fd/{source}")
    assert passphrase.new_passphrase() == b"through a pipe"
    os.close(source)
