"""The proxy that the environment names: which it is, what goes through it, and what is told of one that refuses."""

from __future__ import annotations

import os
import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from lowmem_resnet20.errors import EnvironmentFault, ServerError
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import Connection, Patience
from lowmem_resnet20.remote.proxies import Proxy, proxy_to

QUICK = Patience(seconds=30, first_pause=0.01, longest_pause=0.02)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


# --- which it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:3128"}, Proxy("HTTPS_PROXY", "http://p:3128")),
        ({"https_proxy": " p.example "}, Proxy("https_proxy", "http://p.example")),
        ({"https_proxy": "http://small", "HTTPS_PROXY": "http://large"}, Proxy("https_proxy", "http://small")),
        ({"ALL_PROXY": "HTTPS://P:1/"}, Proxy("ALL_PROXY", "https://p:1")),
        ({"all_proxy": "[::1]:3128"}, Proxy("all_proxy", "http://[::1]:3128")),
        ({"HTTPS_PROXY": "http://p", "ALL_PROXY": "nonsense://x"}, Proxy("HTTPS_PROXY", "http://p")),
        ({"HTTP_PROXY": "nonsense://x", "http_proxy": "http://[", "HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://me:a%40b%2Fc@p"}, Proxy("HTTPS_PROXY", "http://p", ("me", "a@b/c"))),
        ({"HTTPS_PROXY": "http://me:a@b@p:1"}, Proxy("HTTPS_PROXY", "http://p:1", ("me", "a@b"))),
        ({"HTTPS_PROXY": "me@p"}, Proxy("HTTPS_PROXY", "http://p", ("me", ""))),
    ],
)
def test_which_variable_names_it(monkeypatch, variables, found):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_to("service.example", 443) == found
    assert "a@b" not in repr(found)


def test_socks(monkeypatch):
    """As desktops write it, too; where its package is missing, that is said."""
    monkeypatch.setattr("lowmem_resnet20.remote.proxies.find_spec", lambda name: name == "socksio")
    for written, meant in (("socks://p:1", "socks5://p:1"), ("socks5h://p", "socks5h://p")):
        monkeypatch.setenv("ALL_PROXY", written)
        assert proxy_to("service.example", 443) == Proxy("ALL_PROXY", meant)
    monkeypatch.undo()
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(EnvironmentFault, match=r"ALL_PROXY of .* SOCKS .* not installed") as raised:
        proxy_to("service.example", 443)
    assert raised.value.hint == "pip install socksio"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "http://", "http://p:x", "http://p:99999", "http://p:0", "http://[::1", "http://p/path", "http://a b",
        "http://me:sesame/x@p", "http://me:sesame#x@p", "socks4://me:sesame@p", "ftp://p", "://p", "http:/p", "p:q:r",
    ],
)  # fmt: skip
def test_what_names_none(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFault, match=f"^{name} of the environment ") as raised:
        Connection(Address("https://service.example", False, "token"), print)
    assert raised.value.hint and "sesame" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize(
    ("entries", "host", "port"),
    [
        ("*", "a.example", 443), ("b.example, *", "a.example", 443), ("a.example", "a.example", 443),
        ("example", "a.example", 443), (".example", "a.example", 443), ("*.example", "a.example", 443),
        (".a.example", "a.example", 443), ("x,, A.Example ,y", "a.example", 443), ("x y a.example", "a.example", 443),
        ("a.example:8443", "a.example", 8443), ("https://a.example", "a.example", 443),
        ("a.example.", "a.example", 443),
        ("10.0.0.0/8", "10.1.2.3", 443), ("10.1.2.3/8", "10.9.9.9", 443), ("10.1.2.3", "10.1.2.3", 443),
        ("10.1.2.3:443", "10.1.2.3", 443), ("::1/128", "::1", 443), ("[::1]", "::1", 443),
        ("[fd00::]/8", "fd12::1", 443),
        ("fd00::/8", "fd12::1", 443), ("[fd12::1]:8443", "fd12::1", 8443), ("FD12:0::1", "fd12::1", 443),
        ("localhost,127.0.0.1,::1,10.0.0.0/8,.corp", "x.corp", 443),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_whom_it_is_not_for(monkeypatch, name, entries, host, port):
    monkeypatch.setenv("HTTPS_PROXY", "http://p")
    monkeypatch.setenv(name, entries)
    assert proxy_to(host, port) is None


@pytest.mark.parametrize(
    ("entries", "host", "port"),
    [
        ("", "a.example", 443), ("b.example", "a.example", 443), ("a.exampl", "a.example", 443),
        ("xample", "a.example", 443), ("a.example:8443", "a.example", 443), ("10.0.0.0/8", "11.0.0.1", 443),
        ("10.0.0.0/8", "a.example", 443), ("10.0.0.0/99", "10.0.0.1", 443), ("::1/128", "::2", 443),
        (".", "a.example", 443),
        ("*.", "a.example", 443), ("[", "a.example", 443), ("[::1", "::2", 443), ("://", "a.example", 443),
        ("1", "10.0.0.1", 443), ("0.1", "10.0.0.1", 443),
        ("[fd12::1]:8443", "fd12::1", 443), ("::1/x,fe80::1%eth0,@#!", "a.example", 443),
    ],
)  # fmt: skip
def test_whom_it_is_for(monkeypatch, entries, host, port):
    """Whatever else is among the entries."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p")
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxy_to(host, port) == Proxy("HTTPS_PROXY", "http://p")


# --- what goes through it ---------------------------------------------------------------------------------


@contextmanager
def proxy(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """One that answers so, one request after the other, and leads to whatever it is asked for where it says 200; its
    HOST:PORT, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # the test is over
                for answer in answers:
                    client, _ = server.accept()
                    threading.Thread(target=lead, args=(client, answer), daemon=True).start()

        def lead(client: socket.socket, answer: bytes) -> None:
            with client:
                asked.append(client.recv(10000))
                client.sendall(answer)
                if b" 200 " not in answer:
                    return
                host, _, port = asked[-1].split()[1].decode().rpartition(":")
                with socket.create_connection((host, int(port))) as service:
                    threading.Thread(target=copy, args=(service, client), daemon=True).start()
                    copy(client, service)

        def copy(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while content := source.recv(10000):
                    sink.sendall(content)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", asked


def answer(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


LEADS = b"HTTP/1.1 200 OK\r\n\r\n"


def elsewhere(url: str, said: list[str] | None = None) -> Connection:
    return Connection(Address(url, False, "sesame"), ([] if said is None else said).append, QUICK)


def test_it_leads_to_the_service(secure_url, certificate, monkeypatch):
    """It is told its own name and password, and nothing of the service's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with proxy(LEADS) as (at, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{at}")
        with elsewhere(secure_url) as there:
            assert there.ask("GET", "/").fields() == {"authorization": "Bearer sesame"}
    [heard] = asked
    assert heard.startswith(b"CONNECT 127.0.0.1:") and b64encode(b"me:p@ss") in heard
    assert b"sesame" not in heard


@pytest.mark.parametrize(
    ("status", "login", "message", "hint"),
    [
        ("407 Go away", "", "wants a name and a password: 407 Proxy Authentication Required", "NAME:PASSWORD@"),
        ("407 x", "me:secret@", "does not accept the name and the password: 407 Proxy", "HTTPS_PROXY"),
        ("403 Forbidden", "me:secret@", "does not lead to {url}: 403 Forbidden", "NO_PROXY=127.0.0.1 "),
        ("502 Bad Gateway", "", "does not lead to {url}: 502 Bad Gateway", "NO_PROXY=127.0.0.1 "),
        ("302 Found", "", "does not lead to {url}: 302 Found", "NO_PROXY=127.0.0.1 "),
        ("999 \x1b[2J", "", "does not lead to {url}: 999", "NO_PROXY=127.0.0.1 "),
    ],
)
def test_a_refusal_is_the_proxys(secure_url, monkeypatch, status, login, message, hint):
    with proxy(answer(status)) as (at, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{login}{at}")
        with elsewhere(secure_url) as there, pytest.raises(ServerError) as raised:
            there.ask("GET", "/")
    assert raised.value.message.startswith(f"the proxy at http://{at} {message.format(url=secure_url)}")
    assert raised.value.message.isprintable() and hint in raised.value.hint
    assert "secret" not in raised.value.message + raised.value.hint
    assert len(asked) == 1


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"\x00\x01"])
def test_what_is_no_proxy(secure_url, monkeypatch, said):
    with proxy(said) as (at, _):
        monkeypatch.setenv("HTTPS_PROXY", at)
        with elsewhere(secure_url) as there, pytest.raises(ServerError) as raised:
            there.ask("GET", "/")
    assert raised.value.message.startswith(f"the proxy at http://{at} does not answer as one: ")
    assert "HTTPS_PROXY" in raised.value.hint


def test_a_proxy_that_is_not_there(monkeypatch):
    with proxy() as (at, _):
        pass
    monkeypatch.setenv("ALL_PROXY", f"http://me:secret@{at}")
    with elsewhere("https://service.example") as there, pytest.raises(ServerError) as raised:
        there.ask("GET", "/")
    assert raised.value.message.startswith(f"the proxy at http://{at} does not answer as one: ")
    assert "refused" in raised.value.message
    assert raised.value.hint == "ALL_PROXY of the environment names it; NO_PROXY=service.example goes without it"


def test_a_proxy_that_is_asked_in_https_and_does_not_speak_it(secure_url, monkeypatch):
    with proxy(answer("400 Bad Request")) as (at, _):
        monkeypatch.setenv("HTTPS_PROXY", f"https://{at}")
        with elsewhere(secure_url) as there, pytest.raises(ServerError) as raised:
            there.ask("GET", "/")
    assert raised.value.message == f"the proxy at https://{at} does not answer in https"
    assert "HTTPS_PROXY=http://" in raised.value.hint


def test_a_proxy_in_https_must_be_trusted_too(secure_url, certificate, monkeypatch):
    """Its certificate is its own; and those that the environment names are its own's, too."""
    monkeypatch.setenv("HTTPS_PROXY", secure_url)
    for trusted, message in (
        (None, f"the certificate of the proxy at {secure_url} is not to be trusted"),
        (certificate, "50"),
    ):
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        with elsewhere("https://service.example") as there, pytest.raises(ServerError) as raised:
            there.ask("GET", "/")
        assert message in raised.value.message


def test_a_stranger_behind_the_proxy_is_no_fault_of_its(secure_url, monkeypatch):
    with proxy(LEADS) as (at, _):
        monkeypatch.setenv("HTTPS_PROXY", at)
        with elsewhere(secure_url) as there, pytest.raises(ServerError, match=f"the certificate of {secure_url} is"):
            there.ask("GET", "/")


def test_a_proxy_that_fails_for_the_moment_is_tried_again(secure_url, certificate, monkeypatch):
    """Once it has led to the service."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    said: list[str] = []
    with proxy(LEADS, answer("502 Bad Gateway"), answer("503 Service Unavailable"), LEADS) as (at, asked):
        monkeypatch.setenv("HTTPS_PROXY", at)
        with elsewhere(secure_url, said) as there:
            for _ in range(2):
                assert there.ask("GET", "/").status == 200  # after which the server closes its connection
    assert len(asked) == 4
    assert said[0].startswith(f"the service at {secure_url} does not answer (the proxy at http://{at} does not lead to")
