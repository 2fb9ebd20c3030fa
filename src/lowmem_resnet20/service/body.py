"""The body of a request: received in pieces of about a mebibyte, and never more of it than may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from .refusals import Refused

_PIECE_BYTES = 1 << 20


async def pieces(request: Request, most: int, what: str) -> AsyncIterator[bytes]:
    """Yield the body, of a client that goes away what came before too.

    Errors: Refused for over ``most`` bytes; ClientDisconnect.
    """
    too_large = Refused(413, f"{what} has {most} bytes at most")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large
    piece, received = bytearray(), 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > most:
                raise too_large
            piece += chunk
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    except ClientDisconnect:
        if piece:
            yield bytes(piece)
        raise
    if piece:
        yield bytes(piece)


async def whole(request: Request, most: int, what: str) -> bytes:
    """Return all of a short one.  Errors: as :func:`pieces`."""
    return b"".join([piece async for piece in pieces(request, most, what)])
