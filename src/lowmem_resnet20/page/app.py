"""What the page's browser may ask for: the page itself, what it shows, and to take or remove a picture."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..client.checks import Caution
from ..errors import LowmemError, PictureError
from ..machine.faults import explain
from ..model.picture import check_size
from ..network.ranges import Foreseen
from .drawing import png_of_pixels
from .guard import Guard
from .session import Key, Session, TooMany, name_of, told

_STATIC = Path(__file__).parent / "static"
#: Seconds after which a stream without news says that it is there.
_HEARTBEAT = 15.0
#: Seconds without a byte of a picture after which it is given up: the others wait for it.
_SILENCE = 20.0

#: Reads a picture's content, called so, and looks at it in the clear; returns its pixels and what was found.
Look = Callable[[bytes, Path], tuple[np.ndarray, Foreseen | None, tuple[Caution, ...]]]
Handler = Callable[[Request], Awaitable[Response]]


def make_app(session: Session, look: Look, about: Mapping[str, Any], hosts: tuple[str, ...]) -> Guard:
    """Return the application.

    session: what the page shows;
    look: see Look;
    about: what the page is told of the program, once;
    hosts: as of :class:`.guard.Guard`.
    """
    page = _Page(session, look, about)
    routes = [
        Route("/events", page.events),
        Route("/pictures", page.add, methods=["POST"]),
        Route("/pictures/{number:int}", page.remove, methods=["DELETE"]),
        Route("/pictures/{number:int}/again", page.repeat, methods=["POST"]),
        Route("/pictures/{number:int}.png", page.pixels),
        Route("/runs/{number:int}.png", page.noise),
        Mount("/", StaticFiles(directory=_STATIC, html=True)),
    ]
    handlers = {LowmemError: _refused, KeyError: _unknown, HTTPException: _wrong, Exception: _failed}
    public = frozenset({"/", *(f"/{file.name}" for file in _STATIC.iterdir())})
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts, public)  # type: ignore[arg-type]


class _Page:
    def __init__(self, session: Session, look: Look, about: Mapping[str, Any]) -> None:
        self._session, self._look, self._about = session, look, about
        self._one_at_a_time = asyncio.Lock()

    async def add(self, request: Request) -> Response:
        """Take the picture that is the body; ``bytes`` in the query is its size, so that none too large need come."""
        path = name_of(request.query_params.get("name", ""))
        async with self._one_at_a_time:
            with self._session.reading():
                content = await _content(request, path)
                picture = self._session.add(path, *await run_in_threadpool(self._look, content, path))
        return JSONResponse({"id": picture.number}, 201)

    async def remove(self, request: Request) -> Response:
        self._session.remove(request.path_params["number"])
        return Response(status_code=204)

    async def repeat(self, request: Request) -> Response:
        self._session.repeat(request.path_params["number"])
        return Response(status_code=204)

    async def pixels(self, request: Request) -> Response:
        """Answer with the picture as the network sees it."""
        picture = self._session.picture(request.path_params["number"])
        return Response(png_of_pixels(picture.pixels), media_type="image/png")

    async def noise(self, request: Request) -> Response:
        """Answer with some of the ciphertext."""
        sent = self._session.run(request.path_params["number"]).sent
        if sent is None:
            raise KeyError
        return Response(sent.noise, media_type="image/png")

    async def events(self, request: Request) -> Response:
        """Tell all there is, then what changes, as server-sent events."""
        return StreamingResponse(self._tell(), media_type="text/event-stream")

    async def _tell(self) -> AsyncIterator[str]:
        news = _News(asyncio.get_running_loop())
        there = self._session.listen(news.hear)
        try:
            yield _event("all", {"about": self._about, **there})
            while True:
                changed = await news.next()
                if not changed:
                    yield ": still here\n\n"
                for key in changed:
                    yield _event(*self._session.look(key))
        finally:
            self._session.forget(news.hear)


class _News:
    """Keeps what has changed and was not told yet, each once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._some = loop, asyncio.Event()
        self._keys: dict[Key, None] = {}

    def hear(self, key: Key) -> None:
        """Note a change, from any thread."""
        self._loop.call_soon_threadsafe(self._note, key)

    def _note(self, key: Key) -> None:
        self._keys[key] = None
        self._some.set()

    async def next(self) -> list[Key]:
        """Return the changes as soon as there are some; or nothing, after a while without any."""
        try:
            await asyncio.wait_for(self._some.wait(), _HEARTBEAT)
        except asyncio.TimeoutError:
            return []
        self._some.clear()
        keys, self._keys = list(self._keys), {}
        return keys


async def _content(request: Request, path: Path) -> bytes:
    """Return the body, as far as a picture may be large.  Errors: PictureError, also for one that stops on its way."""
    declared = request.query_params.get("bytes", "")
    check_size(int(declared) if declared.isdecimal() and len(declared) < 20 else 1, path)
    content, parts = bytearray(), request.stream()
    try:
        while (part := await asyncio.wait_for(anext(parts, None), _SILENCE)) is not None:
            content += part
            check_size(max(len(content), 1), path)
    except asyncio.TimeoutError as error:
        raise PictureError(f"{path} stopped on its way to the program") from error
    return bytes(content)


def _event(name: str, fields: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(fields)}\n\n"


def _error(status: int, error: LowmemError) -> Response:
    fields = told(error.message, error.hint)
    return JSONResponse({"error": fields["message"], "hint": fields["hint"]}, status)


async def _refused(request: Request, error: LowmemError) -> Response:
    return _error(429 if isinstance(error, TooMany) else 422, error)


async def _unknown(request: Request, error: KeyError) -> Response:
    return _error(404, LowmemError("there is no such picture"))


async def _wrong(request: Request, error: HTTPException) -> Response:
    return _error(error.status_code, LowmemError(error.detail))


async def _failed(request: Request, error: Exception) -> Response:
    return _error(500, explain(error))
