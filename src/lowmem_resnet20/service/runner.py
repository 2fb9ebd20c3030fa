"""Evaluates the jobs of the queue, one process at a time, each with the jobs that wait for the same keys."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ..errors import CiphertextError, ExitCode, LowmemError, error_of, told, with_names
from ..machine.faults import explain
from ..machine.locks import FolderLock
from ..machine.memory import available_bytes
from ..network.parameters import ParameterSet
from ..progress.relay import RelayProgress
from ..server.process import Running, ServerRun
from ..server.request import Evaluation, Job
from .feed import Feed, RunEvents
from .gate import Gate
from .jobs import CANCELLED, DONE, FAILED, MOST_DEATHS, RUNNING, Queue, Ticket
from .keyfolders import KeyFolders
from .limits import Limits, evaluation_bytes
from .log import EventLog
from .metrics import Metrics
from .refusals import Refused
from .retention import Retention
from .store import Store, client_and_digest, facts_of, remove

#: Errors of the jobs themselves: another process would meet them too.
_LASTING = (ExitCode.KEYS, ExitCode.WEIGHTS, ExitCode.CIPHERTEXT, ExitCode.USAGE)
_PAUSE_SECONDS = 5.0
_SHORTAGE_SECONDS = 30.0
_SIGNAL_SECONDS = 0.5
_CLEANING_SECONDS = 3600.0
#: For which the process of a service that was killed may go on holding what it worked on.
_PATIENCE_SECONDS = 60.0


#: Starts the evaluation; what it says beside its answer goes to the stream.
Start = Callable[[Evaluation, TextIO], Running]
#: How many jobs of a set there is memory for where they are evaluated.
Room = Callable[[ParameterSet], int]


def room_here(set_: ParameterSet) -> int:
    """Return for how many jobs there is room in one process of this machine."""
    return int((available_bytes() - set_.server_bytes) // evaluation_bytes(set_))


class Runner:
    """Starts each process in a thread of its own: processes end with the thread that started them."""

    def __init__(
        self,
        *,
        store: Store,
        queue: Queue,
        folders: KeyFolders,
        gate: Gate,
        feed: Feed,
        metrics: Metrics,
        log: EventLog,
        limits: Limits,
        retention: Retention,
        number: int,
        weights: Path | None,
        start: Start,
        room: Room,
        stderr: TextIO,
    ) -> None:
        self._store, self._queue, self._folders, self._gate, self._feed = store, queue, folders, gate, feed
        self._metrics, self._log, self._limits, self._retention = metrics, log, limits, retention
        self._number, self._weights, self._start, self._room, self._stderr = number, weights, start, room, stderr
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        self._work = threading.Event()
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._evaluated: frozenset[str] = frozenset()
        self._killed = False  # the present one was ended for the sake of a job that was cancelled
        self._stopping = threading.Event()
        self._cleaned = 0.0

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Note that there is a new job."""
        self._feed.news()
        self._work.set()

    def stop(self, patience: float = 5.0) -> None:
        """End the present process; its jobs go on when a service is started again."""
        self._stopping.set()
        with self._lock:
            if self._running:
                self._running.kill()
        self._work.set()
        self._thread.join(patience)

    def cancel(self, job: str) -> str | None:
        """End a job, wherever it is, and remove its files; returns the state it was in, None if it is unknown."""
        with self._store.changes:
            former = self._queue.cancel(job)
            if former is not None and former != RUNNING:
                self._store.remove_job(job)
        if former == RUNNING:
            with self._lock:
                if self._running and job in self._evaluated:
                    self._killed = True
                    self._running.kill()
        self._feed.news()
        return former

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._work.clear()
            try:
                self._clean_up()
                batch = self._queue.claim(self._limits.together)
                if batch:
                    self._evaluate(batch)
                else:
                    self._work.wait(_CLEANING_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next job must not wait for ever
                if self._stopping.wait(_SIGNAL_SECONDS):  # what is being written is removed when a signal comes
                    return
                self._log.fault("runner.failed", error=f"{type(error).__name__}: {error}")
                if not self._stopping.wait(_PAUSE_SECONDS):
                    with suppress(sqlite3.Error):
                        self._queue.recover()

    def _evaluate(self, claimed: list[Ticket]) -> None:
        self._killed = False
        batch = claimed[: self._fitting(claimed)]
        for ticket in claimed[len(batch) :]:
            self._queue.put_back(ticket.id)
        run = self._feed.begin([ticket.id for ticket in batch])
        self._log.event("run.started", jobs=[ticket.id for ticket in batch], **facts_of(batch[0].keys))
        try:
            answer = self._converse(batch, run)
        except (LowmemError, OSError) as error:
            # A signal that ends this process may have reached that one first.
            if not self._stopping.wait(_SIGNAL_SECONDS):
                self._broken_off(batch, explain(error))
        else:
            self._answered(batch, answer)
        finally:
            self._remove_cancelled(claimed)
            self._feed.end(run)

    def _fitting(self, batch: list[Ticket]) -> int:
        """Return how many of the jobs there is memory for; one where the keys cannot be read: its process says why."""
        with suppress(Refused, LowmemError):
            set_ = self._folders.set_of(batch[0].keys)
            return max(1, min(len(batch), self._room(set_)))
        return 1

    def _converse(self, batch: list[Ticket], run: RunEvents) -> ServerRun:
        for ticket in batch:
            _wait_until_let_go(self._store.unfinished(ticket.id))
        jobs = tuple(Job(self._store.picture(ticket.id), self._store.result(ticket.id)) for ticket in batch)
        folder = self._store.keys / batch[0].keys
        running = self._start(Evaluation(self._number, folder, jobs, self._weights, resume=True), self._stderr)
        with self._lock:
            self._running, self._evaluated, self._killed = running, run.jobs, bool(self._cancelled(batch))
            if self._killed or self._stopping.is_set():
                running.kill()
        try:
            return running.converse(RelayProgress(lambda event: self._feed.progress(run, event)))
        finally:
            with self._lock:
                self._running = None

    def _answered(self, batch: list[Ticket], answer: ServerRun) -> None:
        self._metrics.peak_bytes.set(answer.peak_bytes)
        self._metrics.run_seconds.observe(answer.seconds)
        shortage = False
        for ticket, line in zip(batch, answer.pictures, strict=True):
            if "error" in line:
                error = error_of(line)
                self._picture_failed(ticket, error)
                shortage |= error.exit_code == ExitCode.ENVIRONMENT
            else:
                seconds = answer.seconds if len(batch) == 1 else line["seconds"]
                self._picture_done(ticket, seconds, answer.peak_bytes)
        if shortage:  # of disk, say, that another program may give back
            self._stopping.wait(_SHORTAGE_SECONDS)

    def _picture_done(self, ticket: Ticket, seconds: float, peak_bytes: int) -> None:
        with self._store.changes:  # who deletes the job and sends it again has a new picture there
            done = self._queue.finish(ticket.id, seconds, peak_bytes)
            if done:
                remove(self._store.picture(ticket.id))
        if done:
            self._metrics.over(DONE)
            self._log.event("job.done", job=ticket.id, client=ticket.client, seconds=seconds, peak_bytes=peak_bytes)

    def _picture_failed(self, ticket: Ticket, error: LowmemError) -> None:
        """Fail a job, or have it begin again, once: what an evaluation that was cut short has left may be of no use to
        this version of the program, and what the machine lacked may be there later."""
        left, deaths = self._store.unfinished(ticket.id), ticket.deaths + 1
        useless = isinstance(error, CiphertextError) and left.exists()
        if deaths < MOST_DEATHS and (useless or error.exit_code == ExitCode.ENVIRONMENT):
            if useless:
                remove(left)
            self._queue.put_back_alone(ticket.id, deaths=deaths)
            self._log.fault("job.begins_again", job=ticket.id, client=ticket.client, error=error.message)
        else:
            self._fail(ticket, error)

    def _broken_off(self, batch: list[Ticket], error: LowmemError) -> None:
        """Have jobs begin again, or fail: the process as a whole has ended without an answer."""
        if self._killed:  # the others go on at their last complete part
            for ticket in batch:
                self._queue.put_back(ticket.id)
            return
        facts = {"jobs": [ticket.id for ticket in batch], "client": batch[0].client}
        self._log.fault("run.ended", **facts, error=error.message, hint=error.hint, exit_code=int(error.exit_code))
        if error.exit_code in _LASTING:
            for ticket in batch:
                self._fail(ticket, error)
            return
        self._metrics.deaths.inc()
        for ticket in batch:
            deaths = ticket.deaths + (len(batch) == 1)
            if deaths < MOST_DEATHS:
                self._queue.put_back_alone(ticket.id, deaths=deaths)
            else:
                self._fail(ticket, error)
        if error.exit_code == ExitCode.ENVIRONMENT:  # memory, say, that another program may give back
            self._stopping.wait(_SHORTAGE_SECONDS)

    def _fail(self, ticket: Ticket, error: LowmemError) -> None:
        names = {
            self._store.picture(ticket.id): "the ciphertext",
            self._store.keys / ticket.keys / "server": "the key folder",
            self._store.folder: "the store",
        }
        named = with_names(error_of(told(error)), names)  # other jobs have it too
        with self._store.changes:
            failed = self._queue.fail(ticket.id, named)
            for path in (self._store.picture(ticket.id), self._store.unfinished(ticket.id)) if failed else ():
                remove(path)
        if failed:
            self._metrics.over(FAILED)
            facts = {"job": ticket.id, "client": ticket.client}
            self._log.fault("job.failed", **facts, error=named.message, exit_code=int(named.exit_code))

    def _cancelled(self, batch: list[Ticket]) -> list[str]:
        found = [self._queue.get(ticket.id) for ticket in batch]
        return [ticket.id for ticket in found if ticket and ticket.state == CANCELLED]

    def _remove_cancelled(self, batch: list[Ticket]) -> None:
        with self._store.changes:
            for job in self._cancelled(batch):
                self._store.remove_job(job)

    def _clean_up(self) -> None:
        """Forget, now and then, what has been over, has stood still, or has been nobody's, for long."""
        if self._cleaned and time.monotonic() - self._cleaned < _CLEANING_SECONDS:
            return
        self._cleaned = time.monotonic()
        with self._store.changes:
            over = {ticket.id: f"{ticket.state} {ticket.finished}" for ticket in self._queue.over()}
            old = self._retention.outlived(over | self._folders.uploading() | self._left())
            jobs = [name for name in old if name in over]
            folders = [self._folders.set_aside(name) for name in old if name not in over]
            self._queue.forget(jobs)
            for job in jobs:
                self._store.remove_job(job)
        for path in folders:
            remove(path)
        if jobs or folders:
            self._log.event("cleaned_up", jobs=len(jobs), key_folders=len(folders))
        self._retention.save()

    def _left(self) -> dict[str, str]:
        """Return key folders whose clients are no more, and that no job needs."""
        clients = self._gate.names()
        left = [keys for keys in self._folders.complete() if client_and_digest(keys)[0] not in clients]
        return {keys: "left" for keys in left if not self._queue.needing(keys)}


def _wait_until_let_go(unfinished: Path) -> None:
    """Wait for the process of a service that was killed, which dies with it, but may hold this folder a moment."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    lock = FolderLock(unfinished)
    while unfinished.exists() and time.monotonic() < deadline:
        if lock.take():
            lock.release()
            return
        time.sleep(0.05)
