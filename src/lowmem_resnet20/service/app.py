"""The routes of the service: what each request does and answers.  README.md beside this file describes them."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..errors import LowmemError
from ..files.keystore import LONGEST_MANIFEST
from ..network.cardfile import card_text
from .body import pieces, whole
from .clients import FIRST, Client
from .jobs import CANCELLED, DONE, FAILED, Ticket
from .keyfolders import OFFSET
from .metrics import CONTENT_TYPE
from .middleware import HEALTH, Authorised, Observed, answer
from .parts import Service
from .refusals import Refused, refusal_of, unknown
from .store import facts_of, keys_named
from .stream import events

_KEYS = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OFFSET = re.compile(r"[0-9]{1,18}", re.ASCII)


def make_app(service: Service) -> Starlette:
    app = Starlette(
        routes=[
            Route(HEALTH, HealthEndpoint, methods=["GET"]),
            Route("/metrics", FiguresEndpoint, methods=["GET"]),
            Route("/v1/service", DescriptionEndpoint, methods=["GET"]),
            Route("/v1/card", CardEndpoint, methods=["GET"]),
            Route("/v1/keys/{keys}", KeyFolderEndpoint, methods=["GET", "PUT", "DELETE"]),
            Route("/v1/keys/{keys}/files/{file}", KeyFileEndpoint, methods=["PATCH"]),
            Route("/v1/jobs", JobsEndpoint, methods=["GET", "POST"]),
            Route("/v1/jobs/{job}", JobEndpoint, methods=["GET", "DELETE"]),
            Route("/v1/jobs/{job}/events", EventsEndpoint, methods=["GET"]),
            Route("/v1/jobs/{job}/result", ResultEndpoint, methods=["GET"]),
        ],
        middleware=[
            Middleware(Observed, metrics=service.metrics, log=service.log),
            Middleware(Authorised, gate=service.gate, log=service.log),
        ],
        exception_handlers={
            Refused: _refused,
            HTTPException: _not_routed,
            ClientDisconnect: _gone,
            **dict.fromkeys((LowmemError, OSError, MemoryError, RuntimeError, sqlite3.Error), _failed),
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


class _Endpoint(HTTPEndpoint):
    @property
    def service(self) -> Service:
        return self.scope["app"].state.service


class HealthEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})


class FiguresEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        if _client(request).name != FIRST:  # they are of all clients together
            raise Refused(403, "figures are for whoever runs the service", "send the token of its store")
        return Response(await run_in_threadpool(self.service.metrics.text), headers={"Content-Type": CONTENT_TYPE})


class DescriptionEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse(self.service.description())


class CardEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        return Response(card_text(self.service.settings.weights.card), media_type="application/json")


class KeyFolderEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.service.folders.status, _keys(request)))

    async def put(self, request: Request) -> Response:
        keys, folders = _keys(request), self.service.folders
        manifest = await whole(request, LONGEST_MANIFEST, "a manifest")
        new = await run_in_threadpool(folders.offer, keys, manifest)
        if new:
            self.service.log.event("keys.offered", **facts_of(keys))
        return JSONResponse(await run_in_threadpool(folders.status, keys), 201 if new else 200)

    async def delete(self, request: Request) -> Response:
        keys = _keys(request)
        await run_in_threadpool(self.service.remove_keys, keys)
        self.service.log.event("keys.deleted", **facts_of(keys))
        return Response(status_code=204)


class KeyFileEndpoint(_Endpoint):
    async def patch(self, request: Request) -> Response:
        """Write each piece of a file before the next is received: what comes before a cut is kept."""
        keys, file, offset = _keys(request), request.path_params["file"], _offset(request)
        folders = self.service.folders
        size = await run_in_threadpool(folders.size, keys, file)
        offset = await run_in_threadpool(folders.append, keys, file, offset, b"")
        try:
            async for piece in pieces(request, size - offset, "the rest of this file"):
                offset = await run_in_threadpool(folders.append, keys, file, offset, piece)
                self.service.metrics.received_bytes.inc(len(piece))
        finally:
            await run_in_threadpool(self.service.finish_file, keys, file)
        return Response(status_code=204, headers={OFFSET: str(offset)})


class JobsEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        tickets = await run_in_threadpool(self.service.queue.of, _client(request).name)
        return JSONResponse({"jobs": [ticket.as_json() for ticket in tickets]})

    async def post(self, request: Request) -> Response:
        digest, client = request.query_params.get("keys", ""), _client(request)
        if not _KEYS.fullmatch(digest):
            raise Refused(400, "the query names no keys", "POST /v1/jobs?keys=K")
        keys = keys_named(client.name, digest)
        await run_in_threadpool(self.service.intake.check_quota, keys)
        received = await self._receive(request)
        async with self.service.checking:
            ticket, new = await run_in_threadpool(self.service.accept, received, keys, client)
        return JSONResponse(ticket.as_json(), 201 if new else 200)

    async def _receive(self, request: Request) -> Path:
        path = self.service.store.incoming / secrets.token_hex(8)
        most = self.service.ciphertext_bytes
        try:
            with await run_in_threadpool(open, path, "xb") as file:
                async for piece in pieces(request, most, "a ciphertext of this parameter set"):
                    await run_in_threadpool(file.write, piece)
                    self.service.metrics.received_bytes.inc(len(piece))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


class JobEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        return JSONResponse((await _ticket(self.service, request)).as_json())

    async def delete(self, request: Request) -> Response:
        ticket = await _ticket(self.service, request)
        await run_in_threadpool(self.service.cancel, ticket)
        return JSONResponse((await _ticket(self.service, request)).as_json())


class EventsEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        ticket, last_id = await _ticket(self.service, request), request.headers.get("last-event-id", "")
        find = partial(self.service.ticket, ticket.client, ticket.id)
        stream: AsyncIterator[str] = events(ticket.id, find, self.service.feed, last_id)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")


class ResultEndpoint(_Endpoint):
    async def get(self, request: Request) -> Response:
        ticket = await _ticket(self.service, request)
        if ticket.state in (FAILED, CANCELLED):
            raise Refused(410, f"the job was {ticket.state}" if ticket.state == CANCELLED else "the job has failed")
        if ticket.state != DONE:
            raise Refused(409, f"the job is {ticket.state}", f"follow it: GET /v1/jobs/{ticket.id}/events")
        try:
            result = await run_in_threadpool(self.service.store.result(ticket.id).read_bytes)
        except FileNotFoundError:  # it was deleted a moment ago
            raise Refused(410, "the job's result was removed") from None
        return Response(result, media_type="application/octet-stream")


# --- what requests name ---------------------------------------------------------------------------------------


def _client(request: Request) -> Client:
    return request.user


def _keys(request: Request) -> str:
    """Return the name of the client's own key folder of that digest."""
    digest = request.path_params["keys"]
    if not _KEYS.fullmatch(digest):
        raise unknown("such key folder")
    return keys_named(_client(request).name, digest)


def _offset(request: Request) -> int:
    offset = request.headers.get(OFFSET, "")
    if not _OFFSET.fullmatch(offset):
        raise Refused(400, f"the header {OFFSET} names no place in the file", "0 is its beginning")
    return int(offset)


async def _ticket(service: Service, request: Request) -> Ticket:
    ticket = await run_in_threadpool(service.ticket, _client(request).name, request.path_params["job"])
    if ticket is None:
        raise unknown("such job")
    return ticket


# --- what goes wrong ------------------------------------------------------------------------------------------


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    service: Service = request.app.state.service
    facts = {"client": _client(request).name, "path": request.scope["path"]}
    service.log.detail("refused", **facts, status=error.status, error=error.message)
    return answer(error)


async def _failed(request: Request, error: Exception) -> Response:
    refused = refusal_of(error)
    if refused.status == 422:  # what was sent is at fault
        return await _refused(request, refused)
    if refused.status == 500:
        raise error
    service: Service = request.app.state.service
    service.log.fault("fault", path=request.scope["path"], error=f"{type(error).__name__}: {error}")
    return answer(refused)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = Refused(error.status_code, str(error.detail).lower(), headers=error.headers)
    return answer(refused)


async def _gone(request: Request, error: Exception) -> Response:
    """Answer, though nobody reads it."""
    return Response(status_code=400)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Tell of a fault of this program, which uvicorn logs."""
    return answer(refusal_of(error))
