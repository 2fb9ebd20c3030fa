"""What those who have no token can do to a service: little, and its log stays small, and JSON throughout."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest

from lowmem_resnet20.service.command import parse_address
from processes import until
from serving import Process

#: Of the service's descriptors, and of connections that say nothing.
FILES, SILENT = 256, 700
#: Of other programs, which uvicorn or prometheus-client would read.
VARIABLES = {
    "WEB_CONCURRENCY": "auto",
    "FORWARDED_ALLOW_IPS": "*",
    "UVICORN_PORT": "1",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "prometheus_multiproc_dir": "/nowhere",
    "PROMETHEUS_DISABLE_CREATED_SERIES": "1",
}


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    with Process(folder / "store", words=("verbose", "1"), files=FILES, variables=VARIABLES) as process:
        yield process


def connect(process: Process) -> socket.socket:
    return socket.create_connection(parse_address(process.told["url"].removeprefix("http://")), timeout=60)


def log(process: Process) -> list[dict]:
    return [json.loads(line) for line in process.log.read_text().splitlines()]


def test_variables_of_other_programs_are_not_read(process):
    with process.client() as client:
        names = {line.split(" ")[0].partition("{")[0] for line in client.get("/metrics").text.splitlines()}
    assert {"lowmem_resnet20_jobs_accepted_total", "lowmem_resnet20_jobs_accepted_created"} <= names


def test_the_log_names_who_has_connected_and_not_who_is_said_to_have(process):
    headers = {"X-Forwarded-For": "192.0.2.99", "Forwarded": "for=192.0.2.99", "X-Real-IP": "192.0.2.99"}
    assert httpx.get(process.told["url"] + "/v1/jobs", headers=headers).status_code == 401
    until(lambda: [line for line in log(process) if line["event"] == "unauthorised"])
    [line] = [line for line in log(process) if line["event"] == "unauthorised"]
    assert line["address"] == "127.0.0.1"


@pytest.mark.parametrize("host", ["[", "192.0.2.99/other?", "]:x"])
def test_the_log_names_the_path_that_was_asked_for(process, host):
    """And none of a Host header."""
    with process.client() as client:
        answer = client.get("/v1/jobs/none", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]) == (404, "there is no such job here")
    assert [line["path"] for line in log(process) if line["event"] == "refused"][-1] == "/v1/jobs/none"


def test_hundreds_of_connections_that_say_nothing(process):
    """More than the service has descriptors: others are answered all the while, and the log does not grow with them."""
    before = len(process.log.read_text())
    silent = []
    try:
        for number in range(SILENT):
            silent.append(connect(process))
            if number % 100 == 99:
                silent[-1].sendall(b"GET / HT")
                assert httpx.get(process.told["url"] + "/health", timeout=60).json() == {"status": "ok"}
        with process.client() as client:
            for _ in range(20):
                assert client.get("/v1/jobs").json() == {"jobs": []}
                time.sleep(0.1)  # in which asyncio would try again to accept what it has no descriptor for
    finally:
        for connection in silent:
            connection.close()
    assert len(process.log.read_text()) - before < 20_000
    events = [line["event"] for line in log(process)]
    assert events[0] == "service.started" and "fault" not in events and "asyncio" not in events
    assert events.count("uvicorn.error") <= 3  # that there were too many; how often, once more a minute


def test_what_is_no_request_is_told_once(process):
    before = len(log(process))
    for _ in range(50):
        with socket.create_connection(
            parse_address(process.told["url"].removeprefix("http://")), timeout=60
        ) as connection:
            connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    told = [line for line in log(process)[before:] if line.get("message") == "Invalid HTTP request received."]
    assert len(told) <= 3
