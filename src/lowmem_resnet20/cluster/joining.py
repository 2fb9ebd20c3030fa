"""Becoming one of the cluster's programs, and leaving it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..errors import PROGRAM, EnvironmentFault, UsageError, on_one_line
from ..machine.faults import explain
from ..machine.files import private_folder, standing_in
from ..machine.hosts import host_and_port
from ..machine.interrupt import ENDING_SIGNALS

#: Addresses that are no machine's: the cluster this machine belongs to; one of this machine alone, made for the run.
AUTO, LOCAL = "auto", "local"
#: Pictures, results and pieces of key files on their way; there is little of them at a time.
_LOCAL_STORE_BYTES = 256 << 20
_SECONDS_TO_ANSWER = 10
#: The longest name of a folder for the sockets of such a cluster: the system takes 107 bytes of a whole one.
_LONGEST_FOLDER = 107 - len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
_START = (
    "on the first machine: ray start --head; on others: ray start --address=FIRST:6379; then name FIRST:6379, or auto"
)
_NO_HEAD = "name what ray start --head prints, with port 6379 or that of --port: not the dashboard's 8265, nor 10001"
_SAME = "it must be of this Ray and Python"
_TOKEN = "if the cluster wants a token: RAY_AUTH_MODE=token, and its ~/.ray/auth_token on this machine"
#: Ray's own, unless the environment says otherwise: no reports to its makers, no log lines among this program's, no
#: minutes of waiting for a head that is none.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_gcs_rpc_server_connect_timeout_s": "2",
    "RAY_py_gcs_connect_timeout_s": "5",
}
#: What chooses another cluster than the one that is named, or runs what its author names.
_STEERING = ("RAY_ADDRESS", "RAY_REDIS_ADDRESS", "RAY_GCS_SERVER_PORT", "RAY_RUNTIME_ENV_HOOK")


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Join the cluster at ``address`` for the time of the context; what this process started there ends with it.

    Errors: UsageError if it is no address; EnvironmentFault if there is no cluster, or one of another Ray or Python,
    and where Ray is not installed.
    """
    check_address(address)
    import ray

    with ExitStack() as held:
        options = held.enter_context(_of_this_machine_alone()) if address == LOCAL else {}
        try:
            with _in_an_empty_folder(), _unblocked_signals(), _silence():
                ray.init(address, log_to_driver=False, logging_level="CRITICAL", **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if isinstance(error, RuntimeError) and isinstance(fault := explain(error), EnvironmentFault):
                raise fault from error  # this machine's, such as want of threads
            what = "cannot make a Ray cluster" if address == LOCAL else f"cannot join the Ray cluster at {address}"
            hint = "" if address == LOCAL else f"{_SAME}; {_TOKEN}"
            raise EnvironmentFault(f"{what}: {on_one_line(error)}", hint) from error
        try:
            yield
        finally:
            ray.shutdown()


def check_address(address: str) -> None:
    """Ask whether a cluster's head answers there, which Ray would try for minutes, and this machine is the cluster's.

    Ray takes this machine's own names for the address that others know it by, and so does this.
    Errors: UsageError; EnvironmentFault, also where Ray is not installed.
    """
    if find_spec("ray") is None:
        message = "a cluster needs the package ray, which is not installed"
        raise EnvironmentFault(message, f"pip install '{PROGRAM}[ray]'")
    if address not in (AUTO, LOCAL) and not (host_and_port(address) or ("", 0))[1]:
        raise UsageError(f"{address!r} is not the address of a Ray cluster", "HOST:PORT, auto or local")
    for name in _STEERING:
        os.environ.pop(name, None)
    of_its_own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)} if address == LOCAL else {}
    for name, value in (_QUIET | of_its_own).items():  # before Ray is imported, which reads them then
        os.environ.setdefault(name, value)
    if address != LOCAL:
        _ask_head(address)


def _ask_head(address: str) -> None:
    from ray._private.services import GcsClient, canonicalize_bootstrap_address, find_node_ids
    from ray.exceptions import AuthenticationError, RpcError

    try:
        found = canonicalize_bootstrap_address(address)
    except OSError as error:
        raise EnvironmentFault("this machine belongs to no Ray cluster that can be found", _START) from error
    where = f"{found}, where Ray was last started here" if address == AUTO else address
    try:
        socket.create_connection(host_and_port(found) or ("", 0), _SECONDS_TO_ANSWER).close()
    except OSError as error:
        reason = error.strerror or on_one_line(error)  # that of getaddrinfo, too
        raise EnvironmentFault(f"no Ray cluster answers at {where}: {reason}", _START) from error
    try:
        with _silence():
            nodes = GcsClient(address=found).get_all_node_info(timeout=_SECONDS_TO_ANSWER)
    except AuthenticationError as error:
        if address == AUTO:  # Ray takes up a token that is there
            return
        raise EnvironmentFault(f"cannot join the Ray cluster at {where}: it wants another token", _TOKEN) from error
    except RpcError as error:
        raise EnvironmentFault(f"what answers at {where} is no head of a Ray cluster", _NO_HEAD) from error
    own = find_node_ids()
    here = [facts for node, facts in nodes.items() if node.hex() in own]
    if not here:
        message = f"this machine is none of those of the Ray cluster at {where}"
        raise EnvironmentFault(message, f"start Ray here, too: ray start --address={found}")
    for path in (path for facts in here for path in (facts.raylet_socket_name, facts.object_store_socket_name)):
        if not os.access(path, os.W_OK):  # Ray would have the system end this process
            message = f"the Ray cluster at {where} is not open to this user, who may not write to {path}"
            raise EnvironmentFault(message, f"start Ray as this user, or have a cluster made for the run: ray {LOCAL}")


@contextmanager
def _of_this_machine_alone() -> Iterator[dict[str, object]]:
    """Make a folder for such a cluster: Ray's usual one may be another user's, and would stay."""
    with private_folder("r") as private:
        folder = private / "r"  # which Ray opens to all
        if len(os.fsencode(folder)) > _LONGEST_FOLDER:
            message = f"the name of {Path(tempfile.gettempdir())} is too long for the sockets of a Ray cluster in it"
            raise EnvironmentFault(message, "name another folder: TMPDIR=/tmp")
        yield {"include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES, "_temp_dir": str(folder)}


@contextmanager
def _in_an_empty_folder() -> Iterator[None]:
    """Stand where there are no modules: Ray has the cluster look for some where the program that joins stands."""
    with tempfile.TemporaryDirectory() as empty, standing_in(empty):
        yield


@contextmanager
def _silence() -> Iterator[None]:
    """Silence stderr: Ray writes a line for each of its tries, and then says in its error why none succeeded."""
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
    """Unblock the signals that end a process (see :mod:`..machine.interrupt`): what Ray starts would inherit that."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
