"""https: a certificate is checked, against those that the environment names where it does."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import ssl
import threading
from pathlib import Path

import pytest

from lowmem_resnet20.errors import ServerError
from lowmem_resnet20.remote.address import Address
from lowmem_resnet20.remote.connection import Connection, Patience, Stopped
from processes import until

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Of this machine, signed by itself, with its key; made anew for each run."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def url(certificate):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"authorization": self.headers["Authorization"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.path.endswith("/events") else body)
            if self.path.endswith("/events"):  # the rest comes never
                self.wfile.flush()
                self.rfile.read(1)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(url: str) -> dict:
    with Connection(Address(url, True, "sesame"), print, Patience(5, 0.01, 0.02)) as connection:
        return connection.ask("GET", "/").fields()


def test_a_stranger_is_sent_nothing(url, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(ServerError, match=f"^the certificate of {url} is not to be trusted: self") as raised:
        ask(url)
    assert raised.value.hint.startswith("SSL_CERT_FILE ")


def test_the_environment_names_whom_to_trust(url, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ask(url) == {"authorization": "Bearer sesame"}


def test_what_is_followed_is_stopped(certificate, url, monkeypatch):
    """From another thread, which cuts the connection off below TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Connection(Address(url, True), print, Patience(60, 0.01, 0.02)) as there:

        def stop() -> None:
            until(lambda: there._followed)  # its answer has begun
            there.stop()

        stopping = threading.Thread(target=stop)
        stopping.start()
        with pytest.raises(Stopped):
            there.persist(lambda: list(there.lines("/events")))
        stopping.join()
