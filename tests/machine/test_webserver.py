"""Connections that their clients keep open for nothing, and what uvicorn would take from the environment.

Time does not pass in these tests: what a connection does when its time is over is done by hand.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import uvicorn

from lowmem_resnet20.machine import webserver
from lowmem_resnet20.machine.webserver import _Connection, web_server

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Served:
    """An application that answers what it is told to, when it is told to."""

    def __init__(self, answer: bytes = b"", read: bool = True) -> None:
        self.answer, self.read = answer, read
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.clients: list[Any] = []
        self.answered = self.asked = 0

    async def __call__(self, scope, receive, send) -> None:
        self.asked += 1
        self.clients.append(scope["client"])
        while self.read and (await receive()).get("more_body"):
            pass
        await self.go_on.wait()
        length = str(len(self.answer)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": self.answer})
        self.answered += 1

    async def open(self) -> None:
        self.server = web_server(self)
        self.server.config.load()
        self.state = uvicorn.server.ServerState()
        self.listening = await asyncio.get_running_loop().create_server(self._connection, "127.0.0.1", 0)
        self.made: list[_Connection] = []

    def _connection(self) -> _Connection:
        self.made.append(_Connection(self.server.config, self.state, {}))
        return self.made[-1]

    async def connect(self, sent: bytes = b"") -> Client:
        number = len(self.made)
        reader, writer = await asyncio.open_connection(*self.listening.sockets[0].getsockname()[:2])
        await until(lambda: len(self.made) > number and self.made[number].transport)
        client = Client(reader, writer, self.made[number])
        await client.send(sent)
        return client


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Any) -> None:
        self.reader, self.writer, self.there = reader, writer, there

    async def send(self, data: bytes) -> None:
        before = self.there._received
        self.writer.write(data)
        await until(lambda: self.there._received == before + len(data) or self.there.flow.read_paused)

    async def is_ended_after(self, times: int) -> bool:
        """Whether the connection ends when its time has been over so often, and not before."""
        for i in range(times):
            assert not self.there.transport.is_closing(), i
            timer = self.there._timer
            over, arguments = timer._callback, timer._args
            timer.cancel()
            over(*arguments)
        return self.there.transport.is_closing()


async def until(holds: Callable[[], object]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def served(test: Callable[[Served], Awaitable[None]], **told: Any) -> None:
    async def run() -> None:
        there = Served(**told)
        await there.open()
        await test(there)
        there.listening.close()

    asyncio.run(run())


@pytest.mark.parametrize("sent", [b"", b"G", GET[:-2]])
def test_one_that_does_not_ask_is_ended(sent):
    async def test(there: Served) -> None:
        client = await there.connect(sent)
        assert await client.is_ended_after(1)
        with suppress(ConnectionError):
            assert await client.reader.read() == b""
        await until(lambda: not there.state.connections)

    served(test)


def test_a_head_that_comes_byte_by_byte_is_not_waited_for():
    """Neither of the first request nor of the next."""

    async def test(there: Served) -> None:
        client = await there.connect(GET[:5])
        await client.send(GET[5:9])
        assert await client.is_ended_after(1)
        client = await there.connect(GET)
        assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await client.send(GET[:5])
        assert not await client.is_ended_after(1)
        await client.send(GET[5:9])
        assert await client.is_ended_after(1)

    served(test)


def test_one_that_asks_again_stays():
    async def test(there: Served) -> None:
        client = await there.connect()
        for number in range(3):
            await client.send(GET)
            await until(lambda number=number: there.answered == number + 1)
            await until(lambda: not client.there.transport.get_write_buffer_size())
            assert not await client.is_ended_after(1)

    served(test)


def test_one_that_waits_for_its_answer_is_not_ended():
    async def test(there: Served) -> None:
        there.go_on.clear()
        client = await there.connect(GET)
        await until(lambda: there.asked)
        assert not await client.is_ended_after(10)
        there.go_on.set()
        assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"

    served(test)


def test_a_body_that_stops_is_not_waited_for():
    async def test(there: Served) -> None:
        client = await there.connect(HEAD % 1_000_000 + b"x")
        assert not await client.is_ended_after(1)
        for _ in range(3):  # slow, but it comes
            await client.send(b"x" * webserver._PROGRESS_BYTES)
            assert not await client.is_ended_after(1)
        await client.send(b"x")
        assert await client.is_ended_after(1)
        assert there.answered == 0

    served(test)


def test_a_body_that_the_program_does_not_take_yet_is_its_own_affair():
    async def test(there: Served) -> None:
        client = await there.connect(HEAD % 1_000_000 + b"x" * 900_000)
        await until(lambda: client.there.flow.read_paused)
        assert not await client.is_ended_after(10)
        waiting = await there.connect(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 1_000_000)
        await until(lambda: there.asked == 2)
        assert not await waiting.is_ended_after(10)

    async def unread(there: Served) -> None:
        there.go_on.clear()
        await test(there)

    served(unread, read=False)


def test_the_rest_of_a_body_that_has_its_answer_already_is_not_waited_for():
    async def test(there: Served) -> None:
        client = await there.connect(HEAD % 1_000_000)
        assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await client.send(b"x" * webserver._PROGRESS_BYTES)
        assert not await client.is_ended_after(1)
        await client.send(b"x" * webserver._PROGRESS_BYTES)
        assert not await client.is_ended_after(1)
        await client.send(b"x")
        assert await client.is_ended_after(1)

    served(test, read=False)


def test_one_that_does_not_read_its_answer_is_ended():
    async def test(there: Served) -> None:
        client = await there.connect(GET)
        await until(lambda: there.asked and client.there.transport.get_write_buffer_size())
        assert not await client.is_ended_after(1)
        before = client.there.transport.get_write_buffer_size()
        await client.reader.readexactly(10_000_000)  # slow, but it reads
        await until(lambda: client.there.transport.get_write_buffer_size() < before)
        assert not await client.is_ended_after(1)
        size = -1
        while size != client.there.transport.get_write_buffer_size():  # until the kernel takes no more
            size = client.there.transport.get_write_buffer_size()
            client.there._timer.cancel()
            client.there._watch()
            await asyncio.sleep(0.2)
        assert await client.is_ended_after(1)

    served(test, answer=b"x" * 60_000_000)


def test_the_longest_silent_makes_room(monkeypatch):
    """And none that is being answered: those who ask are let in, however many say nothing."""
    monkeypatch.setattr(webserver, "_MOST", 8)

    async def test(there: Served) -> None:
        there.go_on.clear()
        busy = [await there.connect(GET) for _ in range(4)]
        await until(lambda: there.asked == 4)
        silent = [await there.connect() for _ in range(20)]
        await until(lambda: len(there.state.connections) == 8)
        await until(lambda: [c.there.transport.is_closing() for c in silent] == [True] * 16 + [False] * 4)
        there.go_on.set()
        client = await there.connect(GET)
        for answered in (client, *busy):
            assert await answered.reader.readline() == b"HTTP/1.1 200 OK\r\n"

    served(test)


def test_where_all_are_busy_one_more_is_asked_to_come_later(monkeypatch):
    monkeypatch.setattr(webserver, "_MOST", 8)

    async def test(there: Served) -> None:
        there.go_on.clear()
        busy = [await there.connect(GET) for _ in range(8)]
        await until(lambda: there.asked == 8)
        for _ in range(3):
            client = await there.connect(GET)
            assert await client.reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
        there.go_on.set()
        for client in busy:
            assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"

    served(test)


# --- descriptors and the environment --------------------------------------------------------------------------


def most(soft: int, hard: int) -> str:
    """What a process of these limits says of its connections, and of its limit then."""
    script = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from lowmem_resnet20.machine.webserver import web_server\n"
        "from lowmem_resnet20.errors import LowmemError\n"
        "try: print(web_server(None).config.limit_concurrency - 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "except LowmemError as error: print(error.message, error.hint, sep='\\n')\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_as_many_connections_as_descriptors_allow():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = hard if hard != resource.RLIM_INFINITY else 4096
    assert most(100, enough) == "256 640\n"  # the limit is raised as far as is of use
    assert most(1024, enough) == "256 1024\n"
    assert most(100, 300) == "86 300\n"
    message, hint = most(100, 120).splitlines()
    assert message == "this process may open 120 files at once, and a server needs 144" and "ulimit -n" in hint


@pytest.mark.parametrize("workers", ["auto", "", "0", "4"])
def test_uvicorns_variables_are_not_read(monkeypatch, workers):
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")

    async def test(there: Served) -> None:
        forwarded = b"\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=192.0.2.1\r\n\r\n"
        client = await there.connect(GET.replace(b"\r\n\r\n", forwarded))
        assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert there.server.config.workers == 1
        assert not isinstance(there.server.config.loaded_app, uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware)

    served(test)
