"""Who may ask the page's program anything: the browser that was given the address with its ticket, and no other site.

Names of other sites that were made to lead here (DNS rebinding) do not get past the Host header, pages of other sites
not past Origin and Sec-Fetch-Site, other programs and users of the machine not past the cookie: unless they serve
another page on this machine that the browser visits, for a browser sends its cookies to every port of a host.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Where a ticket is exchanged for a cookie.
ENTRANCE = "/session"
_LONGEST_TICKET = 256
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets through to the application what may be asked.

    hosts: what the page's own address may be called, with the port;
    public: paths of what anyone may read, for it is in the package;
    ticket: goes into the address that is printed.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], public: frozenset[str]) -> None:
        self._app, self._hosts, self._public = app, hosts, public
        self.ticket = secrets.token_urlsafe(32)
        self._pass = secrets.token_urlsafe(32)
        # Browsers send cookies to every port of a host: the name tells whose it is.
        self._cookie = f"lowmem-resnet20-{hosts[0].rpartition(':')[2]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        request = Request(scope, receive)
        response = self._refusal(request)
        if response is None and request.url.path == ENTRANCE:
            response = await self._enter(request)
        await (response or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers, reading = request.headers, request.method in ("GET", "HEAD")
        if headers.get("host", "") not in self._hosts:
            return _error(421, "this page is not served under that name", f"open http://{self._hosts[0]}/")
        if reading and request.url.path in self._public:
            return None
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return _error(403, "other sites may not ask this page's program anything")
        if not reading and headers.get("origin") != f"http://{headers['host']}":
            return _error(403, "other sites may not ask this page's program anything")
        if request.url.path != ENTRANCE and not _same(request.cookies.get(self._cookie, ""), self._pass):
            return _error(401, "this browser has not opened the page", "open the address that the program printed")
        return None

    async def _enter(self, request: Request) -> Response:
        """Exchange the ticket, the request's body, for a cookie."""
        if request.method != "POST":
            return _error(405, "a ticket is posted")
        given = b""
        async for part in request.stream():
            given += part
            if len(given) > _LONGEST_TICKET:
                break
        if not _same(given.decode("ascii", "replace"), self.ticket):
            return _error(403, "the ticket is not this program's", "open the address that it printed last")
        response = Response(status_code=204)
        response.set_cookie(self._cookie, self._pass, httponly=True, samesite="strict")
        return response


def _same(given: str, ours: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), ours.encode())


def _error(status: int, message: str, hint: str = "") -> Response:
    return JSONResponse({"error": message, "hint": hint}, status)
