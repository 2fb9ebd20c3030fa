"""Serving: takes the store, tells where it listens, and answers until it is ended."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ..errors import UsageError
from ..machine.files import os_fault
from ..machine.hosts import host_and_port, is_this_machine
from ..machine.interrupt import on_interrupt, wait_if_ending
from ..machine.libraries import openfhe_version
from ..machine.memory import available_bytes
from ..machine.webserver import web_server
from ..network.engines import OPENFHE
from ..network.parameters import ParameterSet, parameter_set
from ..network.weights import weights_given
from ..progress.display import format_bytes
from ..server.process import ServerProcess
from ..server.request import Evaluation
from .app import make_app
from .log import EventLog, telling_of_libraries
from .parts import Service, ServiceSettings
from .store import Store

DEFAULT_ADDRESS = "127.0.0.1:8642"
#: Seconds that answers on their way may still take when the service is ended.
_GRACE_SECONDS = 3


@dataclass(frozen=True)
class Serving:
    """What a service is asked to be.

    number: that of the parameter set;
    listen: HOST:PORT; empty: DEFAULT_ADDRESS;
    store: the folder of keys and jobs;
    weights: their file; None: the program's own;
    ray: address of the Ray cluster whose machines evaluate; empty: this machine;
    verbose, stderr: how much of what goes on is told, and where;
    told: hears where it is, in the fields that programs want: url, token_file, store, set;
    warn: hears what is amiss, and a hint.
    """

    number: int
    listen: str
    store: Path
    weights: Path | None
    ray: str
    verbose: int
    stderr: TextIO
    told: Callable[[dict[str, Any]], None]
    warn: Callable[[str, str], None]


def serve(asked: Serving) -> None:
    """Serve until a signal ends the process.

    Errors: UsageError for an address that is none, or a set that there is not; WeightsError; EnvironmentFault where the
    address or the store is in use, or the set is OpenFHE's, which is not there.
    """
    host, port = parse_address(asked.listen or DEFAULT_ADDRESS)
    weights = weights_given(asked.weights)
    set_ = parameter_set(asked.number, architecture=weights.architecture)
    if set_.engine == OPENFHE:
        openfhe_version()
    log = EventLog(asked.stderr, asked.verbose)
    store = Store(asked.store)
    store.open()
    settings = ServiceSettings(set_.number, weights, asked.weights, ServerProcess, asked.stderr)
    if asked.ray:
        settings = _on_cluster(asked.ray, settings)
    service = Service(settings, store, log)
    with telling_of_libraries(log), _listen(host, port) as listening:
        if not asked.ray:
            _warn_of_memory(set_, asked.warn)
        _run(service, listening, partial(_tell_where, asked, host, listening, service.store))


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, of IPv6 ``[HOST]:PORT``; port 0 is any that is free.  Errors: UsageError."""
    found = host_and_port(text)
    if found is None:
        raise UsageError(f"{text!r} is not HOST:PORT", f"such as {DEFAULT_ADDRESS}, or [::1]:8642")
    return found


def _on_cluster(address: str, settings: ServiceSettings) -> ServiceSettings:
    """Return the settings for jobs that a Ray cluster evaluates; a process of this machine hands them out.

    Its workers have one job at a time each, so that no number of jobs is too large.
    Errors: UsageError, EnvironmentFault if there is no cluster.
    """
    from ..cluster.joining import check_address

    check_address(address)

    def start(asked: Evaluation, stderr: TextIO) -> ServerProcess:
        return ServerProcess(replace(asked, ray=address), stderr)

    return replace(settings, start=start, room=lambda _: sys.maxsize)


def _warn_of_memory(set_: ParameterSet, warn: Callable[[str, str], None]) -> None:
    available = available_bytes()
    if available < set_.server_bytes:
        message = f"an evaluation takes {format_bytes(set_.server_bytes)}, and {format_bytes(available)} are free"
        warn(message, "close other programs, or jobs will fail for want of memory")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise os_fault(error, "listen on", f"{host}:{port}") from error


def _tell_where(asked: Serving, host: str, listening: socket.socket, store: Store) -> None:
    named = f"[{host}]" if ":" in host else host
    url = f"http://{named}:{listening.getsockname()[1]}"
    asked.told({"url": url, "token_file": str(store.token), "store": str(store.folder), "set": asked.number})
    if not is_this_machine(host.lower()):
        hint = "let a proxy that does TLS stand before it, and have it listen on 127.0.0.1"
        asked.warn("the token and all else travel unencrypted: the service has no TLS of its own", hint)


def _run(service: Service, listening: socket.socket, tell_where: Callable[[], None]) -> None:
    """Answer until a signal comes; then end what is going on, and the process."""
    server, ended = web_server(make_app(service), grace_seconds=_GRACE_SECONDS), threading.Event()

    def end() -> None:
        """End all, in the thread that the signal has reached, after which the process ends."""
        service.log.tell_repeated()
        service.log.event("service.stopping")
        server.should_exit = True
        service.stop()
        ended.wait(2 * _GRACE_SECONDS)

    with on_interrupt(end):
        service.start()
        tell_where()
        server.run(sockets=[listening])
        service.stop()
        service.close()
        ended.set()
        wait_if_ending()
