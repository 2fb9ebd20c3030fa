"""A service as its user reaches it, and what is said of jobs that are left there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import LowmemError
from ..machine.interrupt import on_interrupt
from ..progress.display import Progress
from .address import Address, address_of
from .connection import Connection, Patience
from .said import ServiceRefused


def _named(jobs: Sequence[str]) -> str:
    return ", ".join(jobs)


@dataclass(frozen=True)
class Access:
    """A service, and how its user hears of it.

    url: its address;
    token: what it asks for, or the file of it; None: of the environment;
    say: tells a line, of a service that is lost or found again, beside the progress;
    fetching, cancelling: how the user fetches jobs later, or cancels them, in words.
    """

    url: str
    token: str | Path | None
    say: Callable[[str, Progress], None]
    fetching: Callable[[Sequence[str]], str] = _named
    cancelling: Callable[[Sequence[str]], str] = _named

    def address(self) -> Address:
        """Return where the service is.  Errors: UsageError and EnvironmentFault, as of :func:`.address.address_of`."""
        return address_of(self.url, self.token)

    def connect(self, progress: Progress, patience: Patience | None = None) -> Connection:
        """Return a connection, over which nothing is sent yet.

        Errors: UsageError and EnvironmentFault for an address or a token that will not do.
        """
        return Connection(self.address(), lambda text: self.say(text, progress), patience)

    @contextmanager
    def telling(
        self, posted: Callable[[], list[str]], left: Callable[[], list[str]], progress: Progress
    ) -> Iterator[None]:
        """Tell inside this context of jobs that stay: on Ctrl-C, which leaves nothing here, of all that are ``posted``,
        in a line of its own; in the hint of an error of those that are ``left``, for which results have not come."""
        with on_interrupt(lambda: self._tell(posted(), progress)):
            try:
                yield
            except LowmemError as error:
                jobs = left()
                if jobs and not (isinstance(error, ServiceRefused) and error.of_this_alone):
                    later = f"fetch later what is evaluated there: {self.fetching(jobs)}"
                    error.hint = "; ".join(filter(None, (error.hint, later)))
                raise

    def _tell(self, jobs: Sequence[str], progress: Progress) -> None:
        if jobs:
            stay = "the jobs stay" if len(jobs) > 1 else "the job stays"
            progress.clear_line()
            self.say(f"{stay} at the service; fetch later: {self.fetching(jobs)}", progress)
