"""Has pictures evaluated by a service: as :func:`..server.process.run_server`, elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import CiphertextError, LowmemError, ServerError, WeightsError
from ..files.envelope import read_envelope
from ..files.keystore import SERVER, keys_set
from ..network.cardfile import LONGEST_CARD, parse_card
from ..network.parameters import ParameterSet
from ..progress.display import Progress, SilentProgress
from ..server.process import ServerRun
from ..server.request import Evaluation
from .cancelling import cancel
from .connecting import Access
from .connection import Patience, Stopped
from .jobs import RemoteJobs
from .said import JobState, ServiceRefused, clean, nonsense
from .upload import upload_keys

if TYPE_CHECKING:
    from ..network.card import Card
    from ..network.weights import Weights

#: Seconds for which a service is asked to cancel a job.
_SOON = 10.0


def check_service(access: Access, set_: ParameterSet, network: Weights | Card) -> None:
    """See that a service is there, lets us in, and computes what is asked: before anything is encrypted.

    Errors: as of :func:`service_weights`; WeightsError.
    """
    if service_weights(access, set_.number) != network.fingerprint:
        hint = "client and server must use the same file of weights, or a card of it"
        raise WeightsError(f"the service at {access.address().url} has other weights", hint)


def service_weights(access: Access, number: int) -> str:
    """Return the fingerprint of a service's weights, once it is there, lets us in, is of this version and evaluates
    with the parameter set of that number.

    Errors: ServerError; UsageError and EnvironmentFault for an address or a token that will not do.
    """
    with access.connect(SilentProgress()) as connection:
        fields, url = connection.ask("GET", "/v1/service").fields(), connection.address.url
    version, their_number = fields.get("version"), fields.get("set")
    if type(their_number) is not int or not isinstance(version, str):
        raise nonsense("what it is")
    if version != __version__:
        hint = "use the same version of this program on client and server"
        raise ServerError(f"the service at {url} is of version {clean(version)}, and this is {__version__}", hint)
    if their_number != number:
        hint = f"name its set, or a service of set {number}"
        raise ServerError(f"the service at {url} evaluates with parameter set {their_number}, not {number}", hint)
    return str(fields.get("weights"))


def service_card(access: Access, weights: str) -> Card:
    """Return the card that a service gives of its network, which is of the weights that it has by this fingerprint.

    Errors: WeightsError for another, and for what is none; as of :func:`service_weights`.
    """
    with access.connect(SilentProgress()) as connection:
        answer, url = connection.ask("GET", "/v1/card", most_bytes=LONGEST_CARD), connection.address.url
    card = parse_card(answer.body, f"the card that {url} gives")
    if card.fingerprint != weights:
        raise WeightsError(f"the card that {url} gives is of other weights than it has", "ask who runs it")
    return card


def run_remotely(
    access: Access,
    asked: Evaluation,
    progress: Progress,
    stoppable: Callable[[Callable[[], None]], None] = lambda stop: None,
) -> ServerRun:
    """Send keys where the service has none, and the pictures; wait for all results.  Its progress is shown by
    ``progress``.

    ``seconds`` of the run are those from the first picture's leaving to the last result's coming.  If this process is
    interrupted, or the service stays away, the jobs stay there, and a line says how to fetch their results.

    stoppable: is told what any thread may call to stop the run: then its jobs are cancelled.

    Errors: as :func:`check_service`; Stopped; CiphertextError for a file that is none, before any is sent; what else
    failed of single pictures is in the run.
    """
    set_ = keys_set(asked.folder / SERVER, asked.set_number)

    with access.connect(progress) as connection:
        stoppable(connection.stop)
        keys = upload_keys(connection, asked.folder / SERVER, set_, progress)
        started, steps_before = time.monotonic(), len(progress.times)
        progress.start(f"at {connection.address.url}")
        progress.step("service", "taking the pictures")
        run = _PostedJobs(RemoteJobs(connection, set_, progress), keys, asked)
        with access.telling(run.posted, run.left, progress):
            try:
                lines = run.lines()
            except Stopped:
                _withdraw(access, set_, run.left(), progress)
                raise
    peak_bytes = max((line["peak_bytes"] for line in lines), default=0)
    return ServerRun(time.monotonic() - started, peak_bytes, lines, progress.times[steps_before:])


def _withdraw(access: Access, set_: ParameterSet, jobs: list[str], progress: Progress) -> None:
    """Cancel the jobs of a run that was stopped; where the service does not answer soon, tell how to do it."""
    try:
        cancel(access, set_, jobs, Patience(seconds=_SOON))
    except LowmemError as error:
        access.say(f"not cancelled, {error.message}; later: {access.cancelling(jobs)}", progress)


class _PostedJobs:
    """Has the jobs of one evaluation done; a service where too many wait gets the next when one of ours is done.  Where
    no more may be sent today, those that are ahead fail, and the others go on."""

    def __init__(self, jobs: RemoteJobs, keys: str, asked: Evaluation) -> None:
        self._jobs, self._keys, self._asked = jobs, keys, asked
        self._pictures = [read_envelope(job.ciphertext).facts.picture for job in asked.jobs]
        self._posted: dict[int, str] = {}
        self._unfinished: dict[int, str] = {}

    def posted(self) -> list[str]:
        """Return the names of the jobs at the service."""
        return list(self._posted.values())

    def left(self) -> list[str]:
        """Return the names of the jobs at the service whose results have not come."""
        return list(self._unfinished.values())

    def lines(self) -> list[dict[str, Any]]:
        """Return of each job, in their order, what :class:`..server.process.ServerRun` says of it."""
        lines: dict[int, dict[str, Any]] = {}
        ahead = deque(range(len(self._asked.jobs)))
        while ahead or self._unfinished:
            try:
                posted = self._post(ahead[0]) if ahead else False
            except ServiceRefused as error:
                if error.status != HTTPStatus.TOO_MANY_REQUESTS:
                    raise
                lines |= {number: self._line(number, JobState.failed(error)) for number in ahead}
                ahead.clear()
                continue
            if posted:
                ahead.popleft()
            else:
                number = next(iter(self._unfinished))
                lines[number] = self._finish(number)
                del self._unfinished[number]
        return [lines[number] for number in sorted(lines)]

    def _post(self, number: int) -> bool:
        job = self._asked.jobs[number]
        name = self._jobs.post(self._keys, job.ciphertext, now=bool(self._unfinished))
        if name is not None:
            self._posted[number] = self._unfinished[number] = name
        return name is not None

    def _finish(self, number: int) -> dict[str, Any]:
        job, name = self._asked.jobs[number], self._unfinished[number]
        try:
            state = self._jobs.finish(name, job.output, self._pictures[number])
        except CiphertextError as error:
            state = JobState.failed(error)
        return self._line(number, state)

    def _line(self, number: int, state: JobState) -> dict[str, Any]:
        line = {"job": number, "seconds": state.seconds, "peak_bytes": state.peak_bytes}
        return line | state.failure(str(self._asked.jobs[number].ciphertext))


class Remote:
    """An evaluation by a service, as :class:`..server.process.ServerProcess` is one here; begun when it is heard."""

    def __init__(self, access: Access, asked: Evaluation) -> None:
        self._access, self._asked = access, asked
        self._stop: Callable[[], None] | None = None
        self._killed = False

    def converse(self, progress: Progress) -> ServerRun:
        """See it to its end.  Errors: as of :func:`run_remotely`."""
        return run_remotely(self._access, self._asked, progress, self._stoppable)

    def kill(self) -> None:
        """Stop it, from whatever thread, and cancel its jobs."""
        self._killed = True
        if self._stop:
            self._stop()

    def _stoppable(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        if self._killed:
            stop()
