"""Addresses at which no head of a Ray cluster answers, in a process that has nothing else of a run."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

pytest.importorskip("ray")
#: Not 127.0.0.1, for which Ray takes the address by which others know this machine.
HERE = "127.0.0.3"
CHECK = """
import sys
from lowmem_resnet20.cluster.joining import joined
from lowmem_resnet20.errors import EnvironmentFault
try:
    with joined(sys.argv[1]):
        pass
except EnvironmentFault as error:
    print(error.message)
    print(error.hint)
"""


class Nothing(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def checking(address: str, **environment: str) -> subprocess.Popen[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CHECK, address], env=os.environ | environment, **streams)


@contextmanager
def listening(answer: bytes | None) -> Iterator[tuple[socket.socket, str]]:
    """Something that says this to whatever comes, and ends; or, of None, never says anything."""
    with socket.create_server((HERE, 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(1000)
                        client.sendall(answer or b"")

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield server, f"{HERE}:{server.getsockname()[1]}"


def test_what_answers_is_no_head():
    """A page such as the dashboard, a Redis, and what is silent: all of them take connections."""
    with http.server.ThreadingHTTPServer((HERE, 0), Nothing) as page, ExitStack() as held:
        threading.Thread(target=page.serve_forever, args=(0.01,), daemon=True).start()
        addresses = [f"{HERE}:{page.server_address[1]}"]
        addresses += [held.enter_context(listening(said))[1] for said in (b"-ERR unknown command 'PRI'\r\n", None)]
        for address, asked in [(address, checking(address)) for address in addresses]:
            out, err = asked.communicate()
            message, hint = out.splitlines()
            assert (message, err) == (f"what answers at {address} is no head of a Ray cluster", "")
            assert "ray start --head" in hint and "8265" in hint
        page.shutdown()


def test_auto_is_the_cluster_of_this_machine_whatever_the_environment_says():
    """Nobody knocks where RAY_ADDRESS points."""
    with listening(None) as (server, address):
        checking("auto", RAY_ADDRESS=address).communicate()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_machine_that_starts_no_thread_is_no_other_ray():
    """Ray's own errors have the type of Python's."""
    for said, message in (
        ("can't start new thread", "no more threads can be started"),
        ("Version mismatch", "cannot make a Ray cluster: Version mismatch"),
    ):
        code = f"def init(*_, **words):\n    raise RuntimeError({said!r})\nimport ray\nray.init = init\n{CHECK}"
        done = subprocess.run([sys.executable, "-c", code, "local"], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[0] == message, done.stderr
