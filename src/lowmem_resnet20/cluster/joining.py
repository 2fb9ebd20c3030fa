"""Becoming one of the cluster's programs, and leaving it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ..errors import PROGRAM, EnvironmentFault, UsageError, on_one_line
from ..machine.hosts import host_and_port
from ..machine.interrupt import ENDING_SIGNALS

#: Addresses that are no machine's: the cluster this machine belongs to; one of this machine alone, made for the run.
AUTO, LOCAL = "auto", "local"
#: Pictures, results and pieces of key files on their way; there is little of them at a time.
_LOCAL_STORE_BYTES = 256 << 20
_SECONDS_TO_ANSWER = 10
_START = (
    "on the first machine: ray start --head; on others: ray start --address=FIRST:6379; then name FIRST:6379, or auto"
)
_SAME = (
    "it must be of this Ray and Python; if it wants a token: RAY_AUTH_MODE=token, "
    "and its ~/.ray/auth_token on this machine"
)
#: Ray's own, unless the environment says otherwise: no reports to its makers, and no log lines among this program's.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Inside this context this process may use the cluster at ``address``; what it started there ends with it.

    Errors: UsageError if it is no address; EnvironmentFault if there is no cluster, or one of another Ray or Python,
    and where Ray is not installed.
    """
    check_address(address)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    options = {"include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES} if address == LOCAL else {}
    try:
        with _in_an_empty_folder(), _unblocked_signals(), _silence():
            ray.init(address, log_to_driver=False, logging_level="CRITICAL", **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        message = f"cannot join the Ray cluster at {address}: {on_one_line(error)}"
        raise EnvironmentFault(message, _START if address == AUTO else _SAME) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """That something listens there: Ray itself would try for minutes.

    Ray takes this machine's own names for the address that others know it by, and so does this.
    Errors: UsageError; EnvironmentFault, also where Ray is not installed.
    """
    if find_spec("ray") is None:
        message = "a cluster needs the package ray, which is not installed"
        raise EnvironmentFault(message, f"pip install '{PROGRAM}[ray]'")
    if address in (AUTO, LOCAL):
        return
    host, port = host_and_port(address) or ("", 0)
    if not port:
        raise UsageError(f"{address!r} is not the address of a Ray cluster", "HOST:PORT, auto or local")
    if host in ("localhost", "127.0.0.1", "::1"):
        from ray.util import get_node_ip_address

        host = get_node_ip_address()
    try:
        socket.create_connection((host, port), _SECONDS_TO_ANSWER).close()
    except OSError as error:
        reason = error.strerror or on_one_line(error)  # that of getaddrinfo, too
        raise EnvironmentFault(f"no Ray cluster answers at {address}: {reason}", _START) from error


@contextmanager
def _in_an_empty_folder() -> Iterator[None]:
    """Ray has the cluster look for modules where the program that joins stands: there must be none."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with tempfile.TemporaryDirectory() as empty:
            os.chdir(empty)
            try:
                yield
            finally:
                os.fchdir(before)
    finally:
        os.close(before)


@contextmanager
def _silence() -> Iterator[None]:
    """Ray writes a line to stderr for each of its tries, and then says in its error why none succeeded."""
    before = os.dup(2)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@contextmanager
def _unblocked_signals() -> Iterator[None]:
    """What Ray starts must not inherit that the signals which end it are blocked (see :mod:`..machine.interrupt`)."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
