"""Serves a page to this machine's browser, and classifies what is dropped on it, until Ctrl-C."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..client import Client
from ..errors import PROGRAM, EnvironmentFault, UsageError
from ..machine.files import os_fault, private_folder
from ..machine.hosts import host_and_port
from ..machine.webserver import web_server
from ..model.picture import MAX_FILE_BYTES
from ..progress.display import Progress
from ..server.process import Running
from ..server.request import Job
from .app import make_app
from .classification import Classifier
from .guard import Guard
from .layers import steps_of
from .session import Session

_ALONE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """What a page is made of.

    client: who encrypts and decrypts;
    start: starts the evaluation of a job;
    server: address of the service that evaluates, for the reader; empty: this machine;
    listen: HOST:PORT, of this machine; empty: 127.0.0.1, and whichever port is free;
    progress: shows what goes on;
    say: told where the page is.
    """

    client: Client
    start: Callable[[Job], Running]
    server: str
    listen: str
    progress: Progress
    say: Callable[[str], None]


def page(settings: Settings) -> None:
    """Serve the page; never returns: a signal ends the process.  Errors: UsageError, EnvironmentFault."""
    client = settings.client
    with listening(settings.listen) as sock, private_folder(f"{PROGRAM}-") as temporary:
        port = sock.getsockname()[1]
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}")
        steps, session = steps_of(client.set), Session(client.set.pictures)
        classifier = Classifier(client, settings.start, temporary)
        app = make_app(session, classifier.look, facts_of(client, settings.server, steps), hosts)
        serve(app, sock)
        address = f"http://{'[::1]' if sock.family == socket.AF_INET6 else '127.0.0.1'}:{port}/#{app.ticket}"
        settings.say(f"page  {address}")
        if sys.stdout and sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            open_browser(address, temporary)
        classifier.work(session, steps, settings.progress)


def facts_of(client: Client, server: str, steps: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what the page is told of the program."""
    architecture = client.set.architecture
    stages = range(1, len(architecture.channels) + 1)
    return {
        "set": client.set.number,
        "keys": str(client.folder),
        "server": server,
        "group": client.set.pictures,
        "width": architecture.width,
        "classes": client.card.classes,
        "steps": steps,
        "stages": [{"channels": architecture.channels[s - 1], "width": architecture.stage_width(s)} for s in stages],
        "largest_file": MAX_FILE_BYTES,
    }


@contextmanager
def listening(listen: str) -> Iterator[socket.socket]:
    """Open a socket on ``listen``, HOST:PORT, or on 127.0.0.1 and whichever port is free.

    Errors: UsageError where others than this machine could connect; EnvironmentFault.
    """
    found = host_and_port(listen or "127.0.0.1:0")
    if found is None:
        raise UsageError(f"{listen!r} is not an address to listen on", "such as 127.0.0.1:8080")
    host, port = found
    if host not in _ALONE:
        raise UsageError(f"the page is for this machine alone, not for {host}", f"one of {', '.join(_ALONE)}")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    try:
        sock = socket.create_server(("127.0.0.1" if host == "localhost" else host, port), family=family)
    except OSError as error:
        raise os_fault(error, "listen on", listen or "127.0.0.1") from error
    with sock:
        yield sock


def serve(app: Guard, sock: socket.socket) -> None:
    """Serve in a thread of its own, for as long as the process lives.  Errors: EnvironmentFault."""
    server = web_server(app, log_level="critical")
    threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="page", daemon=True).start()


def open_browser(address: str, temporary: Path) -> None:
    """Open the address by way of a file that leads there: other users see the words that a browser is started with.

    It is started by a process that ends, for it is to stay when this one is ended.
    """
    leading = temporary / "page.html"
    leading.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>{PROGRAM}</title>')
    try:
        subprocess.Popen(
            [sys.executable, "-I", "-m", "webbrowser", leading.as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise EnvironmentFault(f"cannot start a browser: {error.strerror}") from error
