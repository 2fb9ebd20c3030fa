"""The passphrase of a secret key: the first line of the file that a variable names, or asked for on the terminal.

It is never a word of the command line, which other users of the machine can see.
"""

from __future__ import annotations

import getpass
import os
import shlex
import stat
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EnvironmentFault, KeyFolderError
from ..machine.coredumps import forbid_core_dumps
from ..machine.files import hiding_hint, os_errors
from ..machine.interrupt import on_interrupt

#: Set in the environment to the name of a file whose first line is the passphrase; a pipe will do.
FILE_VARIABLE = "LOWMEM_RESNET20_PASSPHRASE_FILE"
_TERMINAL = "/dev/tty"
_LONGEST_BYTES = 1024


def new_passphrase() -> bytes:
    """Return one that is being chosen: on the terminal it is asked for twice.

    Errors: KeyFolderError if it is empty or the two differ; EnvironmentFault where there is nowhere to ask.
    """
    forbid_core_dumps()
    return _from_file() or _chosen()


def passphrase_of(path: Path) -> bytes:
    """Return that of the key in the file ``path``.  Errors: as of a new one."""
    return _from_file() or _asked(f"passphrase of {path}: ")


def _chosen() -> bytes:
    chosen = _asked("new passphrase of the secret key: ")
    if _asked("the same again: ") != chosen:
        raise KeyFolderError("the two passphrases differ", "no keys were made: try again")
    return chosen


def _from_file() -> bytes:
    """Return what the variable's file holds; nothing where the variable names none."""
    name = os.environ.get(FILE_VARIABLE, "")
    if not name:
        return b""
    path = Path(name)
    with os_errors("read", path), open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            hint = hiding_hint(path, f"{FILE_VARIABLE}=<(cat {shlex.quote(name)})")
            raise KeyFolderError(f"{path} can be read by others", hint)
        return _checked(file.readline(_LONGEST_BYTES + 2).rstrip(b"\r\n"), f"the first line of {path}")


def _asked(prompt: str) -> bytes:
    with _terminal_as_it_was():
        try:
            text = getpass.getpass(prompt)
        except (EOFError, UnicodeError):
            text = ""
    return _checked(text.encode("utf-8", "surrogateescape"), "what was typed")


def _checked(passphrase: bytes, what: str) -> bytes:
    if not 0 < len(passphrase) <= _LONGEST_BYTES:
        raise KeyFolderError(f"{what} is no passphrase: it has {len(passphrase)} bytes, not 1 to {_LONGEST_BYTES}")
    return passphrase


@contextmanager
def _terminal_as_it_was() -> Iterator[None]:
    """Give the terminal back as it was after an interrupt too: what is typed shows again."""
    try:
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        message = "the secret key is under a passphrase, and there is no terminal to ask for it on"
        raise EnvironmentFault(message, f"name a file that holds it: {FILE_VARIABLE}=FILE") from None
    try:
        before = termios.tcgetattr(terminal)
        with on_interrupt(lambda: termios.tcsetattr(terminal, termios.TCSANOW, before)):
            yield
    finally:
        os.close(terminal)
