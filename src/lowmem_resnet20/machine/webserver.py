"""Answering HTTP by uvicorn: within the descriptors that there are, no client waited for long, no variable read."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import EnvironmentFault

#: Seconds after which a connection ends whose client does nothing that it has to: ask, send, or read the answer.
SECONDS = 30
#: Of a body, or of its rest that nobody reads: less in that time is nothing.
_PROGRESS_BYTES = 1 << 14
#: Connections at once; those that are taken in before the first is looked at; and the fewest that are of any use.
_MOST, _BACKLOG, _FEWEST = 256, 64, 8
#: Descriptors that a program has for itself, and that a connection may need: its own, and a file's.
_OWN, _EACH = 64, 2


def web_server(app: Any, *, grace_seconds: int | None = None, log_level: str | None = None) -> uvicorn.Server:
    """Make a server for the ASGI application ``app``.  grace_seconds: for answers on their way when it ends.

    uvicorn would take workers and trusted proxies from the environment, and addresses from X-Forwarded-For: the
    application's ``client`` is who has connected.

    Errors: EnvironmentFault where the process may open too few files.
    """
    most = _connections()
    config = uvicorn.Config(
        app,
        lifespan="off",
        loop="asyncio",
        http=_Connection,
        ws="none",
        log_config=None,
        log_level=log_level,
        access_log=False,
        workers=1,
        proxy_headers=False,
        forwarded_allow_ips="",
        server_header=False,
        limit_concurrency=most + 1,
        backlog=_BACKLOG,
        timeout_keep_alive=SECONDS,
        timeout_graceful_shutdown=grace_seconds,
    )
    return uvicorn.Server(config)


def _connections() -> int:
    """Let this process open as many files as they need, if it may, and return how many there may be at once."""
    wanted = _OWN + _BACKLOG + _EACH * _MOST
    soft, hard = (
        wanted if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    allowed = max(soft, min(wanted, hard))
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    most = min(_MOST, (allowed - _OWN - _BACKLOG) // _EACH)
    if most < _FEWEST:
        needed = _OWN + _BACKLOG + _EACH * _FEWEST
        message = f"this process may open {allowed} files at once, and a server needs {needed}"
        raise EnvironmentFault(message, "raise the limit: ulimit -n 1024, or LimitNOFILE= of systemd")
    return most


class _Connection(H11Protocol):
    """One that its client cannot keep open for nothing.  Where there are too many, that which has waited longest for a
    request makes room."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._received, self._waits_since = 0, self.loop.time()
        self._watch()
        if self.config.limit_concurrency and len(self.connections) >= self.config.limit_concurrency:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self, before: object = None) -> None:
        """Look again, and end the connection if its client has not come further than ``before``."""
        awaited = self._awaited()
        if awaited is not None and awaited == before:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(SECONDS, self._watch, awaited)

    def _awaited(self) -> object:
        """Return what the client has to do, and how far it has come; None where the server is waited for.  Of
        the head of a request nothing counts but the whole."""
        if unread := self.transport.get_write_buffer_size():
            return "read", unread
        if self.conn.their_state is h11.IDLE:
            return "ask", self.cycle
        if self.conn.their_state is h11.SEND_BODY and not (self.flow.read_paused or self._to_be_called_for()):
            return "send", self._received // _PROGRESS_BYTES
        return None

    def _to_be_called_for(self) -> bool:
        """Return whether the client waits for the word to send."""
        return self.cycle.waiting_for_100_continue and not self.cycle.response_complete

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, _Connection) and other is not self]
        idle = [other for other in others if other._is_idle()]
        if idle:
            longest = min(idle, key=lambda other: other._waits_since)
            self.connections.discard(longest)
            longest.transport.abort()
            self.logger.warning("Too many connections: one without a request was ended.")

    def _is_idle(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete
