"""HTTP with a service that is gone, comes again, says too much, or sends us elsewhere."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

from fakeservice import ANSWER_LOST, CUT, HALF_AN_ANSWER, NOT_NOW, TOKEN, FakeService
from lowmem_resnet20.errors import ServerError
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import LONGEST_JSON, LONGEST_LINE, Connection, Lost, Patience
from lowmem_resnet20.remote.said import ServiceRefused

QUICK = Patience(seconds=30, first_pause=0.01, longest_pause=0.02)


@pytest.fixture
def service():
    with FakeService() as service:
        yield service


def connection(service: FakeService, said: list[str] | None = None, patience: Patience = QUICK, token: str = TOKEN):
    return Connection(Address(service.url, True, token), ([] if said is None else said).append, patience)


def test_an_answer(service):
    with connection(service) as there:
        assert there.ask("GET", "/v1/service").fields() == service.facts
    assert (service.requests, service.authorizations) == (["GET /v1/service"], [f"Bearer {TOKEN}"])


@pytest.mark.parametrize("fault", [CUT, ANSWER_LOST, HALF_AN_ANSWER, NOT_NOW])
def test_a_lost_connection_is_taken_up_again(service, fault):
    said: list[str] = []
    service.fault = lambda number, request: fault if number in (1, 2, 4) else None
    with connection(service, said) as there:
        for _ in range(3):
            assert there.ask("GET", "/v1/service").fields() == service.facts
    assert len(service.requests) == 6
    assert len(said) == 2  # a fault that the next try mends is not worth a word
    assert said[0].startswith(f"the service at {service.url} does not answer (")
    assert said[1] == f"the service at {service.url} answers again"


def test_a_full_disk_is_waited_out_and_told(service):
    service.instead["/v1/service"] = (507, {}, b'{"error": "the service\'s disk is full"}')
    said: list[str] = []
    with connection(service, said) as there:
        with pytest.raises(Lost, match=r"^it answers 507 Insufficient Storage: the service's disk is full$"):
            there.once("GET", "/v1/service")
        threading.Timer(0.2, service.instead.clear).start()
        assert there.ask("GET", "/v1/service").fields() == service.facts
    assert "507 Insufficient Storage: the service's disk is full" in said[0]


def test_a_service_that_is_started_again(service):
    with connection(service) as there:
        there.ask("GET", "/v1/service")
        service.stop()
        threading.Timer(0.2, service.start_again).start()
        assert there.ask("GET", "/v1/service").fields() == service.facts


def test_patience_ends(service):
    with connection(service, patience=Patience(0.2, 0.01, 0.02)) as there:
        there.ask("GET", "/v1/service")
        service.stop()
        started = time.monotonic()
        with pytest.raises(
            ServerError, match=rf"^the service at {service.url} has not answered for \d+\.\d s: .*refused"
        ):
            there.ask("GET", "/v1/service")
        assert time.monotonic() - started >= 0.2


def test_where_no_service_ever_was_nothing_is_tried_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with Connection(Address(url, True), print) as there, pytest.raises(ServerError) as raised:
            there.ask("GET", "/v1/service")
    assert raised.value.message.startswith(f"no service answers at {url}: ")
    assert "serve N" in raised.value.hint


def test_pauses_grow_and_differ():
    patience = Patience(600, 0.5, 15)
    for failures, most in ((0, 0.5), (1, 1), (3, 4), (5, 15), (10**6, 15)):
        pauses = [patience.pause(failures) for _ in range(50)]
        assert most / 2 <= min(pauses) < max(pauses) <= most


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504, *range(520, 528), 530])
def test_a_proxy_that_does_not_reach_the_service_is_asked_again(service, status):
    def mended(number: int, request: str) -> None:
        if number == 1:
            service.instead.clear()

    service.instead["/v1/service"] = (status, {}, b"<html>")
    service.fault = mended
    with connection(service) as there:
        assert there.ask("GET", "/v1/service").fields() == service.facts
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("wanted", "most"), [("20", 20), ("99999", 60), ("-1", 0.01), ("soon", 0.01), ("9" * 40, 0.01), ("\u00b2", 0.01)]
)
def test_a_service_may_ask_for_a_pause(service, monkeypatch, wanted, most):
    def sleep(_: Connection, seconds: float) -> None:
        raise TimeoutError(seconds)

    monkeypatch.setattr(Connection, "sleep", sleep)
    service.instead["/v1/service"] = (503, {"Retry-After": wanted}, b"{}")
    with connection(service, patience=Patience(3600, 0.01, 0.02)) as there, pytest.raises(TimeoutError) as raised:
        there.ask("GET", "/v1/service")
    assert most / 2 <= raised.value.args[0] <= most


@pytest.mark.parametrize(
    ("token", "what"), [("wrong", "does not accept the token"), ("", "wants a token, and none was given")]
)
def test_no_or_another_token(service, token, what):
    with connection(service, token=token) as there, pytest.raises(ServiceRefused) as raised:
        there.ask("GET", "/v1/service")
    assert raised.value.message == f"the service at {service.url} {what}"
    assert "LOWMEM_RESNET20_TOKEN" in raised.value.hint
    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(service, status):
    with FakeService() as other:
        service.instead["/v1/service"] = (status, {"Location": f"{other.url}/v1/service"}, b"")
        with connection(service) as there, pytest.raises(ServiceRefused, match="sends its callers elsewhere"):
            there.ask("GET", "/v1/service")
        assert other.requests == []


def test_no_proxy_sees_what_stays_on_this_machine(service, monkeypatch):
    with FakeService() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with connection(service) as there:
            there.ask("GET", "/v1/service")
        assert (len(service.requests), proxy.requests) == (1, [])


@pytest.mark.parametrize(
    "body", [b"x" * (LONGEST_JSON + 1), b"[" * 100_000, b"no json", b"\xff\xfe", b"[]", b"null", b"9" * 5000, b""]
)
def test_answers_that_are_none(service, body):
    service.instead["/v1/service"] = (200, {}, body)
    with connection(service) as there, pytest.raises(ServerError, match=r"cannot be understood|answers more than"):
        there.ask("GET", "/v1/service").fields()


def test_what_a_service_says_is_shown_without_control_characters(service):
    body = b'{"error": "no\\u001b[2J\\nway\\u202e\\u0000 %s", "hint": "a\\u0007sk"}' % (b"x" * 5000)
    service.instead["/v1/service"] = (422, {}, body)
    with connection(service) as there, pytest.raises(ServiceRefused) as raised:
        there.ask("GET", "/v1/service")
    assert raised.value.message.startswith("the service refuses: no[2J way xxx")
    assert raised.value.message.isprintable() and len(raised.value.message) < 450
    assert raised.value.hint == "ask"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": 7}', b'{"error": ""}'])
def test_a_refusal_without_words_is_its_status(service, body):
    service.instead["/v1/service"] = (418, {}, body)
    with connection(service) as there, pytest.raises(ServiceRefused, match=r"^the service refuses: 418 I'm a Teapot$"):
        there.ask("GET", "/v1/service")


def test_lines_within_bounds(service):
    service.instead["/a"] = (200, {}, b"one\r\ntwo\nthree")
    service.instead["/b"] = (200, {}, b"x" * (LONGEST_LINE + 1))
    with connection(service) as there:
        assert list(there.lines("/a")) == ["one", "two"]
        with pytest.raises(ServerError, match="a line of events"):
            list(there.lines("/b"))


def test_lines_that_are_cut(service):
    service.fault = lambda number, request: CUT
    with connection(service) as there, pytest.raises(Lost):
        list(there.lines("/a"))


def test_bytes_that_are_no_http(service):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    client, _ = server.accept()
                    client.recv(1000)
                    client.sendall(b"\x1b[2J\x00 nonsense\r\n\r\n")
                    client.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with (
            Connection(Address(url, True), print, Patience(0.0, 0.01, 0.01)) as there,
            pytest.raises(ServerError, match="has not answered") as raised,
        ):
            there.ask("GET", "/v1/service")
        assert raised.value.message.isprintable()


def test_https_where_there_is_none(service):
    url = service.url.replace("http", "https")
    with Connection(Address(url, True), print, QUICK) as there, pytest.raises(ServerError, match="not answer in https"):
        there.ask("GET", "/v1/service")
