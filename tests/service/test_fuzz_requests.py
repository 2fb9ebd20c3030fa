"""Requests that no honest client sends: each is answered with a 4xx or better, and the service goes on."""

from __future__ import annotations

import random
import socket

import httpx
import pytest

from serving import FakeWorker, Served, ciphertext, key_files, manifest_of, name_of, serving

METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "DISPATCH", "get", "PROPFIND")
PARTS = (
    "v1", "keys", "jobs", "files", "events", "result", "service", "health", "metrics", "..", ".", "", "%00", "%2e%2e",
    "%ff%fe", "%2f", "token", "a" * 300, "6-" + "0" * 24, "0" * 64, "relinearisation.key", "manifest.json", "'", "%0a",
)  # fmt: skip
HEADERS = {
    "Upload-Offset": ("0", "-1", "x", "9" * 18, "9" * 400, "", "0, 0"),
    "Content-Type": ("application/json", "multipart/form-data; boundary=x", "\x7f"),
    "Expect": ("100-continue", "x"),
    "Range": ("bytes=0-", "bytes=x"),
    "Accept": ("", "*/*", "text/event-stream"),
    "Upgrade": ("websocket", "h2c"),
    "Connection": ("Upgrade", "close", "keep-alive"),
    "Host": ("", "evil.example", "a" * 1000),
    "X-Forwarded-For": ("1.2.3.4", "x", ","),
    "Transfer-Encoding": ("chunked", "gzip"),
}  # fmt: skip


class Fuzzer:
    """Makes requests of what is in use, altered in places.  number: the same makes the same."""

    def __init__(self, served: Served, folder, number: int) -> None:
        self.random, self.served = random.Random(number), served
        self.manifest = manifest_of(served.files)
        self.name = name_of(self.manifest)
        self.ciphertext = ciphertext(folder)
        jobs = served.client.get("/v1/jobs").json()["jobs"]
        self.jobs = [job["job"] for job in jobs]

    def mutated(self, data: bytes) -> bytes:
        """Bytes changed, cut, doubled or put in."""
        result = bytearray(data)
        for _ in range(self.random.randint(0, 4)):
            at = self.random.randrange(len(result) + 1)
            end = min(len(result), at + self.random.choice((1, 1, 2, 8, 1000)))
            kind = self.random.randrange(4)
            if kind == 0:
                result[at:end] = self.random.randbytes(end - at)
            elif kind == 1:
                del result[at:end]
            elif kind == 2:
                result[at:at] = result[at:end]
            else:
                result[at:at] = self.random.choice(
                    (b"\0", b'"', b"[" * 5000, b"9" * 5000, b"-1", b"null", b"\xff", b"1e999")
                )
        return bytes(result)

    def path(self) -> str:
        known = [
            f"/v1/keys/{self.name}", f"/v1/keys/{self.name}/files/{self.random.choice([*self.served.files])}",
            "/v1/jobs", f"/v1/jobs?keys={self.name}", f"/v1/jobs?keys={self.name}", "/v1/service", "/metrics",
            *(f"/v1/jobs/{job}{tail}" for job in self.jobs for tail in ("", "/events", "/result")),
        ]  # fmt: skip
        if self.random.random() < 0.75:
            return self.random.choice(known)
        parts = [self.random.choice(PARTS) for _ in range(self.random.randint(0, 6))]
        query = self.random.choice(
            ("", "", "?keys=", "?keys=%00", f"?keys={self.name}&keys=x", "?" + "a=b&" * 200, "?%ff")
        )
        return "/" + "/".join(parts) + query

    def body(self) -> bytes:
        contents = (self.manifest, self.ciphertext, b"", b"{}", self.random.randbytes(self.random.randint(1, 5000)))
        return self.mutated(self.random.choice(contents))

    def request(self) -> tuple[str, str, bytes]:
        """Method, path and body: half of them reach what lies behind the first checks."""
        kind = self.random.randrange(6)
        if kind == 0:  # a manifest under its own name
            manifest = self.mutated(self.manifest)
            return "PUT", f"/v1/keys/{name_of(manifest)}", manifest
        if kind == 1:  # facts that are altered
            magic, facts, payload = self.ciphertext.split(b"\n", 2)
            return "POST", f"/v1/jobs?keys={self.name}", b"\n".join((magic, self.mutated(facts), payload))
        if kind == 2:
            file = self.random.choice([*self.served.files])
            return "PATCH", f"/v1/keys/{self.name}/files/{file}", self.body()
        return self.random.choice(METHODS), self.path(), self.body()

    def headers(self) -> dict[str, bytes]:
        chosen = self.random.sample(sorted(HEADERS), self.random.choice((0, 0, 1, 1, 2)))
        return {name: self.random.choice(HEADERS[name]).encode() for name in chosen}

    def raw(self) -> bytes:
        """A request as bytes, damaged as such."""
        head = f"{self.random.choice(METHODS)} {self.path()} HTTP/1.1\r\nHost: x\r\n"
        head += f"Authorization: {self.served.client.headers['Authorization']}\r\n"
        for name, value in self.headers().items():
            head += f"{name}: {value.decode()}\r\n"
        body = self.body()[:2000]
        length = self.random.choice((len(body), len(body) + 5, max(0, len(body) - 5), -1, "x", 10**30))
        return self.mutated(head.encode("utf-8") + f"Content-Length: {length}\r\n\r\n".encode() + body)


@pytest.fixture
def used(tmp_path):
    """A service that holds keys and jobs of every state."""
    FakeWorker.reset()
    FakeWorker.failing = (b"bad",)
    with serving(tmp_path / "store", key_folders=10_000) as served:
        name = served.upload()
        for text in (b"good", b"bad"):
            served.wait(served.post(name, ciphertext(tmp_path, text))["job"])
        yield served


def still_well(served: Served, folder) -> None:
    """It says so, does its work, and has met no fault."""
    assert served.client.get("/health").status_code == 200
    name = served.upload(key_files(seed=1))
    job = served.post(name, ciphertext(folder, b"afterwards"))["job"]
    assert served.wait(job)["state"] == "done"
    log = served.log()
    assert not [line for line in log if line["event"] in ("fault", "runner.failed") or line.get("level") == "error"]


def test_500_requests(used, tmp_path, pytestconfig):
    """5,000 with --full."""
    fuzzer = Fuzzer(used, tmp_path, 1)
    count = 5_000 if pytestconfig.getoption("--full") else 500
    statuses: dict[int, int] = {}
    for _ in range(count):
        (method, path, body), headers = fuzzer.request(), fuzzer.headers()
        headers.pop("Transfer-Encoding", None)
        if method == "PATCH":
            headers.setdefault("Upload-Offset", b"0")
        try:
            answer = used.client.request(method, path, content=body, headers=headers, timeout=20)
        except httpx.InvalidURL:
            continue
        except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):  # hung up on what is no HTTP
            statuses[0] = statuses.get(0, 0) + 1
            continue
        assert answer.status_code < 500, (method, path, answer.text)
        if answer.status_code >= 400 and method != "HEAD" and answer.text != "Invalid HTTP request received.":
            assert set(answer.json()) == {"error", "hint"}, (method, path)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert {200, 400, 404, 405, 409, 422} <= set(statuses), statuses
    assert statuses.get(0, 0) < count / 20, statuses
    still_well(used, tmp_path)


def test_200_requests_that_are_damaged_as_such(used, tmp_path, pytestconfig):
    """2,000 with --full.  Some are cut in the middle, when the client hangs up."""
    fuzzer = Fuzzer(used, tmp_path, 2)
    url = used.client.base_url
    seen = set()
    for _ in range(2000 if pytestconfig.getoption("--full") else 200):
        with socket.create_connection((url.host, url.port), timeout=10) as connection:
            connection.sendall(fuzzer.raw())
            connection.shutdown(socket.SHUT_WR)
            status = connection.recv(64).split(b" ")[1:2]
            seen |= set(status)
    assert not {status for status in seen if status >= b"500"}, seen
    assert {b"400", b"404"} <= seen
    still_well(used, tmp_path)
