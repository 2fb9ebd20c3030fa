"""A connection that another thread can end, such as at the page's word ``Stop``."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeVar

import httpx

from ..errors import ServerError
from .address import Address
from .connection import Connection, Patience

T = TypeVar("T")


class Stopped(ServerError):
    """It was ended by :meth:`Stoppable.stop`."""


class Stoppable(Connection):
    """Errors, of all that waits for the service: Stopped too."""

    def __init__(self, address: Address, say: Callable[[str], None], patience: Patience | None = None) -> None:
        super().__init__(address, say, patience)
        self._stopped = threading.Event()
        self._answer: httpx.Response | None = None

    def stop(self) -> None:
        """From any thread: what goes on is cut off where an answer has begun, and nothing more is asked."""
        self._stopped.set()
        if self._answer is not None:
            connected = self._answer.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):  # also under TLS, whose own end would have to be agreed on
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def persist(self, exchange: Callable[[], T]) -> T:
        def once() -> T:
            if self._stopped.is_set():
                raise Stopped("it was stopped")
            return exchange()

        return super().persist(once)

    def sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    @contextmanager
    def _response(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        with super()._response(method, path, content, headers) as response:
            self._answer = response
            try:
                yield response
            finally:
                self._answer = None
