"""Who may use a service: those who have a token; and the one that the service makes itself."""

from __future__ import annotations

import errno
import hmac
import subprocess
from pathlib import Path

import pytest

from lowmem_resnet20.errors import EnvironmentFault
from lowmem_resnet20.service.clients import FIRST, Client, Clients
from lowmem_resnet20.service.gate import Gate
from lowmem_resnet20.service.token import hashed, token_in

#: Every route, with what it takes.
ROUTES = (
    ("GET", "/metrics"), ("GET", "/v1/service"), ("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/6-0"),
    ("DELETE", "/v1/jobs/6-0"), ("GET", "/v1/jobs/6-0/events"), ("GET", "/v1/jobs/6-0/result"),
    ("PUT", f"/v1/keys/{'0' * 64}"), ("GET", f"/v1/keys/{'0' * 64}"), ("DELETE", f"/v1/keys/{'0' * 64}"),
    ("PATCH", f"/v1/keys/{'0' * 64}/files/a.key"), ("GET", "/nowhere"), ("GET", "/health/"), ("GET", "//health"),
)  # fmt: skip


def test_a_token_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "token"
    token = token_in(path)
    assert len(token) >= 40 and path.read_text() == f"{token}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert token_in(path) == token
    assert token_in(tmp_path / "other") != token


def test_an_operators_own_token_is_taken(tmp_path):
    path = tmp_path / "token"
    for token, ending in (("correct-horse-battery-staple", "\n"), ("x" * 20, ""), ("~" * 200, "\r\n")):
        path.write_bytes((token + ending).encode())
        path.chmod(0o600)
        assert token_in(path) == token


@pytest.mark.parametrize(
    "content",
    [
        b"", b"short", b"x" * 19, b"x" * 201, b"x" * 300, b"\xff" * 40, b"correct horse battery staple",
        b"two\nlines of a token\n and more", b"tab\t" * 8,
    ],
)  # fmt: skip
def test_a_file_that_holds_no_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(EnvironmentFault, match="holds no token"):
        token_in(path)


def mounted(path: Path, mode: int) -> None:
    raise OSError(errno.EROFS, "")


def test_a_token_that_others_can_read_is_refused(tmp_path, monkeypatch):
    """With what to do about it, which works: also where it is mounted read-only."""
    token_in(tmp_path / "token")
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(EnvironmentFault, match="others can read") as raised:
        token_in(tmp_path / "token")
    assert raised.value.hint.startswith("chmod 600")
    monkeypatch.setattr(Path, "chmod", mounted)
    with pytest.raises(EnvironmentFault) as raised:
        token_in(tmp_path / "token")
    _, _, command = raised.value.hint.partition("before the start: ")
    monkeypatch.undo()
    (tmp_path / "mounted").write_text("correct-horse-battery-staple")
    (tmp_path / "token").unlink()
    subprocess.run(command.replace("FILE", str(tmp_path / "mounted")), shell=True, check=True)
    assert token_in(tmp_path / "token") == "correct-horse-battery-staple"


def test_tokens_are_compared_in_constant_time(monkeypatch, tmp_path):
    """Each with all, whichever it is."""
    compared = []
    clients = Clients(tmp_path / "clients.sqlite")
    ben = clients.add("ben", 5)
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or a == b)
    gate = Gate("a" * 30, clients)
    for right in (b"Bearer " + b"a" * 30, b"bearer  " + b"a" * 30):
        assert gate.client(right) == Client(FIRST, hashed("a" * 30), None)
    assert gate.client(f"Bearer {ben}".encode()) == Client("ben", hashed(ben), 5)
    for wrong in (b"", b"Bearer", b"Bearer ", b"Bearer " + b"a" * 29, b"Bearer " + b"b" * 30, b"Basic   " + b"a" * 30):
        assert gate.client(wrong) is None
    assert len(compared) == 2 * 9 and set(compared) == {(32, 32)}  # digests, however long the token


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer wrong", "Basic {}", "{}", "Bearer {}x", "Bearer x{}"])
def test_nothing_but_the_health_check_is_open(served, value):
    token = served.service.store.token.read_text().strip()
    client = served.client
    del client.headers["Authorization"]
    headers = {} if value is None else {"Authorization": value.format(token)}
    assert client.get("/health").json() == {"status": "ok"}
    for method, path in ROUTES:
        answer = client.request(
            method, path, headers=headers, content=b"x" if method in ("PUT", "POST", "PATCH") else None
        )
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert set(answer.json()) == {"error", "hint"}
    assert token not in served.written.getvalue()


def test_two_tokens_are_none(served):
    right = served.client.headers["Authorization"]
    del served.client.headers["Authorization"]
    answer = served.client.get("/v1/jobs", headers=[("Authorization", right), ("Authorization", right)])
    assert answer.status_code == 401
    assert served.client.get("/v1/jobs", headers=[("Authorization", right)]).status_code == 200
