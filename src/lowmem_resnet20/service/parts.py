"""The parts of a running service, put together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from .. import __version__
from ..errors import LowmemError
from ..network.parameters import PARAMETER_SETS, parameter_set
from ..network.weights import Weights
from .allowance import Allowance
from .clients import Client, Clients
from .feed import Feed
from .gate import Gate
from .intake import Intake, recover
from .jobs import CANCELLED, RUNNING, WAITING, Queue, Ticket
from .keyfolders import KeyFolders
from .limits import ciphertext_bytes, read_limits
from .log import EventLog
from .metrics import Metrics
from .refusals import Refused
from .retention import DAY_SECONDS, Retention
from .runner import Room, Runner, Start, room_here
from .store import Store, facts_of, remove
from .token import token_in

#: Ciphertexts that are read and checked at once: each is in memory meanwhile.
_CHECKED_AT_ONCE = 4


@dataclass
class ServiceSettings:
    """What a service is started with.

    number: that of the parameter set;
    weights, weights_file: those that it evaluates with, and their file; None: the program's own;
    start: starts an evaluation;
    stderr: where what that says beside its answer goes;
    room: tells for how many jobs at once there is memory.
    """

    number: int
    weights: Weights
    weights_file: Path | None
    start: Start
    stderr: TextIO
    room: Room = room_here


@dataclass
class Service:
    """Holds everything that the routes work on.

    checking: held while a ciphertext is checked.
    """

    settings: ServiceSettings
    store: Store
    log: EventLog
    gate: Gate = field(init=False)
    feed: Feed = field(init=False, default_factory=Feed)
    checking: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Put the parts together.  Errors: EnvironmentFault, UsageError."""
        number, store = self.settings.number, self.store
        self.limits = read_limits(store.limits)
        self.clients = Clients(store.clients)
        self.gate = Gate(token_in(store.token), self.clients)
        self.queue = Queue(store.database, number)
        weights = self.settings.weights
        self.folders = KeyFolders(store, number, weights.architecture, self.limits)
        self.retention = Retention(store.ages, self.limits.kept_days * DAY_SECONDS)
        self.allowance = Allowance(self.queue, self.retention.now)
        self.metrics = Metrics(store, self.queue, self.folders)
        self.intake = Intake(store, self.folders, self.queue, self.allowance, number, weights, self.limits)
        self.runner = Runner(
            store=store,
            queue=self.queue,
            folders=self.folders,
            gate=self.gate,
            feed=self.feed,
            metrics=self.metrics,
            log=self.log,
            limits=self.limits,
            retention=self.retention,
            number=number,
            weights=self.settings.weights_file,
            start=self.settings.start,
            room=self.settings.room,
            stderr=self.settings.stderr,
        )
        self.checking = asyncio.Semaphore(_CHECKED_AT_ONCE)
        engines = [engine for known, engine in PARAMETER_SETS if known == number]
        sets = (parameter_set(number, engine, weights.architecture) for engine in engines)
        self.ciphertext_bytes = max(map(ciphertext_bytes, sets))

    def start(self) -> None:
        """Go on with what a former service left."""
        self.folders.recover()
        jobs = recover(self.store, self.queue)
        self.log.event("service.started", set=self.settings.number, jobs_taken_up=jobs, version=__version__)
        self.runner.start()

    def stop(self) -> None:
        """End streams and the present evaluation; jobs are kept."""
        self.feed.close()
        self.runner.stop()
        with suppress(LowmemError):  # of a full disk, say: then what is kept is a little younger after the next start
            self.retention.save()

    def close(self) -> None:
        self.queue.close()
        self.clients.close()
        self.store.close()

    def description(self) -> dict[str, Any]:
        limits = {"ciphertext_bytes": self.ciphertext_bytes} | asdict(self.limits)
        return {
            "version": __version__,
            "set": self.settings.number,
            "weights": self.settings.weights.fingerprint,
            "limits": limits,
        }

    def finish_file(self, keys: str, file: str) -> None:
        """Check a key file after a request's last piece of it."""
        if self.folders.finish(keys, file):
            self.log.event("keys.complete", **facts_of(keys))

    def remove_keys(self, keys: str) -> None:
        with self.store.changes:
            needing = self.queue.needing(keys)
            if needing:
                raise Refused(409, f"{needing} jobs need these keys", "wait for them, or cancel them")
            gone = self.folders.set_aside(keys)
        remove(gone)

    def ticket(self, client: str, job: str) -> Ticket | None:
        """Return a job of a client's; None where it has none of that name, or is a client no more."""
        found = self.queue.get(job)
        return found if found and found.client == client and client in self.gate.names() else None

    def accept(self, received: Path, keys: str, client: Client) -> tuple[Ticket, bool]:
        """See :meth:`.intake.Intake.accept`."""
        ticket, new = self.intake.accept(received, keys, client)
        self.log.event("job.accepted" if new else "job.repeated", job=ticket.id, **facts_of(keys))
        if new:
            self.metrics.accepted.inc()
            self.runner.wake()
        return ticket, new

    def cancel(self, ticket: Ticket) -> None:
        former = self.runner.cancel(ticket.id)
        if former in (WAITING, RUNNING):
            self.metrics.over(CANCELLED)
        if former not in (None, CANCELLED):
            self.log.event("job.cancelled", job=ticket.id, client=ticket.client, was=former)
