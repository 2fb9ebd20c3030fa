"""load_keys with server URL: what is sent, shown and printed, and what every failure on the way is answered with."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

import pytest

import fakes
from fakeservice import EVENTS, FAULTS, FakeService, first_of_each, result_of
from lowmem_resnet20.cli.output import vector
from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.remote import connection, jobs
from lowmem_resnet20.remote.address import TOKEN_VARIABLE

RESULT = f"logits  {vector(fakes.LOGITS)}\nclass   Dog\nindex   5\n"
ERROR = "lowmem-resnet20: error: "


def remote(run, service: FakeService, *words: str):
    return run("load_keys", "6", "server", service.url, *words)


def some(inputs: Path, count: int) -> list[str]:
    return [str(path) for path in sorted(inputs.glob("*.png"))[:count]]


def test_the_three_steps(run, client, service):
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.OK, RESULT)
    assert re.fullmatch(
        r"time: encrypt \S+ s, evaluate \S+ s, decrypt \S+ s\npeak memory: server 1\.00 GiB, client .*\n", done.err
    )
    [key], [job] = service.manifests, service.jobs
    assert service.requests == [
        "GET /v1/service",
        f"PUT /v1/keys/{key}",
        *[f"PATCH /v1/keys/{key}/files/public.key"] * 3,
        f"PUT /v1/keys/{key}",
        f"POST /v1/jobs?keys={key}",
        f"GET /v1/jobs/{job}/events",
        f"GET /v1/jobs/{job}/result",
    ]
    called = [call[0] for call in client if call[0] != "load_weights"]
    assert called == ["unlock", "encrypt_picture", "decrypt_group"]
    again = remote(run, service, "json", "verbose", "-1")
    assert again.err == "" and json.loads(again.out)["peak_bytes"]["server"] == 1 << 30
    assert not [request for request in service.requests[9:] if request.startswith("PATCH")]


def test_its_progress_is_shown_as_if_it_were_local(run, client, service):
    lines = remote(run, service, "verbose", "1").err.splitlines()
    assert lines[0] == f"sending keys to {service.url}"
    assert re.fullmatch(r"\[ .* s\] keys +0 MiB of 0 MiB .*", lines[1])
    shown = [re.sub(r"\[ .* s\] (\S+ +.*?)  .*  ", r"\1 ", line) for line in lines]
    start = shown.index("evaluating with parameter set 6")
    assert "service    waiting, number 1 in the queue" in lines[start - 1]
    assert re.search(r" keys +checking .* 3\.00 GiB", lines[start + 1])
    assert re.search(r" layer1 +block 0 .* 5\.00 GiB", lines[start + 2])
    assert re.search(r" layer2 +block 0 .* 5\.00 GiB", lines[start + 3])


@pytest.mark.parametrize("fault", FAULTS)
def test_every_request_may_be_cut(run, client, service, fault):
    """Every one is, once; the picture is evaluated once, and what was shown is not shown again."""
    service.fault = first_of_each(fault)
    done = remote(run, service, "verbose", "1")
    assert (done.code, done.out) == (ExitCode.OK, RESULT)
    assert len(service.jobs) == 1 and len(service.requests) >= 14
    assert done.err.count("evaluating with parameter set 6") == 1
    assert len(re.findall(r"\] layer[12] +block 0 ", done.err)) == 2


def test_a_service_that_dies_and_comes_again(run, client, service):
    """In the middle of the run: which begins anew, with other steps before it."""
    died = threading.Event()

    def fault(number: int, request: str) -> str | None:
        if request.endswith("/events") and not died.is_set():
            died.set()
            threading.Timer(0.1, service.stop).start()
            threading.Timer(0.4, restart).start()
        return None

    def restart() -> None:
        service.events = (["start", "evaluating with parameter set 6"], ["step", "layer2", "what is left"], ["close"])
        service.start_again()
        service.held.set()

    service.held.clear()
    service.fault = fault
    done = remote(run, service, "verbose", "1")
    assert (done.code, done.out) == (ExitCode.OK, RESULT)
    assert "does not answer" in done.err and "answers again" in done.err and "what is left" in done.err


def test_a_service_that_stays_away(run, client, service, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", connection.Patience(0.3, 0.01, 0.02))
    service.fault = lambda number, request: (
        threading.Thread(target=service.stop).start() if "events" in request else None
    )
    service.held.clear()
    done = remote(run, service, "plain", "json", "weights", "a file")
    [job] = service.jobs
    assert done.code == ExitCode.SERVER
    assert f"{ERROR}the service at {service.url} has not answered for " in done.err
    fetch = f"lowmem-resnet20 fetch {job} server {service.url} weights 'a file' plain input inputs/luis.png json"
    assert done.err.endswith(f"\nhint: fetch later what is evaluated there: {fetch}\n")


def test_several_pictures(run, client, service, inputs):
    pictures = some(inputs, 3)
    done = remote(run, service, "input", *pictures, "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == ExitCode.OK and [line["input"] for line in lines] == pictures
    assert [line["logits"] for line in lines] == [list(fakes.logits_of(i)) for i in range(3)]
    assert {line["seconds"]["evaluate"] for line in lines} == {2.5}
    posts = [number for number, request in enumerate(service.requests) if request.startswith("POST")]
    assert posts == list(range(posts[0], posts[0] + 3)) and len(service.jobs) == 3


def test_a_service_that_takes_few_at_a_time_gets_the_rest_later(run, client, service, inputs):
    service.most_waiting = 1
    done = remote(run, service, "input", *some(inputs, 4), "json")
    assert done.code == ExitCode.OK and len(done.out.splitlines()) == len(service.jobs) == 4


def test_a_place_in_a_queue_that_is_full_is_waited_for(run, client, service, monkeypatch):
    """For longer than a service that does not answer is."""
    monkeypatch.setattr(connection, "PATIENCE", connection.Patience(0.0, 0.01, 0.01))
    monkeypatch.setattr(jobs, "_FULL_SECONDS", 0.01)
    service.most_waiting = 0

    def fault(number: int, request: str) -> None:
        if sum(before.startswith("POST") for before in service.requests) > 5:
            service.most_waiting = 1

    service.fault = fault
    done = remote(run, service, "verbose", "1")
    assert (done.code, done.out) == (ExitCode.OK, RESULT)
    assert done.err.count("waiting for a place in the queue") == 1


TODAY = f"{ERROR}the service refuses: ben may send {{}} pictures a day; more can be sent in 5 h 12 min\n"


def test_the_end_of_a_day_s_pictures_is_a_line(run, client, service):
    service.a_day = 0
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    assert TODAY.format(0) in done.err and "waiting for a place" not in done.err
    assert sum(request.startswith("POST") for request in service.requests) == 1


@pytest.mark.parametrize("json_words", [(), ("json",)])
def test_of_many_pictures_those_go_on_that_were_taken_today(run, client, service, inputs, json_words):
    """And the others are told in a line; to programs of each."""
    service.a_day = 2
    pictures = some(inputs, 5)
    done = remote(run, service, "input", *pictures, *json_words)
    assert done.code == ExitCode.SERVER and done.err.count(TODAY.format(2)) == 1
    assert sum(request.startswith("POST") for request in service.requests) == 3
    if json_words:
        lines = {line["input"]: line for line in map(json.loads, done.out.splitlines())}
        assert [("logits" in lines[name], lines[name].get("exit_code")) for name in pictures] == [
            *[(True, None)] * 2,
            *[(False, 8)] * 3,
        ]
    else:
        assert done.out.count("class ") == 2


def test_a_minute_is_waited_for(run, client, service, monkeypatch):
    """As for a place in the queue."""
    monkeypatch.setattr(connection.Connection, "sleep", lambda *_: setattr(service, "a_day", 1))
    service.a_day, service.more_in = 0, 60
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.OK, RESULT)


def test_a_failed_job_is_told_as_if_it_had_failed_here(run, client, service, inputs):
    service.error = {"message": "the ciphertext is bad", "hint": "make it again", "exit_code": 6}
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.CIPHERTEXT, "")
    assert done.err == f"{ERROR}the encryption of inputs/luis.png is bad\nhint: make it again\n"
    pictures = some(inputs, 2)
    done = remote(run, service, "input", *pictures, "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == ExitCode.CIPHERTEXT and [line["input"] for line in lines] == pictures
    assert [line["exit_code"] for line in lines] == [6, 6]


@pytest.mark.parametrize("code", [1, 4, 5, 7, 8])
def test_its_exit_codes_are_passed_on(run, client, service, code):
    service.error = {"message": "it cannot", "hint": "", "exit_code": code}
    done = remote(run, service)
    assert (done.code, done.out, done.err) == (code, "", f"{ERROR}it cannot\n")


@pytest.mark.parametrize("error", [None, [], {"message": 7}, {"exit_code": 0}, {"exit_code": 130}, {"exit_code": 99}])
def test_failures_without_words(run, client, service, error):
    service.error = {"message": ""} | error if isinstance(error, dict) else {"nothing": "told"}
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    assert done.err == f"{ERROR}the service failed on the encryption of inputs/luis.png\n"


@pytest.mark.parametrize(
    ("facts", "code", "message"),
    [
        ({"set": 5}, ExitCode.SERVER, "evaluates with parameter set 5, not 6"),
        ({"version": "9.9\x1b[2J"}, ExitCode.SERVER, "is of version 9.9[2J, and this is "),
        ({"set": "6"}, ExitCode.SERVER, "cannot be understood as what it is"),
        ({"set": True}, ExitCode.SERVER, "cannot be understood as what it is"),
        ({"version": None}, ExitCode.SERVER, "cannot be understood as what it is"),
    ],
)
def test_a_service_that_computes_something_else(run, client, service, facts, code, message):
    """It is told before anything is encrypted or sent."""
    service.facts |= facts
    done = remote(run, service)
    assert done.code == code and message in done.err and done.err.startswith(ERROR) and "\nhint: " in done.err
    assert service.requests == ["GET /v1/service"]
    assert [call for call in client if call[0] != "load_weights"] == []


def test_the_token_is_needed_and_never_printed(run, client, service, monkeypatch, tmp_path):
    monkeypatch.setenv(TOKEN_VARIABLE, "another-token")
    monkeypatch.setenv("LOWMEM_RESNET20_DEBUG", "1")
    done = remote(run, service, "verbose", "1")
    assert done.code == ExitCode.SERVER and "does not accept the token" in done.err
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert "wants a token, and none was given\nhint: token FILE, or " in remote(run, service).err
    (tmp_path / "t").touch(mode=0o600)
    (tmp_path / "t").write_text(service.token + "\n")
    whole = remote(run, service, "token", "t", "verbose", "1")
    assert whole.code == ExitCode.OK
    for text in (done.err, whole.err, whole.out):
        assert "another-token" not in text and service.token not in text
    (tmp_path / "t").chmod(0o644)
    refused = remote(run, service, "token", "t")
    assert refused.code == ExitCode.ENVIRONMENT
    assert refused.err.endswith(f"{ERROR}t can be read by others\nhint: chmod 600 t\n")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda ciphertext: b"", "is no ciphertext, or altered"),
        (lambda ciphertext: result_of(ciphertext)[:-1], "is no ciphertext, or altered"),
        (lambda ciphertext: ciphertext, "is no result"),
        (lambda ciphertext: result_of(ciphertext, picture="0" * 64), "answers another picture"),
    ],
)
def test_results_that_are_none(run, client, service, answer, what):
    service.answer = answer
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.CIPHERTEXT, "")
    assert done.err == f"{ERROR}what the service sent as the result of the encryption of inputs/luis.png {what}\n"


def test_a_result_that_is_far_too_large(run, client, service):
    service.answer = lambda ciphertext: bytes(30 << 20)
    done = remote(run, service)
    assert (done.code, done.out) == (ExitCode.SERVER, "") and "answers more than the " in done.err


def test_a_result_that_does_not_come(run, client, service):
    def fault(number: int, request: str) -> None:
        service.instead |= {f"/v1/jobs/{job}/result": (409, {}, b"{}") for job in service.jobs}

    service.fault = fault
    done = remote(run, service)
    [job] = service.jobs
    assert done.code == ExitCode.SERVER and service.requests.count(f"GET /v1/jobs/{job}/result") == 3
    assert f"{ERROR}the service says that {job} is done, and has no result of it" in done.err


@pytest.mark.parametrize(
    "events",
    [
        (["step", "a\x1b[2J\n", "b" * 500], ["message", "c\x07d\u202e"], ["close"]),
        ("no json", "[" * 50_000, 7, {}, [], ["step"], ["step", 1, 2], ["start", None], ["message", []], ["ended", -1]),
        (
            ["expect", [*(["a", "b", "c", size] for size in (0, 1e-320, 1e400, -1, 10**300)), ["a", "b"], 7]],
            ["ended", 10**300],
        ),
        (["expect", [["a", "b", "c", 1.0]] * 30_000], ["ended", True], ["ended", 1.5], ["nonsense"]),
    ],
)  # fmt: skip
def test_progress_that_is_none(run, client, service, events):
    service.events = (*events, *EVENTS)
    done = remote(run, service, "verbose", "1")
    assert (done.code, done.out) == (ExitCode.OK, RESULT)
    assert all(c.isprintable() or c == "\n" for c in done.err) and max(map(len, done.err.splitlines())) < 250
    assert len(re.findall(r"\] layer[12] +block 0 ", done.err)) == 2


@pytest.mark.parametrize(
    "answer", [{}, {"job": 7}, {"job": "5-" + "0" * 24}, {"job": "../../x"}, {"job": "6-" + "g" * 24}]
)
def test_names_that_no_job_has(run, client, service, answer):
    remote(run, service)
    [key] = service.manifests
    service.instead[f"/v1/jobs?keys={key}"] = (201, {}, json.dumps(answer).encode())
    done = remote(run, service)
    assert done.code == ExitCode.SERVER and "cannot be understood as the name of a job" in done.err


@pytest.mark.parametrize("word", [("checkpoints", "c"), ("anyway",), ("verbose", "2")])
def test_words_that_do_not_go_with_a_service(run, client, service, word):
    done = remote(run, service, *word)
    assert done.code == ExitCode.USAGE and done.err.startswith(ERROR) and "\nhint: " in done.err
    assert service.requests == []


def test_a_service_on_another_machine_needs_https(run, client):
    done = run("load_keys", "6", "server", "http://10.0.0.1:8642")
    assert done.code == ExitCode.USAGE and "\nhint: use https, or a tunnel: ssh -L" in done.err


def test_without_httpx(run, client, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lowmem_resnet20.remote.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    done = run("load_keys", "6", "server", "http://127.0.0.1:1")
    assert done.code == ExitCode.ENVIRONMENT
    assert done.err.endswith("\nhint: pip install 'lowmem-resnet20[serve]'\n")


def test_results_are_kept_where_the_rest_does_not_come(run, client, service, inputs, monkeypatch):
    """One picture's result came, and then the service went: it is not lost, nor is the other."""
    monkeypatch.setattr(connection, "PATIENCE", connection.Patience(0.3, 0.01, 0.02))

    def fault(number: int, request: str) -> None:
        if request.endswith("/events") and any(r.endswith("/result") for r in service.requests):
            threading.Thread(target=service.stop).start()
            service.held.clear()

    service.fault = fault
    done = remote(run, service, "input", *some(inputs, 2))
    assert done.code == ExitCode.SERVER
    second = list(service.jobs)[1]
    assert f"fetch later what is evaluated there: lowmem-resnet20 fetch {second} server" in done.err
    kept = re.search(r"the encrypted result is kept: lowmem-resnet20 decrypt 6 (\S+) keys keys/exp6\n", done.err)
    assert kept and len(list(Path(kept[1]).iterdir())) == 1
