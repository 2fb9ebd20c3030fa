"""The word ``page``: where it listens, what it says, and what is left when it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpage
import pytest

from lowmem_resnet20.cli.passphrase import FILE_VARIABLE
from lowmem_resnet20.errors import EnvironmentFault, UsageError
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.page import command
from miniature import random_picture
from processes import ends, until
from serving import Process

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

PICTURES = [openpage.png_of(random_picture(openpage.ARCHITECTURE, np.random.default_rng(seed))) for seed in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Keys of both sets of the miniature, and its weights."""
    folder = tmp_path_factory.mktemp("page")
    for set_ in openpage.SETS.values():
        openpage.make_keys(folder, set_)
    return folder


def opened(program: openpage.Program) -> httpx.Client:
    client = httpx.Client(base_url=program.origin, headers={"origin": program.origin}, timeout=300)
    assert client.post("/session", content=program.ticket).status_code == 204
    return client


def everything(client: httpx.Client) -> dict:
    """What the page is told of all there is."""
    with client.stream("GET", "/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))
    raise AssertionError("no events")


def wait_for(client: httpx.Client, *wanted: str) -> list[dict]:
    end = time.monotonic() + 300
    while True:
        found = everything(client)["pictures"]
        if [picture["state"] for picture in found] == list(wanted):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.2)


# --- where it listens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listen, message",
    [
        ("0.0.0.0:8080", "the page is for this machine alone, not for 0.0.0.0"),
        ("example.org:80", "the page is for this machine alone, not for example.org"),
        ("8080", "'8080' is not an address to listen on"),
        ("127.0.0.1:99999", "'127.0.0.1:99999' is not an address to listen on"),
        ("127.0.0.1:", "'127.0.0.1:' is not an address to listen on"),
    ],
)
def test_it_listens_to_this_machine_alone(listen, message):
    with pytest.raises(UsageError) as caught, command.listening(listen):
        pytest.fail("it must not listen")
    assert caught.value.message == message and caught.value.hint


def test_a_port_that_is_taken_is_told():
    with command.listening("") as sock:
        host, port = sock.getsockname()
        assert host == "127.0.0.1" and port
        taken = f"localhost:{port}"
        with pytest.raises(EnvironmentFault, match=f"^cannot listen on {taken}: Address"), command.listening(taken):
            pytest.fail("it must not listen")


# --- what it needs ----------------------------------------------------------------------------------------


def test_without_keys_there_is_no_page(run, tmp_path):
    outcome = run("page", "6", "keys", str(tmp_path))
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.err.startswith("lowmem-resnet20: error: ") and "/#" not in outcome.err


def test_without_the_extra(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lowmem_resnet20.page.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "starlette"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    outcome = run("page", "6")
    assert outcome.code == 7
    assert outcome.err.splitlines() == [
        "lowmem-resnet20: error: this needs the package starlette, which is not installed",
        "hint: pip install 'lowmem-resnet20[serve]'",
    ]


def start(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["page", "6", "keys", str(folder), "weights", str(folder / "weights"), *more]
    return subprocess.run(
        [sys.executable, "-c", openpage.PROGRAM, *words],
        env=openpage.environment() | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, start_new_session=True, timeout=300,
    )  # fmt: skip


def test_a_passphrase_is_asked_for_at_the_start(tmp_path):
    """Where there is no terminal, it is told before any address is; a wrong one too."""
    pytest.importorskip("cryptography")
    openpage.make_keys(tmp_path, openpage.SETS[6], "right")
    done = start(tmp_path)
    assert done.returncode == 7 and "no terminal to ask for it on" in done.stderr and "http" not in done.stderr
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    for path in (wrong, right):
        path.write_text(path.name)
        path.chmod(0o600)
    done = start(tmp_path, **{FILE_VARIABLE: str(wrong)})
    assert done.returncode == 4 and "http" not in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FILE_VARIABLE, str(right))
        with openpage.open_page(tmp_path, 6) as program:
            assert opened(program).get("/").status_code == 200


# --- what it does -----------------------------------------------------------------------------------------


def test_pictures_are_classified_one_after_the_other_as_the_plain_network_does(folder):
    with openpage.open_page(folder, 6) as program:
        client = opened(program)
        for number in range(2):
            assert client.post(f"/pictures?name={number}.png", content=PICTURES[number]).status_code == 201
        found = wait_for(client, "done", "done")
        for number, picture in enumerate(found):
            pixels = random_picture(openpage.ARCHITECTURE, np.random.default_rng(number))
            plain = forward(openpage.WEIGHTS, np.rint(255 * pixels) / 255)["fc"]
            assert np.abs(np.array(picture["plain"]) - plain).max() < 1e-9
            assert np.abs(np.array(picture["logits"]) - plain).max() < 0.3
            assert picture["difference"] == pytest.approx(np.abs(np.array(picture["logits"]) - plain).max())
            shown = client.get(f"/runs/{picture['run']}.png")
            assert shown.headers["content-type"] == "image/png" and len(shown.content) > 3000
        assert found[0]["run"] != found[1]["run"] and found[0]["logits"] != found[1]["logits"]


def test_a_group_is_evaluated_together_and_the_last_one_with_an_empty_place(folder):
    with openpage.open_page(folder, 7) as program:
        client = opened(program)
        for number in range(3):
            client.post(f"/pictures?name={number}.png", content=PICTURES[number])
        found = wait_for(client, "done", "done", "done")
        runs = [picture["run"] for picture in found]
        assert runs[0] == runs[1] != runs[2]
        for picture in found:
            assert np.abs(np.subtract(picture["logits"], picture["plain"])).max() < 0.3


def test_a_service_can_evaluate(folder, tmp_path):
    """By the word ``server``; what it says of the layers is shown."""
    with Process(tmp_path / "store") as service:
        words = ["server", service.told["url"], "token", service.told["token_file"]]
        with openpage.open_page(folder, 6, *words) as program:
            client = opened(program)
            client.post("/pictures?name=a.png", content=PICTURES[0])
            [picture] = wait_for(client, "done")
            assert np.abs(np.subtract(picture["logits"], picture["plain"])).max() < 0.3
            there = everything(client)
            assert there["about"]["server"] == service.told["url"]
            assert there["runs"][0]["done"] == list(range(openpage.STEPS))
            with service.client() as operator:
                assert [job["state"] for job in operator.get("/v1/jobs").json()["jobs"]] == ["done"]


def test_without_weights_the_class_has_its_owners_name_and_nothing_is_compared(folder, tmp_path):
    names = ("Halt", "Straße", "止まれ", "<b>30</b>", *"efghij")
    network = replace(openpage.WEIGHTS, classes=names)
    with Process(tmp_path / "store", network=network) as service:
        words = ["server", service.told["url"], "token", service.told["token_file"]]
        with openpage.open_page(folder, 6, *words, weights=False) as program:
            client = opened(program)
            client.post("/pictures?name=a.png", content=PICTURES[0])
            [picture] = wait_for(client, "done")
            assert not {"plain", "plain_class", "difference"} & set(picture) and picture["warnings"] == []
            assert picture["class"] == names[int(np.argmax(picture["logits"]))]
            assert everything(client)["about"]["classes"] == list(names)
    assert len(list((folder / "exp6" / "client" / "cards").iterdir())) == 1


def test_a_run_at_a_service_can_be_stopped_and_tried_again(folder, tmp_path):
    """Its job is cancelled there, and the same page goes on with the next."""
    with Process(tmp_path / "store") as service, service.client() as operator:
        words = ["server", service.told["url"], "token", service.told["token_file"]]
        with openpage.open_page(folder, 6, *words) as program:
            client = opened(program)
            client.post("/pictures?name=a.png", content=PICTURES[0])
            until(lambda: operator.get("/v1/jobs").json()["jobs"], 300)
            assert client.delete("/pictures/1").status_code == 204
            [picture] = wait_for(client, "stopped")
            assert picture["error"] is None
            [job] = operator.get("/v1/jobs").json()["jobs"]
            assert job["state"] == "cancelled"
            client.post("/pictures/1/again")
            wait_for(client, "done")
            assert [job["state"] for job in operator.get("/v1/jobs").json()["jobs"]] == ["cancelled", "done"]


def test_a_service_that_is_not_there_is_told_before_there_is_a_page(folder):
    with command.listening("") as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    done = start(folder, "server", url)
    assert done.returncode == 8 and "/#" not in done.stderr
    assert done.stderr.startswith("lowmem-resnet20: error: ")


@pytest.mark.parametrize("workers", ["auto", ""])
def test_variables_of_other_programs_are_not_read(folder, monkeypatch, workers):
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with openpage.open_page(folder, 6) as program:
        opened(program)


def test_a_run_can_be_stopped_and_tried_again(folder):
    with openpage.open_page(folder, 6) as program:
        client = opened(program)
        client.post("/pictures?name=a.png", content=PICTURES[0])
        wait_for(client, "evaluating")
        assert client.delete("/pictures/1").status_code == 204
        [picture] = wait_for(client, "stopped")
        assert picture["error"] is None
        client.post("/pictures/1/again")
        wait_for(client, "done")


def test_what_the_server_cannot_do_is_told_beside_the_picture(folder, tmp_path):
    """Keys that were damaged after the start; the program goes on."""
    keys = tmp_path / "exp6"
    for side in ("client", "server"):
        shutil.copytree(folder / "exp6" / side, keys / side, copy_function=os.link)
    os.link(folder / "weights", tmp_path / "weights")
    with openpage.open_page(tmp_path, 6) as program:
        client = opened(program)
        (keys / "server" / "manifest.json").unlink()
        client.post("/pictures?name=a.png", content=PICTURES[0])
        [picture] = wait_for(client, "failed")
        assert str(keys / "server") in picture["error"]["message"]
        os.link(folder / "exp6" / "server" / "manifest.json", keys / "server" / "manifest.json")
        client.post("/pictures/1/again")
        wait_for(client, "done")


def children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def test_ctrl_c_ends_it_with_its_worker_and_leaves_nothing(folder, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        with openpage.open_page(folder, 6) as program:
            client = opened(program)
            client.post("/pictures?name=a.png", content=PICTURES[0])
            wait_for(client, "evaluating")
            until(lambda: children(program.process.pid))
            workers = children(program.process.pid)
            assert workers and list(tmp_path.glob("lowmem-resnet20-*/*/1.ct"))
            program.process.send_signal(signal.SIGINT)
            assert program.process.wait(300) == 130
            assert program.process.stderr is not None and program.process.stderr.read() == ""
    assert list(tmp_path.glob("lowmem-resnet20-*")) == []
    for worker in workers:
        ends(worker)


# --- the browser ------------------------------------------------------------------------------------------


def test_a_browser_is_started_with_no_ticket_among_its_words(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **_: started.append(words))
    command.open_browser("http://127.0.0.1:8123/#ticket", tmp_path)
    [words] = started
    assert words[:4] == [sys.executable, "-I", "-m", "webbrowser"]
    assert not [word for word in words if "ticket" in word]
    page = Path(words[-1].removeprefix("file://"))
    assert re.search(r'content="0; url=http://127\.0\.0\.1:8123/#ticket"', page.read_text())


def test_a_program_without_a_terminal_starts_none(folder):
    """Although there may be a display."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", ":99")
        with openpage.open_page(folder, 6) as program:
            assert opened(program).get("/").status_code == 200
            assert children(program.process.pid) == []


def test_ipv6(folder):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    with command.listening("[::1]:0") as sock:
        assert sock.getsockname()[0] == "::1"
