"""A service for tests: with keys and ciphertexts that are none, and workers that do not compute; or real, in a
process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import httpx

from lowmem_resnet20.errors import ServerError
from lowmem_resnet20.files.envelope import LOGITS, PICTURE, Facts, belonging, read_envelope, write_envelope
from lowmem_resnet20.files.keystore import FileRecord, Manifest
from lowmem_resnet20.machine.webserver import web_server
from lowmem_resnet20.native.keys.keyplan import key_plan, longest
from lowmem_resnet20.native.ring.chain import CHAIN
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network.engines import NATIVE
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.network.weights import Weights, save_weights
from lowmem_resnet20.progress.display import Step
from lowmem_resnet20.server.process import ServerRun
from lowmem_resnet20.service.app import make_app
from lowmem_resnet20.service.log import EventLog, telling_of_libraries
from lowmem_resnet20.service.parts import Service, ServiceSettings
from lowmem_resnet20.service.store import Store
from miniature import INSECURE_SHORT_NATIVE_SET, INSECURE_SHORT_SET, random_weights

SET = INSECURE_SHORT_NATIVE_SET
NUMBER = SET.number
KEYS_ID = "0123456789abcdef"
_SHIPPED = dict(parameters.PARAMETER_SETS)


def use_miniature() -> None:
    """Have this process know the insecure sets under the number 6, for either engine."""
    for set_ in (SET, replace(INSECURE_SHORT_SET, number=NUMBER)):
        parameters.PARAMETER_SETS[NUMBER, set_.engine] = set_


@cache
def weights() -> Weights:
    return random_weights(SET.architecture)


# --- what clients send ----------------------------------------------------------------------------------------


def key_files(set_: ParameterSet = SET, seed: int = 0) -> dict[str, bytes]:
    """Files of the names that the set's server reads, which hold no keys."""
    names = [CHAIN, *(f"{name}.key" for name in longest(key_plan(set_)))]
    return {name: hashlib.sha512(f"{seed} {name}".encode()).digest() * (2 + i % 3) for i, name in enumerate(names)}


def manifest_of(files: dict[str, bytes], set_: ParameterSet = SET, keys: str = KEYS_ID, **changed: Any) -> bytes:
    records = {name: FileRecord(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    manifest = Manifest(set_.number, set_.keys_fingerprint, "1.6.1", keys, records, engine=set_.engine)
    if set_.engine == NATIVE:
        manifest = replace(manifest, towers=longest(key_plan(set_)))
    return (json.dumps(asdict(manifest) | changed) + "\n").encode()


def name_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


@cache
def _ours() -> Facts:
    return Facts.of(belonging(SET, KEYS_ID, weights()), PICTURE)


def ciphertext(folder: Path, payload: bytes = b"a picture", **changed: Any) -> bytes:
    """A file as ``encrypt`` writes it, whose bytes are no ciphertext; ``changed``: facts."""
    path = folder / "made.ct"
    write_envelope(path, payload, replace(_ours(), **changed))
    return path.read_bytes()


# --- the service ----------------------------------------------------------------------------------------------


class FakeWorker:
    """Answers each ciphertext with a result that names it.

    asked: all requests so far; held: workers wait until it is set; dying: names in payloads at which a process ends;
    failing: at which a picture fails, with exit code ``code``.
    """

    asked: ClassVar[list[Any]] = []
    held = threading.Event()
    dying: tuple[bytes, ...] = ()
    failing: tuple[bytes, ...] = ()
    code = 6
    whole: Exception | None = None

    @classmethod
    def reset(cls) -> None:
        cls.asked, cls.dying, cls.failing, cls.code, cls.whole = [], (), (), 6, None
        cls.held.set()

    def __init__(self, request: Any, stderr: Any) -> None:
        self.request, self.killed = request, threading.Event()
        self.asked.append(request)

    def kill(self) -> None:
        self.killed.set()

    def converse(self, progress: Any) -> ServerRun:
        progress.start("evaluating")
        progress.expect([Step("conv1", "convolution", "convolution")])
        progress.step("conv1", "convolution")
        while not self.held.is_set() and not self.killed.is_set():
            time.sleep(0.005)
        if self.killed.is_set():
            raise ServerError("the server was killed by SIGKILL")
        if self.whole:
            raise self.whole
        pictures = [self._evaluate(i, job) for i, job in enumerate(self.request.jobs)]
        progress.close()
        return ServerRun(1.5, 1 << 30, pictures, [])

    def _evaluate(self, number: int, job: Any) -> dict[str, Any]:
        envelope = read_envelope(job.ciphertext)
        if any(word in envelope.payload for word in self.dying):
            raise ServerError("the server was killed by SIGSEGV")
        line: dict[str, Any] = {"job": number, "seconds": 0.5, "peak_bytes": 1 << 30}
        if any(word in envelope.payload for word in self.failing):
            return line | {"error": f"{job.ciphertext} is bad", "hint": "make it again", "exit_code": self.code}
        facts = replace(envelope.facts, kind=LOGITS, picture=envelope.digest)
        write_envelope(job.output, b"logits of " + envelope.payload, facts)
        return line


class Clock:
    """The monotonic clock of one machine."""

    def __init__(self) -> None:
        self.seconds = 1e5

    def __call__(self) -> float:
        return self.seconds


class Served:
    """A service in this process, and a client that has its token."""

    def __init__(self, service: Service, client: httpx.Client, written: io.StringIO) -> None:
        self.service, self.client, self.written = service, client, written
        self.files = key_files()

    @contextmanager
    def as_client(self, name: str, a_day: int | None = None) -> Iterator[Served]:
        """The same service as a new client finds it."""
        headers = {"Authorization": f"Bearer {self.service.clients.add(name, a_day)}"}
        with httpx.Client(base_url=self.client.base_url, headers=headers, timeout=600) as client:
            yield Served(self.service, client, self.written)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    def upload(self, files: dict[str, bytes] | None = None, **changed: Any) -> str:
        """Upload a key folder, each file in one piece; returns its name."""
        files = files or self.files
        manifest = manifest_of(files, **changed)
        name = name_of(manifest)
        assert self.client.put(f"/v1/keys/{name}", content=manifest).status_code == 201
        for file, data in files.items():
            self.send(name, file, 0, data)
        return name

    def send(self, name: str, file: str, offset: int, data: bytes, expected: int = 204) -> httpx.Response:
        headers = {"Upload-Offset": str(offset)}
        answer = self.client.patch(f"/v1/keys/{name}/files/{file}", content=data, headers=headers)
        assert answer.status_code == expected, answer.text
        return answer

    def post(self, name: str, content: bytes, expected: int = 201) -> dict[str, Any]:
        answer = self.client.post("/v1/jobs", params={"keys": name}, content=content)
        assert answer.status_code == expected, answer.text
        return answer.json()

    def job(self, job: str) -> dict[str, Any]:
        return self.client.get(f"/v1/jobs/{job}").json()

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        """Until the job is in one of the states, over by default."""
        return wait_for(self.client, job, *states)


def wait_for(client: httpx.Client, job: str, *states: str, seconds: float = 600) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = client.get(f"/v1/jobs/{job}").json()
        if found["state"] in (states or ("done", "failed", "cancelled")):
            return found
        time.sleep(0.01)
    raise AssertionError(f"the job is {found}")


@contextmanager
def serving(folder: Path, start: Any = FakeWorker, verbose: int = 1, **limits: int) -> Iterator[Served]:
    """A service on the store ``folder``, that answers in a thread."""
    use_miniature()
    folder.mkdir(exist_ok=True)
    if limits:
        (folder / "limits.json").write_text(json.dumps(limits))
    written = io.StringIO()
    store = Store(folder)
    store.open()
    service = Service(ServiceSettings(NUMBER, weights(), None, start, io.StringIO()), store, EventLog(written, verbose))
    service.start()
    server, listening = web_server(make_app(service), log_level="info"), socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.002)
    headers = {"Authorization": f"Bearer {store.token.read_text().strip()}"}
    try:
        with (
            telling_of_libraries(service.log),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=600) as client,
        ):
            yield Served(service, client, written)
    finally:
        FakeWorker.held.set()
        service.stop()
        server.should_exit = True
        thread.join(10)
        service.close()
        parameters.PARAMETER_SETS.update(_SHIPPED)


class Process:
    """``serve 6`` of the miniature in a process of its own, with real workers, as an operator starts it.

    files: that it may open at once; variables: more of the environment; network: of its own.
    """

    def __init__(
        self,
        store: Path,
        port: int = 0,
        words: Sequence[str] = (),
        files: int | None = None,
        variables: Mapping[str, str] | None = None,
        network: Weights | None = None,
        **limits: int,
    ) -> None:
        store.mkdir(exist_ok=True)
        if limits:
            (store / "limits.json").write_text(json.dumps(limits))
        save_weights(store.parent / "weights", network or weights())
        command = [sys.executable, __file__, "serve", "6", "listen", f"127.0.0.1:{port}", "store", str(store)]
        command += ["weights", str(store.parent / "weights"), "json", *words]
        if files:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        self.log = store.parent / "log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | (variables or {}),
            )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert told, self.log.read_text()
        self.told = json.loads(told)
        self.token = Path(self.told["token_file"]).read_text().strip()

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.told["url"], headers=headers, timeout=600)

    def workers(self) -> list[int]:
        """Process ids of those it has started."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [int(pid) for children in tasks.glob("*/children") for pid in children.read_text().split()]

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(300)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()


def upload_folder(client: httpx.Client, folder: Path) -> str:
    """A real server folder, from where the service says that it is; returns its name."""
    manifest = (folder / "manifest.json").read_bytes()
    name = name_of(manifest)
    files = client.put(f"/v1/keys/{name}", content=manifest).raise_for_status().json()["files"]
    for file, state in files.items():
        data, offset = (folder / file).read_bytes(), state["received"]
        while offset < len(data):
            url, headers = f"/v1/keys/{name}/files/{file}", {"Upload-Offset": str(offset)}
            answer = client.patch(url, content=data[offset:], headers=headers)
            assert answer.status_code in (204, 409), answer.text  # 409: another client sends the same
            offset = int(answer.headers["Upload-Offset"])
    return name


def _main() -> None:
    """The command line, which knows the miniature and starts workers that do."""
    use_miniature()
    from lowmem_resnet20.cli import main as cli
    from lowmem_resnet20.machine import child

    if sys.argv[1:2] in (["server.worker"], ["cluster.evaluation"]):
        child.end_with_parent(int(sys.argv[2]))
        child._receive_signals()
        runpy.run_module(f"lowmem_resnet20.{sys.argv[1]}", run_name="__main__")
    child.command = lambda module, *_: [sys.executable, __file__, module, str(os.getpid())]
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    _main()
