"""The command line against a fake service, with stand-ins for encryption."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import ssl
import threading
from pathlib import Path

import pytest

import fakes
from fakeservice import TOKEN, FakeService
from lowmem_resnet20.files.keystore import write_manifest
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.remote import connection, upload
from lowmem_resnet20.remote.address import TOKEN_VARIABLE


@pytest.fixture
def service():
    with FakeService() as service:
        yield service


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A working directory with keys of set 6 that are none, and a token in the environment; what was called."""
    fakes.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr(connection, "PATIENCE", connection.Patience(20, 0.01, 0.02))
    monkeypatch.setattr(upload, "PIECE_BYTES", 1000)
    folder = tmp_path / "keys" / "exp6" / "server"
    folder.mkdir(parents=True)
    (folder / "public.key").write_bytes(bytes(range(256)) * 9)
    write_manifest(folder, parameter_set(6), "k")
    folder.with_name("client").mkdir()
    return fakes.calls


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """Of this machine, signed by itself, with its key; made anew for each run."""
    pytest.importorskip("cryptography")
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
def secure_url(certificate):
    """Of a server that says in https with which Authorization it is asked."""

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
