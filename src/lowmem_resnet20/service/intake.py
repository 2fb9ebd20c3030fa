"""Takes ciphertexts into the queue, once they are seen to be what the service evaluates.

What is looked at costs little: the file's header, its facts and the digest of its bytes.  The bytes themselves, which a
stranger made, are first read as a ciphertext by the process that evaluates it.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from ..errors import naming
from ..files.envelope import PICTURE, Belonging, belonging, read_envelope
from ..files.group import split
from ..network.parameters import ParameterSet
from ..network.weights import Weights
from .allowance import Allowance
from .clients import Client
from .jobs import CANCELLED, WAITING, Queue, Ticket, job_id
from .keyfolders import KeyFolders
from .limits import Limits, evaluation_bytes
from .refusals import Refused
from .store import Store, remove


class Intake:
    """Makes jobs of ciphertexts.

    Errors, of every method: Refused, EnvironmentFault, OSError; KeyFolderError where this version of the program cannot
    use the keys.
    """

    def __init__(
        self,
        store: Store,
        folders: KeyFolders,
        queue: Queue,
        allowance: Allowance,
        number: int,
        weights: Weights,
        limits: Limits,
    ) -> None:
        self._store, self._folders, self._queue, self._allowance = store, folders, queue, allowance
        self._number, self._limits = number, limits
        self._belonging = cache(lambda set_: belonging(set_, "", weights))

    def check_quota(self, keys: str) -> None:
        """See, before a ciphertext is received, that its keys are there, and room for one more job."""
        set_ = self._set(keys)
        if self._queue.counts()[WAITING] >= self._limits.waiting_jobs:
            message = f"{self._limits.waiting_jobs} jobs wait already, as many as the service takes"
            raise Refused(429, message, "try again later", {"Retry-After": "60"})
        self._store.check_room(evaluation_bytes(set_) + self._limits.free_bytes, "this job")

    def accept(self, received: Path, keys: str, client: Client) -> tuple[Ticket, bool]:
        """Make a job of a ciphertext that was received, on the disk when this returns, unless that is known already.
        Returns whether it is new; what is known costs nothing of what the client may send a day.

        keys: a key folder of this client.
        """
        try:
            digest = self._check(received, keys)
            job = job_id(self._number, keys, digest)
            with self._store.changes:
                known = self._queue.get(job)
                if known and known.state != CANCELLED:
                    return known, False
                self.check_quota(keys)
                pictures = self._set(keys).pictures  # the places of a group: which are filled cannot be seen
                self._allowance.check(client, pictures)
                self._store.take_in(received, job)
                return self._queue.add(job, keys, pictures, self._allowance.now()), True
        finally:
            remove(received)

    def _check(self, received: Path, keys: str) -> str:
        """See that it is an encrypted picture, or group, for these keys, the service's weights and its version of the
        program; returns its id."""
        set_ = self._set(keys)
        with naming({received: "the ciphertext"}):
            envelope = read_envelope(received)
            envelope.expect(PICTURE, self._ours(keys, set_))
            split(envelope.payload, set_.ciphertexts(1), received)
        return envelope.digest

    def _ours(self, keys: str, set_: ParameterSet) -> Belonging:
        ours: Belonging = self._belonging(set_)
        return Belonging(ours.set, self._folders.manifest(keys).keys, ours.weights, ours.computation)

    def _set(self, keys: str) -> ParameterSet:
        return self._folders.set_of(keys)


def recover(store: Store, queue: Queue) -> int:
    """Bring files and queue in line at the start, as they were when a former service was killed.

    A ciphertext whose job was not acknowledged is removed, and the remains of jobs that are over.  Returns how many
    jobs go on.
    """
    known = {ticket.id: ticket for ticket in queue.all()}
    for name in os.listdir(store.jobs):
        if name not in known or known[name].state == CANCELLED:
            store.remove_job(name)
        elif known[name].finished is not None:
            remove(store.picture(name))
            remove(store.unfinished(name))
    return queue.recover()
