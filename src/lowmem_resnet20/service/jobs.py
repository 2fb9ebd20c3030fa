"""The queue of jobs, in a SQLite database: what it acknowledges is on the disk."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault, LowmemError, on_one_line
from .clients import FIRST
from .log import timestamp
from .retention import DAY_SECONDS
from .store import client_and_digest

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
STATES = (WAITING, RUNNING, DONE, FAILED, CANCELLED)
OVER = (DONE, FAILED, CANCELLED)
#: Tries that may fail before a job has failed.
MOST_DEATHS = 2
_VERSION = 2
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    keys TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    finished REAL,
    seconds REAL,
    peak_bytes INTEGER,
    message TEXT,
    hint TEXT,
    exit_code INTEGER,
    alone INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS sent (client TEXT NOT NULL, at REAL NOT NULL, pictures INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_client ON sent (client, at);
CREATE TABLE IF NOT EXISTS service (parameter_set INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
"""
#: Of version 1: jobs of a time before clients had names.
_OWNED = f"BEGIN; UPDATE jobs SET keys = '{FIRST}/' || keys; PRAGMA user_version = {_VERSION}; COMMIT;"
_COLUMNS = (
    "id, keys, state, created, finished, seconds, peak_bytes, message, hint, exit_code, alone, deaths, "
    f"CASE state WHEN '{WAITING}' THEN"
    f" (SELECT COUNT(*) FROM jobs AS j WHERE j.state = '{WAITING}' AND j.number <= jobs.number) END"
)


@dataclass(frozen=True)
class Ticket:
    """What is known of a job.

    keys: CLIENT/K, the name of its key folder;
    created, finished: seconds since 1970;
    seconds, peak_bytes: what its evaluation took;
    message, hint, exit_code: why it failed;
    alone: whether it is evaluated with no other;
    deaths: tries that failed: the process ended while it evaluated this job alone, or the machine lacked something, or
    what an earlier try had left was of no use;
    position: of a waiting one, 1 for the next.
    """

    id: str
    keys: str
    state: str
    created: float
    finished: float | None
    seconds: float | None
    peak_bytes: int | None
    message: str | None
    hint: str | None
    exit_code: int | None
    alone: int
    deaths: int
    position: int | None

    @property
    def client(self) -> str:
        """The name of whoever sent it."""
        return client_and_digest(self.keys)[0]

    def as_json(self) -> dict[str, Any]:
        failed = self.state == FAILED
        return {
            "job": self.id,
            "set": int(self.id.partition("-")[0]),
            "keys": client_and_digest(self.keys)[1],
            "state": self.state,
            "position": self.position,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "error": {"message": self.message, "hint": self.hint, "exit_code": self.exit_code} if failed else None,
            "created": timestamp(self.created),
            "finished": None if self.finished is None else timestamp(self.finished),
        }


def job_id(number: int, keys: str, digest: str) -> str:
    """Return a job's name, the same for the same ciphertext, of that SHA-256, under the same keys of one client."""
    return f"{number}-{hashlib.sha256(f'{keys} {digest}'.encode()).hexdigest()[:24]}"


class Queue:
    """Holds jobs, in the order in which they came.  May be used from any thread."""

    def __init__(self, path: Path, number: int) -> None:
        """Open the file.

        number: that of the parameter set.

        Errors: EnvironmentFault if the file holds another set's jobs, or is none.
        """
        self._lock = threading.RLock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._set_up(path, number)
        except sqlite3.Error as error:
            raise EnvironmentFault(f"{path} cannot be used as a queue: {on_one_line(error)}") from error

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def add(self, job: str, keys: str, pictures: int, now: float) -> Ticket:
        """Add a new job, or one that was cancelled; it waits behind all others.  On return it is on the disk, with how
        many pictures its client has sent by it.

        now: seconds that services have run on this store.
        """
        with self._changing() as database:
            database.execute("DELETE FROM sent WHERE at <= ?", (now - DAY_SECONDS,))
            database.execute("INSERT INTO sent VALUES (?, ?, ?)", (client_and_digest(keys)[0], now, pictures))
            database.execute("DELETE FROM jobs WHERE id = ?", (job,))
            row = (job, keys, WAITING, time.time())
            database.execute("INSERT INTO jobs (id, keys, state, created) VALUES (?, ?, ?, ?)", row)
        return self._one(job)

    def get(self, job: str) -> Ticket | None:
        found = self._select("WHERE id = ?", job)
        return found[0] if found else None

    def all(self) -> list[Ticket]:
        return self._select("ORDER BY number")

    def of(self, client: str) -> list[Ticket]:
        return self._select("WHERE keys GLOB ? ORDER BY number", f"{client}/*")

    def sent(self, client: str, since: float) -> list[tuple[float, int]]:
        """Return when the client has sent how many pictures after that, the oldest first; a day back at most."""
        query = "SELECT at, pictures FROM sent WHERE client = ? AND at > ? ORDER BY at"
        with self._lock:
            return self._database.execute(query, (client, since)).fetchall()

    def none_sent_after(self, now: float) -> None:
        """Have what was sent later than that have been sent then."""
        with self._changing() as database:
            database.execute("UPDATE sent SET at = ? WHERE at > ?", (now, now))

    def counts(self) -> dict[str, int]:
        """Count jobs by state."""
        with self._lock:
            found = dict(self._database.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def needing(self, keys: str) -> int:
        """Count jobs of those keys that are not over."""
        with self._lock:
            query = "SELECT COUNT(*) FROM jobs WHERE keys = ? AND state IN (?, ?)"
            return self._database.execute(query, (keys, WAITING, RUNNING)).fetchone()[0]

    def claim(self, most: int) -> list[Ticket]:
        """Take the job that waits longest, with others of the same keys, up to ``most``: they are running now."""
        with self._changing() as database:
            first = self._select("WHERE state = ? ORDER BY number LIMIT 1", WAITING)
            batch = first
            if first and not first[0].alone:
                which = "WHERE state = ? AND keys = ? AND alone = 0 ORDER BY number LIMIT ?"
                batch = self._select(which, WAITING, first[0].keys, most)
            for ticket in batch:
                database.execute("UPDATE jobs SET state = ? WHERE id = ?", (RUNNING, ticket.id))
        return batch

    def finish(self, job: str, seconds: float, peak_bytes: int) -> bool:
        """Note that the result is on the disk; returns whether the job was running still, not cancelled meanwhile."""
        values = "state = ?, finished = ?, seconds = ?, peak_bytes = ?"
        return self._update_running(job, values, DONE, time.time(), seconds, peak_bytes)

    def fail(self, job: str, error: LowmemError) -> bool:
        values = "state = ?, finished = ?, message = ?, hint = ?, exit_code = ?"
        return self._update_running(job, values, FAILED, time.time(), error.message, error.hint, int(error.exit_code))

    def put_back(self, job: str) -> bool:
        """Have it wait again: its process was ended for a reason that is not its own."""
        return self._update_running(job, "state = ?", WAITING)

    def put_back_alone(self, job: str, *, deaths: int) -> bool:
        """Have it wait again, for a try by itself: one has failed, perhaps because of it."""
        return self._update_running(job, "state = ?, alone = 1, deaths = ?", WAITING, deaths)

    def cancel(self, job: str) -> str | None:
        """Cancel a job; returns the state that it was in, None if it is unknown."""
        with self._changing() as database:
            former = self.get(job)
            if former and former.state != CANCELLED:
                values = (CANCELLED, time.time(), job)
                database.execute("UPDATE jobs SET state = ?, finished = ? WHERE id = ?", values)
        return former.state if former else None

    def recover(self) -> int:
        """Have what ran when a former service was killed wait again, in its old place.  Returns how many."""
        with self._changing() as database:
            return database.execute("UPDATE jobs SET state = ? WHERE state = ?", (WAITING, RUNNING)).rowcount

    def over(self) -> list[Ticket]:
        return self._select("WHERE state NOT IN (?, ?)", WAITING, RUNNING)

    def forget(self, jobs: Iterable[str]) -> None:
        """Know jobs that are over no more."""
        with self._changing() as database:
            rows = [(job, WAITING, RUNNING) for job in jobs]
            database.executemany("DELETE FROM jobs WHERE id = ? AND state NOT IN (?, ?)", rows)

    def _set_up(self, path: Path, number: int) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, 1, _VERSION):
            raise EnvironmentFault(
                f"{path} was made by another version of this program", "name another folder: store DIR"
            )
        # A commit is on the disk, through a power cut too, and does not wait for readers.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        if version == 1:
            self._database.executescript(_OWNED)
        self._database.executescript(_SCHEMA)
        found = self._database.execute("SELECT parameter_set FROM service").fetchone()
        if found is None:
            self._database.execute("INSERT INTO service VALUES (?)", (number,))
        elif found[0] != number:
            hint = f"serve {found[0]}, or name another folder: store DIR"
            raise EnvironmentFault(f"{path.parent} is the store of a service of parameter set {found[0]}", hint)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Make all changes inside, or none."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _update_running(self, job: str, values: str, *fields: Any) -> bool:
        with self._changing() as database:
            done = database.execute(f"UPDATE jobs SET {values} WHERE id = ? AND state = ?", (*fields, job, RUNNING))
        return done.rowcount == 1

    def _one(self, job: str) -> Ticket:
        ticket = self.get(job)
        assert ticket is not None
        return ticket

    def _select(self, which: str, *fields: Any) -> list[Ticket]:
        with self._lock:
            return [Ticket(*row) for row in self._database.execute(f"SELECT {_COLUMNS} FROM jobs {which}", fields)]
