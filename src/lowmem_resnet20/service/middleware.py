"""Around every request: the token tells whose it is, and what was answered is counted and logged."""

from __future__ import annotations

import time

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import LowmemError
from .clients import Client
from .gate import Gate
from .log import EventLog
from .metrics import Metrics
from .refusals import Refused, refusal_of

HEALTH = "/health"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def answer(refused: Refused) -> Response:
    return JSONResponse({"error": refused.message, "hint": refused.hint}, refused.status, refused.headers)


class Authorised:
    """Lets through what brings a client's token, who is the request's ``user`` then, and the health check."""

    def __init__(self, app: ASGIApp, gate: Gate, log: EventLog) -> None:
        self._app, self._gate, self._log = app, gate, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != HEALTH:
            try:
                scope["user"] = self._client(scope)
            except Refused as refused:
                await answer(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _client(self, scope: Scope) -> Client:
        """Return whose request it is.  Errors: Refused."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        try:
            client = self._gate.client(given[0]) if len(given) == 1 else None
        except LowmemError as error:
            self._log.often("fault", fault=True, error=error.message)
            raise refusal_of(error) from error
        if client is None:
            self._log.often("unauthorised", address=(scope.get("client") or [None])[0])
            hint = "send the header Authorization: Bearer TOKEN; whoever runs the service gives it"
            realm = {"WWW-Authenticate": 'Bearer realm="lowmem-resnet20"'}
            raise Refused(401, "the token is missing or wrong", hint, realm)
        return client


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
            client = {"client": scope["user"].name} if "user" in scope else {}
            self._log.detail("request", **client, method=method, path=scope["path"], status=status, seconds=seconds)
