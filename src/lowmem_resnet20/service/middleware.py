"""Around every request: the token is asked for, and what was answered is counted and logged."""

from __future__ import annotations

import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .log import EventLog
from .metrics import Metrics
from .token import Gate

HEALTH = "/health"
_UNAUTHORIZED = {
    "error": "the token is missing or wrong",
    "hint": "send the header Authorization: Bearer TOKEN; the token is in the file that the service named at its start",
}
_REALM = {"WWW-Authenticate": 'Bearer realm="lowmem-resnet20"'}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Authorised:
    """Lets through what brings the token, and the health check."""

    def __init__(self, app: ASGIApp, gate: Gate, log: EventLog) -> None:
        self._app, self._gate, self._log = app, gate, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH or self._admits(scope):
            await self._app(scope, receive, send)
            return
        self._log.often("unauthorised", client=(scope.get("client") or [None])[0])
        await JSONResponse(_UNAUTHORIZED, 401, _REALM)(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return self._gate.admits(given[0] if len(given) == 1 else b"")


class Observed:
    """Counts answers by endpoint, method and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: EventLog) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:  # Starlette answers it further out
            status = status or 500
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            endpoint = getattr(scope.get("endpoint"), "__name__", "none").removesuffix("Endpoint").lower()
            self._metrics.answered(endpoint, method, status)
            seconds = round(time.monotonic() - started, 3)
            self._log.detail("request", method=method, path=scope["path"], status=status, seconds=seconds)
