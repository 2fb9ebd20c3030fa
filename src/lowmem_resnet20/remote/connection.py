"""HTTP with one service: answers within bounds, no redirects, and lost connections taken up again."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from ..errors import ServerError, on_one_line
from ..progress.display import format_seconds
from .address import TOKEN_VARIABLE, Address
from .proxies import Proxy, fault_of, proxy_to, trusted_certificates
from .said import HttpAnswer, ServiceRefused, clean, nonsense, status_name

T = TypeVar("T")

LONGEST_JSON = 1 << 20
#: Of events: what a run's steps are said in, those of many pictures.
LONGEST_LINE = 1 << 22
#: Seconds: a service that waits says so every fifteen.
_TIMEOUT = httpx.Timeout(60, connect=10)
#: Statuses of a service that is not there for the moment, or has too much to do; from 520 on, in the words of proxies
#: that stand before many services.
_LATER = (408, 425, 429, 502, 503, 504, 507, *range(520, 528), 530)
_UNREACHABLE_HINT = "is it running (lowmem-resnet20 serve N), and is the address right?"
_TOKEN_HINT = (
    f"token FILE, or {TOKEN_VARIABLE} in the environment: whoever runs the service gives it to you (token add NAME)"
)
_CERTIFICATE_HINT = "SSL_CERT_FILE in the environment names a file of the certificates to trust"


class Lost(Exception):
    """An exchange that was cut, or put off: it is taken up again.

    pause: seconds that the service asks for;
    unless_met: the error instead, where no service was there before.
    """

    def __init__(self, reason: str, pause: float = 0.0, unless_met: ServerError | None = None) -> None:
        super().__init__(reason)
        self.reason, self.pause, self.unless_met = reason, pause, unless_met


@dataclass(frozen=True)
class Patience:
    """For how long a service is tried again that does not answer, and the pauses between: each twice the one before,
    up to the longest, less a random part, so that many clients do not come back at once.  All in seconds."""

    seconds: float = 600.0
    first_pause: float = 0.5
    longest_pause: float = 15.0

    def pause(self, failures: int) -> float:
        """Return the pause after so many failures in a row, the first being 0."""
        most = min(self.longest_pause, self.first_pause * 2 ** min(failures, 30))
        return random.uniform(0.5, 1.0) * most


PATIENCE = Patience()


class Stopped(ServerError):
    """Raised where :meth:`Connection.stop` was called."""


class Connection(AbstractContextManager):
    """Asks one service, again where need be.

    say: tells the user that the service is lost, and found again.
    """

    def __init__(self, address: Address, say: Callable[[str], None], patience: Patience | None = None) -> None:
        self.address, self._say, self._patience = address, say, patience or PATIENCE
        self._client, self._proxy = _client(address)
        self._at_proxy = False
        self._met = False
        self._failures, self._lost_since, self._told = 0, 0.0, False
        self._stopped = threading.Event()
        self._followed: httpx.Response | None = None

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        most_bytes: int = LONGEST_JSON,
        accept: tuple[int, ...] = (200,),
    ) -> HttpAnswer:
        """Return the answer to a request, which may be sent more than once; its status is one of ``accept``.

        Errors: ServiceRefused for another status; ServerError for a service that stays away, or says more than
        ``most_bytes``.
        """
        once = partial(self.once, method, path, content=content, most_bytes=most_bytes, accept=accept)
        return self.persist(once)

    def once(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        most_bytes: int = LONGEST_JSON,
        accept: tuple[int, ...] = (200,),
    ) -> HttpAnswer:
        """Ask as :meth:`ask`, but send the request once.  Errors: Lost too."""
        with self._response(method, path, content, headers or {}) as response:
            answer = _answer(response, most_bytes if response.status_code in accept else LONGEST_JSON)
        self._check(answer, accept)
        return answer

    def persist(self, exchange: Callable[[], T]) -> T:
        """Return what ``exchange`` does, which is called again as long as it is Lost and patience lasts.

        Errors: Stopped too.
        """
        while True:
            self._check_stopped()
            try:
                result = exchange()
            except Lost as lost:
                self._wait(lost)
            else:
                self._heard()
                return result

    def sleep(self, seconds: float) -> None:
        """Wait before the service is asked again, unless it is stopped meanwhile."""
        self._stopped.wait(seconds)

    def stop(self) -> None:
        """Stop it, from any thread: no more is asked, :meth:`persist` ends, and what it follows is cut off."""
        self._stopped.set()
        if self._followed is not None:
            connected = self._followed.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):  # also under TLS, whose own end would have to be agreed on
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def lines(self, path: str, last_id: str = "") -> Generator[str, None, None]:
        """Yield the lines of a text/event-stream as they come, on one connection.

        last_id: of the event after which it is to begin.

        Errors: Lost if it is cut; otherwise as :meth:`ask`.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with self._response("GET", path, b"", headers) as response:
            self._followed = response
            self._check_stopped()  # only now, for whoever stops it has to find the one or the other
            if response.status_code != 200:
                self._check(_answer(response, LONGEST_JSON), (200,))
            rest = b""
            for chunk in response.iter_raw():  # as it comes: of a size that is asked for, it would be waited for
                *lines, rest = (rest + chunk).split(b"\n")
                if max(map(len, (*lines, rest))) > LONGEST_LINE:
                    raise nonsense("a line of events")
                for line in lines:
                    self._heard()
                    yield line.decode("utf-8", "replace").removesuffix("\r")

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped("it was stopped")

    @contextmanager
    def _response(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        url, self._at_proxy = self.address.url + path, False
        traced = {"trace": self._trace}
        try:
            with self._client.stream(method, url, content=content, headers=headers, extensions=traced) as response:
                yield response
        except httpx.TransportError as error:
            raise self._lost(error) from error
        except Exception as error:
            if not self._at_proxy:
                raise
            raise self._lost(error) from error  # of what speaks no SOCKS, socksio's own

    def _trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Hear what httpx begins or ends: a new connection is the proxy's until the service's TLS begins."""
        part, _, step = event.partition(".")
        if self._proxy and step == "connect_tcp.started":
            self._at_proxy = True
        elif part in ("proxy", "socks") and step == "start_tls.started":
            self._at_proxy = False

    def _lost(self, error: Exception) -> Lost:
        """Return what to make of an error.  Errors: ServerError where trying again would not help."""
        proxy, url, hint = self._proxy if self._at_proxy else None, self.address.url, _UNREACHABLE_HINT
        if proxy:
            url, hint = f"the proxy at {proxy.url}", f"if it is asked in plain HTTP: {proxy.variable}=http://HOST:PORT"
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                why = clean(cause.verify_message)
                raise ServerError(f"the certificate of {url} is not to be trusted: {why}", _CERTIFICATE_HINT) from error
            if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
                raise ServerError(f"{url} does not answer in https", hint) from error
        reason = clean(on_one_line(error)) or type(error).__name__
        if proxy:
            told, for_good = fault_of(proxy, self.address.url, reason, refused=isinstance(error, httpx.ProxyError))
            if for_good:
                raise told from error
            return Lost(told.message, unless_met=told)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Lost(reason, unless_met=ServerError(f"no service answers at {url}: {reason}", hint))
        return Lost(reason)

    def _check(self, answer: HttpAnswer, accept: tuple[int, ...]) -> None:
        status, url = answer.status, self.address.url
        if status in accept:
            return
        if status in _LATER:
            raise Lost(f"it answers {answer.said()}", answer.pause())
        if status == 401:
            what = "does not accept the token" if self.address.token else "wants a token, and none was given"
            raise ServiceRefused(status, f"the service at {url} {what}", _TOKEN_HINT)
        if 300 <= status < 400:
            hint = "name the service's own address: the token is sent nowhere else"
            raise ServiceRefused(status, f"{url} sends its callers elsewhere ({status_name(status)})", hint)
        raise answer.refusal()

    def _heard(self) -> None:
        """Note that the service is there."""
        if self._told:
            self._say(f"the service at {self.address.url} answers again")
        self._met, self._failures, self._told = True, 0, False

    def _wait(self, lost: Lost) -> None:
        """Pause before the next try.  Errors: ServerError if patience is at its end, or there never was a service."""
        now, url = time.monotonic(), self.address.url
        self._lost_since = self._lost_since if self._failures else now
        if lost.unless_met and not self._met:
            raise lost.unless_met from lost
        gone = now - self._lost_since
        if gone >= self._patience.seconds:
            raise ServerError(f"the service at {url} has not answered for {format_seconds(gone)}: {lost.reason}")
        if self._failures and not self._told:  # the first is often mended by the next try
            self._told = True
            self._say(f"the service at {url} does not answer ({lost.reason}): trying again")
        pause = max(self._patience.pause(self._failures), lost.pause)
        self._failures += 1
        self.sleep(min(pause, max(self._lost_since + self._patience.seconds - time.monotonic(), 0.0)))


def _client(address: Address) -> tuple[httpx.Client, Proxy | None]:
    """Return a client with the proxy that it goes through: to this machine none.  Redirects are not followed.

    Errors: EnvironmentFault for a variable that can have no meaning.
    """
    token = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    headers = {"Accept-Encoding": "identity", **token}
    parts = urlsplit(address.url)
    https = parts.scheme == "https"
    trusted = trusted_certificates() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # of none, for none are seen
    proxy = None if address.on_this_machine else proxy_to(parts.hostname or "", parts.port or 443)
    through = None
    if proxy:
        to_proxy = trusted if proxy.url.startswith("https") else None
        through = httpx.Proxy(proxy.url, auth=proxy.login, ssl_context=to_proxy)
    client = httpx.Client(
        headers=headers, timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=trusted, proxy=through
    )
    return client, proxy


def _answer(response: httpx.Response, most_bytes: int) -> HttpAnswer:
    """Read an answer whole.  Errors: ServerError if it is longer."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > most_bytes:
            raise ServerError(f"the service answers more than the {most_bytes} bytes that can be right")
    return HttpAnswer(response.status_code, dict(response.headers), bytes(body))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
