"""Jobs at a service: handed in, followed to their end, and their results taken."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from ..errors import CiphertextError, ServerError
from ..files.envelope import LOGITS, read_envelope
from ..files.keystore import PUBLIC_KEY, largest_bytes
from ..machine.files import atomic_path
from ..network.parameters import ParameterSet
from ..progress.display import Progress
from .connection import Connection, Lost
from .events import ServiceProgress, events
from .said import DONE, THE_CIPHERTEXT, WAITING, JobState, job_name, json_object

#: So often a job that is said to be done may have no result.
_MOST_EMPTY_ANSWERS = 3
#: After which a service whose queue is full is asked again, unless it wants to be asked later.
_FULL_SECONDS = 15.0


class RemoteJobs:
    """Handles jobs at one service.  The progress of a run that several are in is shown once."""

    def __init__(self, connection: Connection, set_: ParameterSet, progress: Progress) -> None:
        self._connection, self._set, self._progress = connection, set_, progress
        self._shown, self._shown_state = ServiceProgress(progress), ""

    def post(self, keys: str, ciphertext: Path, *, now: bool) -> str | None:
        """Hand in an encrypted picture, or group; returns the job's name.  The same again is the same job.

        now: None where the service has too many that wait; a place is otherwise waited for, however long that takes.

        Errors: ServiceRefused where no more may be sent for longer than a minute; as of the connection.
        """
        path, content, told = f"/v1/jobs?keys={keys}", ciphertext.read_bytes(), False
        while True:
            answer = self._connection.ask("POST", path, content=content, accept=(200, 201, 429))
            if answer.status != 429:
                return job_name(answer.fields().get("job"), self._set.number)
            if not answer.soon():
                raise answer.refusal()
            if now:
                return None
            if not told:
                self._progress.step("service", "waiting for a place in the queue")
                told = True
            self._connection.sleep(max(_FULL_SECONDS, answer.pause()))

    def finish(self, job: str, output: Path, picture: str = "") -> JobState:
        """Wait for a job's end; its result, if it has one, is in ``output``, whole.

        picture: id of the encryption that it must answer, where that is known.  Errors: CiphertextError for a result
        that is none, or another's; as of the connection.
        """
        for _ in range(_MOST_EMPTY_ANSWERS):
            state = self._connection.persist(partial(self._follow, job))
            if state.state != DONE or self._take(job, output, picture):
                return state
        raise ServerError(f"the service says that {job} is done, and has no result of it")

    def cancel(self, job: str) -> str:
        """End a job that is not over yet; returns the state that it is in then."""
        path = f"/v1/jobs/{job}"
        state = JobState.of(self._connection.ask("GET", path).fields(), job)
        if not state.final:
            state = JobState.of(self._connection.ask("DELETE", path).fields(), job)
        return state.state

    def _follow(self, job: str) -> JobState:
        """Return its final state, heard on one connection.  Errors: Lost."""
        self._shown.connect()
        with closing(self._connection.lines(f"/v1/jobs/{job}/events", self._shown.last_id)) as lines:
            for event in events(lines):
                if event.name == "progress":
                    self._shown.show(event)
                elif event.name == "state":
                    state = JobState.of(json_object(event.data), job)
                    if state.final:
                        return state
                    self._show(state)
        raise Lost("it ends its answer before the job")

    def _show(self, state: JobState) -> None:
        if state.state != WAITING:
            self._shown_state = ""
            return
        shown = f"waiting, number {state.position} in the queue" if state.position else "waiting"
        if shown != self._shown_state:
            self._progress.step("service", shown)
            self._shown_state = shown

    def _take(self, job: str, output: Path, picture: str) -> bool:
        """Return whether there was a result, which is checked before it gets its name."""
        most = largest_bytes(self._set, PUBLIC_KEY, 0)  # a pair of polynomials on all primes: no ciphertext has more
        path = f"/v1/jobs/{job}/result"
        answer = self._connection.ask("GET", path, most_bytes=most, accept=(200, 409, 410))
        if answer.status != 200:
            return False
        with atomic_path(output) as temporary:
            temporary.write_bytes(answer.body)
            _check_result(temporary, picture)
        return True


def _check_result(path: Path, picture: str) -> None:
    sent = f"what the service sent as the result of {THE_CIPHERTEXT}"
    try:
        envelope = read_envelope(path)
    except CiphertextError as error:
        raise CiphertextError(f"{sent} is no ciphertext, or altered") from error
    if envelope.facts.kind != LOGITS:
        raise CiphertextError(f"{sent} is no result")
    if picture and envelope.facts.picture != picture:
        raise CiphertextError(f"{sent} answers another picture")
