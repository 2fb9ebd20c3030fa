"""https: a certificate is checked, against those that the environment names where it does."""

from __future__ import annotations

import hashlib
import threading

import pytest

from lowmem_resnet20.errors import EnvironmentFault, ServerError
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import Connection, Patience, Stopped
from processes import until


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def ask(url: str) -> dict:
    with Connection(Address(url, True, "sesame"), print, Patience(5, 0.01, 0.02)) as connection:
        return connection.ask("GET", "/").fields()


def test_a_stranger_is_sent_nothing(secure_url):
    with pytest.raises(ServerError, match=f"^the certificate of {secure_url} is not to be trusted: self") as raised:
        ask(secure_url)
    assert raised.value.hint.startswith("SSL_CERT_FILE ")


def test_the_environment_names_whom_to_trust(secure_url, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ask(secure_url) == {"authorization": "Bearer sesame"}


def test_the_environment_names_a_folder_of_those_to_trust(secure_url, certificate, monkeypatch, tmp_path):
    """Under the names by which OpenSSL finds them: hashes of their subjects, in small letters without the outermost
    header."""
    from cryptography import x509

    subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject.public_bytes()
    name = int.from_bytes(hashlib.sha1(subject[2:]).digest()[:4], "little")
    (tmp_path / f"{name:08x}.0").write_bytes(certificate.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert ask(secure_url) == {"authorization": "Bearer sesame"}


@pytest.mark.parametrize(
    ("variable", "content", "message"),
    [
        ("SSL_CERT_FILE", None, "cannot read {}: No such file or directory"),
        ("SSL_CERT_FILE", b"no certificate", "{} holds no certificates that can be read"),
        ("SSL_CERT_FILE", b"", "{} holds no certificates that can be read"),
        ("SSL_CERT_DIR", None, "{} is no folder"),
    ],
)
def test_what_cannot_be_trusted(service, tmp_path, monkeypatch, variable, content, message):
    """The variable is named; where nothing is encrypted it does not matter."""
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(EnvironmentFault) as raised:
        ask("https://127.0.0.1:1")
    assert raised.value.message == message.format(path)
    assert raised.value.hint == f"{variable} of the environment names it"
    with Connection(Address(service.url, True, service.token), print) as plain:
        assert plain.ask("GET", "/v1/service").status == 200


def test_no_other_variable_or_file_has_a_say(secure_url, certificate, monkeypatch, tmp_path):
    """What .netrc knows is not sent, and what is sent is written to no file."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    for name, value in {"SSL_CERT_FILE": str(certificate), "NETRC": str(tmp_path / "netrc")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "log"))
    with Connection(Address(secure_url, True), print) as connection:
        assert connection.ask("GET", "/").fields() == {"authorization": None}
    assert not (tmp_path / "log").exists()


def test_what_is_followed_is_stopped(certificate, secure_url, monkeypatch):
    """From another thread, which cuts the connection off below TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Connection(Address(secure_url, True), print, Patience(60, 0.01, 0.02)) as there:

        def stop() -> None:
            until(lambda: there._followed)  # its answer has begun
            there.stop()

        stopping = threading.Thread(target=stop)
        stopping.start()
        with pytest.raises(Stopped):
            there.persist(lambda: list(there.lines("/events")))
        stopping.join()
