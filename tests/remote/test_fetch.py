"""Jobs that were left at a service: what Ctrl-C says of them, and how their results come later."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import fakes
from fakeservice import FAULTS, TOKEN, FakeService, first_of_each, result_of
from lowmem_resnet20.cli.output import vector
from lowmem_resnet20.errors import CiphertextError, ExitCode
from lowmem_resnet20.files.keystore import write_manifest
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.remote import address
from lowmem_resnet20.remote.address import TOKEN_VARIABLE

TESTS = Path(__file__).parents[1]
RESULT = f"logits  {vector(fakes.LOGITS)}\nclass   Dog\nindex   5\n"
ERROR = "lowmem-resnet20: error: "
UNKNOWN = "6-0123456789abcdef01234567"


@pytest.fixture
def left(run, client, service, inputs) -> list[str]:
    """Names of two jobs that a service has done, of which nothing is here but the list of encryptions."""
    assert run("load_keys", "6", "server", service.url, "input", *pictures(inputs)).code == ExitCode.OK
    service.requests.clear()
    client.clear()
    return list(service.jobs)


def pictures(inputs: Path) -> list[str]:
    return [str(path) for path in sorted(inputs.glob("*.png"))[:2]]


def waits_again(service: FakeService) -> None:
    for job in service.jobs.values():
        job["state"] = "waiting"


def test_one_result(run, client, service, left):
    done = run("fetch", left[0], "server", service.url)
    assert (done.code, done.out, done.err) == (ExitCode.OK, RESULT, "")
    assert service.requests == [f"GET /v1/jobs/{left[0]}/events", f"GET /v1/jobs/{left[0]}/result"]


@pytest.mark.parametrize("fault", FAULTS)
def test_any_request_may_be_cut(run, client, service, left, fault):
    waits_again(service)
    service.fault = first_of_each(fault)
    done = run("fetch", left[0], "server", service.url)
    assert (done.code, done.out) == (ExitCode.OK, RESULT)


def test_a_job_that_is_not_done_yet_is_waited_for(run, client, service, left):
    waits_again(service)
    service.held.clear()
    threading.Timer(0.2, service.held.set).start()
    done = run("fetch", left[0], "server", service.url, "verbose", "1")
    assert (done.code, done.out) == (ExitCode.OK, RESULT)
    assert re.search(r"\] service +waiting, number 1 in the queue +\d+\.\d+ s", done.err)
    assert re.search(r"\] layer2 +block 0 .* 5\.00 GiB", done.err)


def test_several_results(run, client, service, left, inputs):
    done = run("fetch", *reversed(left), left[0], "server", service.url, "json", "input", *pictures(inputs), "plain")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == ExitCode.OK and [line["input"] for line in lines] == pictures(inputs)[::-1]
    assert [line["logits"] for line in lines] == [list(fakes.logits_of(i)) for i in (1, 0)]


def test_of_several_one_that_is_unknown_stops_no_other(run, client, service, left):
    done = run("fetch", UNKNOWN, left[0], "server", service.url)
    assert done.code == ExitCode.SERVER and done.out.endswith(RESULT)
    assert done.err == f"{ERROR}{UNKNOWN}: the service refuses: there is no such job here\n"


def test_several_that_fail_in_the_same_words_are_each_named(run, client, service, left):
    service.error = {"message": "the server process was killed (signal 9)", "hint": "", "exit_code": 8}
    service.jobs[left[0]]["state"] = "failed"
    other = f"{UNKNOWN[:-1]}8"
    done = run("fetch", UNKNOWN, other, left[0], "server", service.url)
    lines = [f"{job}: the service refuses: there is no such job here" for job in (UNKNOWN, other)]
    lines.append(f"{left[0]}: the server process was killed (signal 9)")
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    assert done.err == "".join(f"{ERROR}{line}\n" for line in lines)
    done = run("cancel", UNKNOWN, other, "server", service.url)
    assert done.err == "".join(f"{ERROR}{line}\n" for line in lines[:2])


def test_an_unknown_job(run, client, service):
    done = run("fetch", UNKNOWN, "server", service.url)
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    assert done.err == f"{ERROR}{UNKNOWN}: the service refuses: there is no such job here\n"


def test_a_job_that_failed(run, client, service, left):
    service.error = {"message": "the ciphertext is bad", "hint": "make it again", "exit_code": 6}
    service.jobs[left[0]]["state"] = "failed"
    done = run("fetch", left[0], "server", service.url)
    assert (done.code, done.out, done.err) == (6, "", f"{ERROR}{left[0]} is bad\nhint: make it again\n")


def refuse(monkeypatch) -> None:
    def decrypt_group(client, result, group=None):
        raise CiphertextError(f"{result.path} does not decrypt")

    monkeypatch.setattr(fakes.Client, "decrypt_group", decrypt_group)


def test_results_that_do_not_decrypt_are_told_as_their_jobs(run, client, service, left, monkeypatch):
    """The files they came in are gone when it is read."""
    refuse(monkeypatch)
    done = run("fetch", *left, "server", service.url, "json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == ExitCode.CIPHERTEXT and [line["input"] for line in lines] == left
    assert [line["error"] for line in lines] == [f"{job} does not decrypt" for job in left]
    assert done.err == "".join(f"{ERROR}{job} does not decrypt\n" for job in left)
    assert run("fetch", left[0], "server", service.url).err == f"{ERROR}{left[0]} does not decrypt\n"


def test_results_of_pictures_that_are_in_no_list_are_told_as_their_jobs(run, client, service, left, inputs):
    fakes.entries.clear()
    done = run("fetch", *left, "server", service.url)
    assert re.findall("picture +(.*)", done.out) == left
    done = run("fetch", left[0], "server", service.url, "input", pictures(inputs)[0])
    assert done.err.startswith(f"{ERROR}{left[0]} answers a picture that is not in this client's list")


def test_a_group_is_told_as_its_job_and_what_it_fails_of_once(run, client, service, inputs, monkeypatch, tmp_path):
    """Of set 7; and by place where one of its pictures has no logits."""
    folder = tmp_path / "keys" / "exp7" / "server"
    folder.mkdir(parents=True)
    (folder / "public.key").write_bytes(bytes(2304))
    write_manifest(folder, parameter_set(7), "k")
    folder.with_name("client").mkdir()
    service.facts["set"] = 7
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run("load_keys", "7", "server", service.url, "input", *pictures(inputs)).code == ExitCode.OK
    [job] = service.jobs

    def check_logits(client, path, numbers):
        raise CiphertextError(f"{path} holds numbers")

    with monkeypatch.context() as patch:
        patch.setattr(fakes.Client, "check_logits", check_logits)
        done = run("fetch", job, "server", service.url)
        assert done.err == "".join(f"{ERROR}{job}, place {place} holds numbers\n" for place in (1, 2))
        done = run("load_keys", "7", "server", service.url, "input", *pictures(inputs), "verbose", "-1")
        assert done.err.startswith("".join(f"{ERROR}the result of {p} holds numbers\n" for p in pictures(inputs)))
    refuse(monkeypatch)
    assert run("fetch", job, "server", service.url).err == f"{ERROR}{job} does not decrypt\n"


def test_a_result_of_another_job(run, client, service, left):
    """What it answers is named, whatever the service calls it: nothing is told as another picture's."""
    first, second = (service.jobs[job]["ciphertext"] for job in left)
    service.answer = lambda ciphertext: result_of(second if ciphertext == first else first)
    done = run("fetch", left[0], "server", service.url)
    assert done.out.startswith(f"logits  {vector(fakes.logits_of(1))}\n")


def test_a_service_that_is_not_there(run, client, service, left):
    service.stop()
    done = run("fetch", *left, "server", service.url)
    assert (done.code, done.out) == (ExitCode.SERVER, "")
    assert done.err.startswith(f"{ERROR}no service answers at {service.url}: ")
    assert done.err.endswith(f": lowmem-resnet20 fetch {shlex.join(left)} server {service.url}\n")


@pytest.mark.parametrize("job", ["x", "6-", "6-0123", "6-0123456789ABCDEF01234567", "../6-0123456789abcdef01234567"])
def test_names_that_no_job_has(run, client, service, job):
    assert run("fetch", job, "server", service.url).code == ExitCode.USAGE
    assert service.requests == []


def test_fetch_needs_a_server(run, client):
    assert run("fetch", UNKNOWN).code == ExitCode.USAGE


def test_a_token_that_comes_through_a_pipe(run, client, service, monkeypatch):
    """As of ``token <(cat FILE)``: every connection of the command has it, and no later command can name it."""
    monkeypatch.setattr(address, "_FROM_PIPES", {})
    monkeypatch.delenv(TOKEN_VARIABLE)
    read, write = os.pipe()
    os.write(write, TOKEN.encode())
    os.close(write)
    token = ["token", f"/dev/fd/{read}"]
    assert run("load_keys", "6", "server", service.url, *token).code == ExitCode.OK
    assert set(service.authorizations) == {f"Bearer {TOKEN}"}
    service.stop()
    [job] = service.jobs
    done = run("fetch", job, "server", service.url, *token)
    assert done.err.endswith(f": lowmem-resnet20 fetch {job} server {service.url} token FILE\n")
    os.close(read)


# --- Ctrl-C -----------------------------------------------------------------------------------------------

#: The command line with stand-ins for encryption, in a process that can be interrupted.
COMMAND = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])  # as the program does before it imports much
import fakes
fakes.install()
from lowmem_resnet20.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def interrupted(service: FakeService, folder: Path, number: int, *words: str) -> tuple[int, str, str]:
    """Exit code and what was said of a command that is ended while its job runs."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(TESTS), TOKEN_VARIABLE: TOKEN}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    followed = threading.Event()
    service.fault = lambda number, request: followed.set() if request.endswith("/events") else None
    service.held.clear()
    command = [sys.executable, "-c", COMMAND, *words]
    with subprocess.Popen(command, env=environment, cwd=folder, text=True, **streams) as process:
        if not followed.wait(300):
            process.kill()
        process.send_signal(number)
        assert process.wait(300) == 128 + number, process.stderr.read()
        told = process.stdout.read(), process.stderr.read()
    assert list((folder / "tmp").iterdir()) == []
    service.held.set()
    return 128 + number, *told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_job_and_says_how_to_fetch_it(run, client, service, tmp_path, inputs, number):
    words = ["keys", "keys/exp6", "plain", "input", str(inputs / "luis.png"), "json"]
    _, out, err = interrupted(service, tmp_path, number, "load_keys", "6", "server", service.url, *words)
    [job] = service.jobs
    fetch = f"fetch {job} server {service.url} keys keys/exp6 plain input {inputs / 'luis.png'} json"
    assert (out, err) == ("", f"the job stays at the service; fetch later: lowmem-resnet20 {fetch}\n")
    assert service.jobs[job]["state"] != "cancelled" and not [r for r in service.requests if r.startswith("DELETE")]
    fakes.entries.update(entries_of(service))
    later = run(*shlex.split(fetch))
    assert later.code == ExitCode.OK and json.loads(later.out)["class"] == "Dog"


def test_ctrl_c_on_a_terminal_ends_with_that_line(client, service, tmp_path, inputs):
    """The line that shows progress is gone, though it is drawn by a thread until the end."""
    followed, said = threading.Event(), b""
    service.fault = lambda number, request: followed.set() if request.endswith("/events") else None
    service.held.clear()
    words = ["load_keys", "6", "server", service.url, "input", str(inputs / "luis.png")]
    variables = {"PYTHONPATH": str(TESTS), TOKEN_VARIABLE: TOKEN, "TERM": "xterm", "TMPDIR": str(tmp_path)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", COMMAND, *words], os.environ | variables)
    threading.Thread(target=lambda: followed.wait(300) and os.write(terminal, b"\x03"), daemon=True).start()
    with suppress(OSError):  # it has ended
        while part := os.read(terminal, 1 << 16):
            said += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130, said.decode()
    service.held.set()
    [job] = service.jobs
    told, _, after = said.decode().partition(f"fetch later: lowmem-resnet20 fetch {job} server {service.url}")
    assert "taking the pictures" in told and "the job stays at the service; " in told
    *_, last = re.split(r"\x1b\[2?K", after)
    assert last.replace("\x1b[?25h", "").strip() == ""


def entries_of(service: FakeService) -> dict[str, fakes.Entry]:
    """The client's list of encryptions, which its stand-in keeps in memory."""
    from lowmem_resnet20.model.picture import read_picture

    pixels = fakes.pixel_digest(read_picture(TESTS.parent / "inputs" / "luis.png", resize=False))
    [job] = service.jobs.values()
    identity = fakes.picture_id(job["ciphertext"])
    return {identity: fakes.Entry(identity, pixels, str(TESTS.parent / "inputs" / "luis.png"))}


def test_ctrl_c_in_fetch_says_so_again(run, client, service, tmp_path):
    assert run("load_keys", "6", "server", service.url).code == ExitCode.OK
    [job] = service.jobs
    waits_again(service)
    Path("keys").rename("weights")
    words = f"fetch {job} server {service.url} keys ./weights"
    _, out, err = interrupted(service, tmp_path, signal.SIGINT, *shlex.split(words), "verbose", "-1")
    assert (out, err) == ("", f"the job stays at the service; fetch later: lowmem-resnet20 {words}\n")
