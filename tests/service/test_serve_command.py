"""``serve N``: what it says, what it refuses, and how it ends."""

from __future__ import annotations

import io
import json
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from lowmem_resnet20.errors import EnvironmentFault, UsageError
from lowmem_resnet20.service.command import Serving, _tell_where, parse_address
from lowmem_resnet20.service.jobs import Queue
from lowmem_resnet20.service.store import Store
from serving import Process


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with Process(tmp_path_factory.mktemp("command") / "store") as process:
        yield process


def address_of(process: Process) -> tuple[str, int]:
    return parse_address(process.told["url"].removeprefix("http://"))


def test_it_says_where_it_listens_and_where_the_token_is(process, tmp_path):
    assert set(process.told) == {"url", "token_file", "store", "set"}
    assert process.told["url"].startswith("http://127.0.0.1:") and process.told["set"] == 6
    assert httpx.get(process.told["url"] + "/health").json() == {"status": "ok"}
    assert httpx.get(process.told["url"] + "/v1/jobs").status_code == 401
    with process.client() as client:
        assert client.get("/v1/jobs").json() == {"jobs": []}
    assert json.loads(process.log.read_text().splitlines()[0])["event"] == "service.started"


def test_two_services_on_one_store(process, run):
    """The second is refused in a line, and the first goes on."""
    store = process.told["store"]
    found = run("serve", "6", "listen", "127.0.0.1:0", "store", store)
    assert (found.code, found.out) == (7, "")
    assert found.err == (
        f"lowmem-resnet20: error: another service uses {store}\n"
        "hint: stop that one, or name another folder: store DIR\n"
    )
    assert httpx.get(process.told["url"] + "/health").status_code == 200


def test_an_address_in_use(process, run, tmp_path):
    address = process.told["url"].removeprefix("http://")
    found = run("serve", "6", "listen", address, "store", str(tmp_path / "store"))
    assert found.code == 7 and f"cannot listen on {address}: Address already in use" in found.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_though_clients_are_connected(tmp_path, number):
    with Process(tmp_path / "store") as process, socket.create_connection(address_of(process)):
        assert process.end(number) == 128 + number
        events = [json.loads(line)["event"] for line in process.log.read_text().splitlines()]
        assert events == ["service.started", "service.stopping"]
        Store(tmp_path / "store").open()  # it has let go


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("a.example-1:65535", ("a.example-1", 65535))],
)
def test_addresses(text, found):
    assert parse_address(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "", ":80", "127.0.0.1", "80", "::1:80", "a:65536", "a:x", "a b:1", "http://a:1", "[x]:1", "a..b:1", ".:1",
        f"{'a' * 64}:1",
    ],
)  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        parse_address(text)


def test_bad_words_and_files(run, tmp_path):
    store = str(tmp_path / "store")
    assert run("serve", "9", "store", store).code == 2
    assert run("serve", "6", "listen", "nowhere", "store", store).code == 2
    unknown = run("serve", "6", "listen", "no.such.host.invalid:80", "store", store)
    assert unknown.code == 7 and "cannot listen on no.such.host.invalid:80: " in unknown.err
    assert "Unknown error" not in unknown.err
    assert run("serve", "6", "weights", str(tmp_path / "none"), "store", store).code == 5
    (tmp_path / "file").write_text("")
    assert run("serve", "6", "store", str(tmp_path / "file")).code == 7
    assert (
        not (tmp_path / "store" / "jobs.sqlite").exists() or run("serve", "6", "listen", "x", "store", store).code == 2
    )


def test_a_store_is_of_one_parameter_set(tmp_path):
    Queue(tmp_path / "jobs.sqlite", 6).close()
    with pytest.raises(EnvironmentFault, match="of parameter set 6") as raised:
        Queue(tmp_path / "jobs.sqlite", 5)
    assert raised.value.hint.startswith("serve 6")


def test_a_store_that_is_damaged_or_of_another_version(tmp_path):
    (tmp_path / "a.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(EnvironmentFault, match="cannot be used as a queue"):
        Queue(tmp_path / "a.sqlite", 6)
    with sqlite3.connect(tmp_path / "b.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(EnvironmentFault, match="another version"):
        Queue(tmp_path / "b.sqlite", 6)


def test_a_store_may_be_a_link(tmp_path, run):
    """As systemd makes one of a StateDirectory with DynamicUser; also before there is what it leads to."""
    (tmp_path / "store").symlink_to(tmp_path / "private" / "store")
    store = Store(tmp_path / "store")
    for _ in range(2):
        store.open()
        assert {path.name for path in (tmp_path / "private" / "store").iterdir()} >= {"jobs", "keys"}
        assert (tmp_path / "private" / "store").stat().st_mode & 0o777 == 0o700
        second = run("serve", "6", "listen", "127.0.0.1:0", "store", str(tmp_path / "private" / "store"))
        assert second.code == 7 and "another service uses" in second.err
        store.close()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert run("serve", "6", "store", str(tmp_path / "round")).code == 7


def test_a_warning_where_others_can_listen_to_the_token(tmp_path):
    alone = ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST")
    for host in (*alone, "0.0.0.0", "::", "::1234:5678", "localhost.lan"):
        where, warnings = [], []
        hear = (where.append, lambda *said, to=warnings: to.append(said))
        asked = Serving(6, "", tmp_path, None, "", 0, io.StringIO(), *hear)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            _tell_where(asked, host, listening, Store(tmp_path))
        assert bool(warnings) == (host not in alone), host
        assert all("no TLS of its own" in message and "a proxy" in hint for message, hint in warnings)
        named = f"[{host}]" if ":" in host else host
        told = {"url": f"http://{named}:{port}", "token_file": str(tmp_path / "token"), "store": str(tmp_path)}
        assert where == [told | {"set": 6}]


def test_a_store_is_its_owners_alone(process):
    store = Path(process.told["store"])
    assert (store / "token").stat().st_mode & 0o777 == 0o600
    for name in ("keys", "jobs", "uploads", "incoming"):
        assert (store / name).stat().st_mode & 0o777 == 0o700


def test_a_missing_package_is_named(tmp_path):
    """Without the extra the command line works, and serve says what to install."""
    script = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from lowmem_resnet20.cli.main import main\n"
        f"sys.exit(main(['serve', '6', 'store', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 7 and "needs the package uvicorn" in done.stderr
    assert "pip install 'lowmem-resnet20[serve]'" in done.stderr


def test_its_words_are_plain_without_json(tmp_path):
    """But for its log, after the warning of a machine that has little memory."""
    command = [
        sys.executable,
        "-m",
        "lowmem_resnet20",
        "serve",
        "6",
        "listen",
        "127.0.0.1:0",
        "store",
        str(tmp_path / "s"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        while not lines[-1].startswith("the token"):
            lines.append(process.stderr.readline())
        process.terminate()
        assert process.wait(300) == 143 and process.stdout.read() == ""
    *warning, started, where, token = lines
    assert not warning or warning[0].startswith("lowmem-resnet20: warning: an evaluation takes")
    assert json.loads(started)["event"] == "service.started"
    assert where.startswith("listening on http://127.0.0.1:")
    assert token == f"the token is in {tmp_path / 's' / 'token'}; for other clients: token add NAME\n"
