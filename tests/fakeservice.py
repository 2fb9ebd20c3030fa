"""A service in a thread, as its API says and no more, which can be made to fail in every way.

It evaluates nothing: a job runs as soon as someone asks for its events, and its result names the picture it answers.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fakes import own_weights
from lowmem_resnet20 import __version__
from lowmem_resnet20.network.cardfile import card_text

TOKEN = "correct-horse-battery-staple"
MAGIC = b"lowmem-resnet20 ciphertext 2\n"
EVENTS: tuple[list[Any], ...] = (
    ["start", "evaluating with parameter set 6"],
    ["step", "keys", "checking"],
    ["expect", [["layer1", "block 0", "block", 1.0], ["layer2", "block 0", "block", 1.0]]],
    ["ended", 3 << 30],
    ["step", "layer1", "block 0"],
    ["ended", 5 << 30],
    ["step", "layer2", "block 0"],
    ["ended", 5 << 30],
    ["close"],
)
#: What may happen to a request: nothing of it arrives; it is carried out, and the answer lost, or half of it; not now.
CUT, ANSWER_LOST, HALF_AN_ANSWER, NOT_NOW = "cut", "answer lost", "half an answer", "not now"
FAULTS = (CUT, ANSWER_LOST, HALF_AN_ANSWER, NOT_NOW)


def first_of_each(fault: str) -> Callable[[int, str], str | None]:
    """What happens to every request when it comes for the first time."""
    seen: set[str] = set()

    def happens(number: int, request: str) -> str | None:
        known = request in seen
        seen.add(request)
        return None if known else fault

    return happens


def result_of(ciphertext: bytes, payload: bytes = b"result", **facts: str) -> bytes:
    """A file of logits that answers an encrypted picture; ``facts``: otherwise than right."""
    line = json.loads(ciphertext[len(MAGIC) :].split(b"\n")[0])
    digest = line.pop("sha256")
    line |= {"kind": "logits", "picture": digest, "sha256": hashlib.sha256(payload).hexdigest()} | facts
    return MAGIC + json.dumps(line).encode() + b"\n" + payload


@dataclass
class FakeService(AbstractContextManager):
    """What it holds and says; all of it may be changed while it runs.

    a_day: jobs that are taken in all; more_in: seconds after which more would be.

    requests: each as "METHOD path"; fault: of a request by its number, the first being 0; run: what its events are
    numbered with.
    """

    facts: dict[str, Any] = field(
        default_factory=lambda: {"version": __version__, "set": 6, "weights": own_weights().fingerprint, "limits": {}}
    )
    card: bytes = field(default_factory=lambda: card_text(own_weights().card))
    token: str = TOKEN
    events: tuple[list[Any], ...] = EVENTS
    run: str = "run"
    answer: Callable[[bytes], bytes] = result_of
    fault: Callable[[int, str], str | None] = lambda number, request: None
    instead: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    most_waiting: int = 1000
    a_day: int = 1000
    more_in: int = 18720
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.requests: list[str] = []
        self.manifests: dict[str, bytes] = {}
        self.files: dict[tuple[str, str], bytearray] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.authorizations: list[str | None] = []
        self.bytes_of_pieces = self.bytes_of_cut_pieces = 0
        self.held.set()
        self.lock = threading.RLock()
        self._listen(0)

    def _listen(self, port: int) -> None:
        self.server = _Server(("127.0.0.1", port), self)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """All connections are cut."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.open):
            _cut(connection)

    def start_again(self) -> None:
        """What ran waits again, and begins a run of its own."""
        self.run += "x"
        for job in self.jobs.values():
            job["state"] = "waiting" if job["state"] == "running" else job["state"]
        self._listen(self.port)

    def __exit__(self, *_: object) -> None:
        self.held.set()
        self.stop()

    # what it does

    def status(self, key: str) -> dict[str, Any]:
        records = json.loads(self.manifests[key])["files"]
        files = {n: {"bytes": r["bytes"], "received": len(self.files[key, n])} for n, r in records.items()}
        return {"complete": self.complete(key), "files": files}

    def complete(self, key: str) -> bool:
        records = json.loads(self.manifests[key])["files"]
        return all(hashlib.sha256(self.files[key, n]).hexdigest() == r["sha256"] for n, r in records.items())

    def offer(self, key: str, manifest: bytes) -> int:
        assert hashlib.sha256(manifest).hexdigest() == key
        if key in self.manifests:
            return 200
        self.manifests[key] = manifest
        self.files |= {(key, name): bytearray() for name in json.loads(manifest)["files"]}
        return 201

    def append(self, key: str, name: str, offset: int, body: bytes) -> tuple[int, int]:
        record, data = json.loads(self.manifests[key])["files"][name], self.files[key, name]
        if offset != len(data):
            return 409, len(data)
        data += body
        if len(data) == record["bytes"] and hashlib.sha256(data).hexdigest() != record["sha256"]:
            data.clear()
            return 422, 0
        return 204, len(data)

    def post(self, key: str, ciphertext: bytes) -> tuple[int, str]:
        """Status and name; of a client that has sent all that it may, 429 and no name."""
        name = f"{self.facts['set']}-" + hashlib.sha256(key.encode() + ciphertext).hexdigest()[:24]
        if name in self.jobs:
            return 200, name
        if len(self.jobs) >= self.a_day:
            return 429, ""
        if sum(job["state"] == "waiting" for job in self.jobs.values()) >= self.most_waiting:
            return 429, name
        self.jobs[name] = {"state": "waiting", "ciphertext": ciphertext}
        return 201, name

    def state(self, name: str) -> dict[str, Any]:
        state = self.jobs[name]["state"]
        done = state in ("done", "failed")
        return {
            "job": name, "set": self.facts["set"], "keys": "k", "state": state,
            "position": 1 if state == "waiting" else None,
            "seconds": 2.5 if done else None, "peak_bytes": 1 << 30 if done else None,
            "error": self.error if state == "failed" else None, "created": "", "finished": None,
        }  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], service: FakeService) -> None:
        self.service = service
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that is cut is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def _take(self) -> None:
        service, request = self.server.service, f"{self.command} {self.path}"
        with service.lock:
            number = len(service.requests)
            service.requests.append(request)
            service.authorizations.append(self.headers["Authorization"])
            fault = service.fault(number, request)
        if fault == CUT:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0) // 2)
            self._keep_half(body)
            return self._cut()
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if fault == NOT_NOW:
            return self._answer(503, {"error": "not now"})
        self._lose = fault in (ANSWER_LOST, HALF_AN_ANSWER)
        self._half = fault == HALF_AN_ANSWER
        with service.lock:
            self._route(service, body)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _take

    _lose = _half = False

    def _keep_half(self, body: bytes) -> None:
        """Of a piece that was cut, what has arrived."""
        found = re.fullmatch(r"/v1/keys/(\w+)/files/([^/]+)", self.path)
        if found and self.command == "PATCH":
            service = self.server.service
            with service.lock:
                service.append(found[1], found[2], int(self.headers["Upload-Offset"]), body)
                service.bytes_of_cut_pieces += len(body)

    def _route(self, service: FakeService, body: bytes) -> None:
        if self.path in service.instead:
            return self._send(*service.instead[self.path])
        if self.headers["Authorization"] != f"Bearer {service.token}":
            return self._answer(401, {"error": "no", "hint": ""})
        if self.path == "/v1/service":
            return self._answer(200, service.facts)
        if self.path == "/v1/card":
            return self._send(200, {}, service.card)
        if (found := re.fullmatch(r"/v1/keys/(\w+)", self.path)) and self.command == "DELETE":
            return self._delete_keys(service, found[1])
        if found := re.fullmatch(r"/v1/keys/(\w+)", self.path):
            status = service.offer(found[1], body) if self.command == "PUT" else 200
            return self._answer(status, service.status(found[1]))
        if found := re.fullmatch(r"/v1/keys/(\w+)/files/([^/]+)", self.path):
            service.bytes_of_pieces += len(body)
            status, offset = service.append(found[1], found[2], int(self.headers["Upload-Offset"]), body)
            return self._send(status, {"Upload-Offset": str(offset)}, b"")
        if found := re.fullmatch(r"/v1/jobs\?keys=(\w+)", self.path):
            status, name = service.post(found[1], body)
            if not name:
                refused = {"error": f"ben may send {service.a_day} pictures a day; more can be sent in 5 h 12 min"}
                return self._send(status, {"Retry-After": str(service.more_in)}, json.dumps(refused).encode())
            return self._answer(status, {"job": name, "state": "waiting"})
        name = self.path.split("/")[3]
        if name not in service.jobs:
            return self._answer(404, {"error": "there is no such job here", "hint": ""})
        if self.path.endswith("/events"):
            return self._events(service, name)
        if not self.path.endswith("/result"):
            if self.command == "DELETE":
                service.jobs[name]["state"] = "cancelled"
            return self._answer(200, service.state(name))
        if service.jobs[name]["state"] != "done":
            return self._answer(409, {"error": "not done", "hint": ""})
        return self._send(200, {}, service.answer(service.jobs[name]["ciphertext"]))

    def _delete_keys(self, service: FakeService, key: str) -> None:
        needing = sum(job["state"] in ("waiting", "running") for job in service.jobs.values())
        if key not in service.manifests:
            return self._answer(404, {"error": "there is no such key folder here", "hint": ""})
        if needing:
            return self._answer(409, {"error": f"{needing} jobs need these keys", "hint": "wait, or cancel them"})
        del service.manifests[key]
        return self._send(204, {}, b"")

    def _events(self, service: FakeService, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self._lose and not self._half:
            return self._cut()
        job = service.jobs[name]
        self._event("state", service.state(name))
        if job["state"] in ("done", "failed", "cancelled"):
            return None
        service.lock.release()
        service.held.wait()
        service.lock.acquire()
        job["state"] = "running"
        self._event("state", service.state(name))
        run, _, heard = (self.headers["Last-Event-ID"] or "").partition("-")
        for number, event in enumerate(service.events):
            if run != service.run or number >= int(heard):
                self._event("progress", event, f"{service.run}-{number + 1}")
            if self._half and number == len(service.events) // 2:
                return self._cut()
        job["state"] = "failed" if service.error else "done"
        self._event("state", service.state(name))
        return None

    def _event(self, name: str, data: Any, id_: str = "") -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        numbered = f"id: {id_}\n" if id_ else ""
        self.wfile.write(f": heartbeat\n{numbered}event: {name}\ndata: {text}\n\n".encode())
        self.wfile.flush()

    def _answer(self, status: int, fields: Any) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(fields).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if self._lose and not self._half:
            return self._cut()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self._half else body)
        self.wfile.flush()
        if self._half:
            self._cut()
        return None

    def _cut(self) -> None:
        self.close_connection = True
        _cut(self.connection)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
