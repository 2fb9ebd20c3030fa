"""How many pictures a client may send a day, counted in time that the service ran: no clock is read that can be set."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..progress.display import format_seconds
from .clients import Client
from .jobs import Queue
from .refusals import Refused
from .retention import DAY_SECONDS


class Allowance:
    """Looks at what each client has sent in the last day.

    now: seconds that services have run on this store.
    """

    def __init__(self, queue: Queue, now: Callable[[], float]) -> None:
        self._queue, self.now = queue, now
        queue.none_sent_after(now())  # of a service that was killed, or a file of ages that was lost

    def check(self, client: Client, pictures: int) -> None:
        """Raise Refused unless the client may send so many more pictures now."""
        if client.a_day is None:
            return
        allowed = f"{client.name} may send {client.a_day} pictures a day"
        if pictures > client.a_day:
            raise Refused(403, f"{allowed}, and a job of this parameter set is {pictures}")
        now = self.now()
        sent = self._queue.sent(client.name, now - DAY_SECONDS)
        over = sum(count for _, count in sent) + pictures - client.a_day
        for at, count in sent if over > 0 else ():
            over -= count
            if over <= 0:
                seconds = max(math.ceil(at + DAY_SECONDS - now), 1)
                message = f"{allowed}; more can be sent in {format_seconds(seconds)}"
                raise Refused(429, message, "what was sent already goes on", {"Retry-After": str(seconds)})
