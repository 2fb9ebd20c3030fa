"""The clients of a service, beside whoever runs it: their names, the hashes of their tokens, and what each may send.

Commands change the file while a service reads it, also as another user of the machine: it is one that is not replaced.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import EnvironmentFault, UsageError, on_one_line
from .token import hashed, new_token

#: Whoever runs the service, whose token is the one in the store.
FIRST = "first"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS clients (name TEXT PRIMARY KEY, sha256 BLOB NOT NULL, a_day INTEGER);
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True)
class Client:
    """A client.

    name: no other has it;
    sha256: of its token;
    a_day: pictures that it may send; None: any number.
    """

    name: str
    sha256: bytes
    a_day: int | None = None


class Clients:
    """Keeps clients in a file that its owner alone can read.  May be used from any thread.

    Errors, of every method: EnvironmentFault for a file that is damaged, or cannot be used.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        """Open the file.

        make: where there is none; otherwise it is an error, for the folder is no service's store.
        """
        self._path, self._lock = path, threading.Lock()
        if not make and not path.exists():
            hint = "serve N makes it; of a store elsewhere: store DIR"
            raise EnvironmentFault(f"{path.parent} is not the store of a service: there is no {path.name}", hint)
        with self._faults():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise EnvironmentFault(f"{path} was made by another version of this program")
            if not version:
                self._database.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def add(self, name: str, a_day: int | None) -> str:
        """Add a client; returns its token, which is kept nowhere.  Errors: UsageError for a name that will not do."""
        if not _NAME.fullmatch(name):
            hint = "1 to 32 of a-z, 0-9, dot, underscore and hyphen, of which the first is a letter or a digit"
            raise UsageError(f"{name!r} cannot be the name of a client", hint)
        if name == FIRST:
            raise UsageError(f"{name} is the client whose token the service has made itself", "choose another name")
        token = new_token()
        try:
            with self._lock, self._faults():
                self._database.execute("INSERT INTO clients VALUES (?, ?, ?)", (name, hashed(token), a_day))
        except EnvironmentFault as error:
            if not isinstance(error.__cause__, sqlite3.IntegrityError):
                raise
            raise UsageError(
                f"there is a client {name} already", f"to replace its token: token remove {name}"
            ) from None
        return token

    def remove(self, name: str) -> None:
        """Remove a client: its token is worth nothing from now on.  Errors: UsageError if there is none."""
        if name == FIRST:
            hint = "to change it, end the service, remove the file token of its store, and start it again"
            raise UsageError(
                f"the token of {name} is that of whoever runs the service, which it cannot do without", hint
            )
        with self._lock, self._faults():
            removed = self._database.execute("DELETE FROM clients WHERE name = ?", (name,)).rowcount
        if not removed:
            raise UsageError(f"there is no client {name!r}", "they are named by: token list")

    def all(self) -> list[Client]:
        with self._lock, self._faults():
            rows = self._database.execute("SELECT name, sha256, a_day FROM clients ORDER BY name").fetchall()
        return [Client(*row) for row in rows]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            what = f"{self._path} cannot be used as the list of clients"
            raise EnvironmentFault(f"{what}: {on_one_line(error)}") from error
