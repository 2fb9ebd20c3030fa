"""What is not wanted any more at a service: ``cancel``, ``forget_keys``, and a run that is stopped."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from fakeservice import FAULTS, FakeService, first_of_each
from lowmem_resnet20.cli.access import access
from lowmem_resnet20.cli.output import Printer
from lowmem_resnet20.cli.words import Request
from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.remote import connection
from lowmem_resnet20.remote.connecting import Access
from lowmem_resnet20.remote.connection import Patience, Stopped
from lowmem_resnet20.remote.evaluation import Remote
from lowmem_resnet20.server.request import Evaluation, Job
from processes import until

ERROR = "lowmem-resnet20: error: "
UNKNOWN = "6-0123456789abcdef01234567"


@pytest.fixture
def left(run, client, service, inputs) -> list[str]:
    """Names of three jobs at a service: one waits, one runs, one is done."""
    pictures = [str(path) for path in sorted(inputs.glob("*.png"))[:3]]
    assert run("load_keys", "6", "server", service.url, "input", *pictures).code == ExitCode.OK
    for job, state in zip(service.jobs.values(), ("waiting", "running", "done"), strict=True):
        job["state"] = state
    service.requests.clear()
    return list(service.jobs)


def states(service: FakeService) -> list[str]:
    return [job["state"] for job in service.jobs.values()]


def test_one_job(run, service, left):
    done = run("cancel", left[0], "server", service.url)
    assert (done.code, done.out, done.err) == (ExitCode.OK, f"{left[0]}  cancelled\n", "")
    assert service.requests == [f"GET /v1/jobs/{left[0]}", f"DELETE /v1/jobs/{left[0]}"]
    assert states(service) == ["cancelled", "running", "done"]


def test_a_job_that_is_done_keeps_its_result(run, service, left):
    done = run("cancel", *left, left[0], "server", service.url)
    assert (done.code, done.err) == (ExitCode.OK, "")
    assert done.out == f"{left[0]}  cancelled\n{left[1]}  cancelled\n{left[2]}  done\n"
    assert states(service) == ["cancelled", "cancelled", "done"]
    assert run("fetch", left[2], "server", service.url).code == ExitCode.OK


def test_for_programs(run, service, left):
    done = run("cancel", UNKNOWN, left[1], "server", service.url, "json")
    assert done.code == ExitCode.SERVER
    unknown, cancelled = [json.loads(line) for line in done.out.splitlines()]
    message = f"{UNKNOWN}: the service refuses: there is no such job here"
    assert unknown == {"set": 6, "input": UNKNOWN, "error": message, "exit_code": 8}
    assert cancelled == {"set": 6, "job": left[1], "state": "cancelled"}
    assert done.err == f"{ERROR}{message}\n"


@pytest.mark.parametrize("fault", FAULTS)
def test_any_request_may_be_cut(run, service, left, fault):
    service.fault = first_of_each(fault)
    done = run("cancel", left[0], left[1], "server", service.url)
    assert (done.code, states(service)) == (ExitCode.OK, ["cancelled", "cancelled", "done"])
    done = run("forget_keys", "6", "server", service.url)
    assert (done.code, service.manifests) == (ExitCode.OK, {})


def test_a_service_that_is_not_there(run, service, left):
    service.stop()
    for words in (("cancel", *left), ("forget_keys", "6")):
        done = run(*words, "server", service.url)
        assert (done.code, done.out) == (ExitCode.SERVER, "")
        assert done.err.startswith(f"{ERROR}no service answers at {service.url}: ") and done.err.count(ERROR) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("cancel", UNKNOWN), ("cancel", "server", "http://127.0.0.1:1"), ("cancel", "x", "server", "http://127.0.0.1:1"),
        ("cancel", UNKNOWN, "5" + UNKNOWN[1:], "server", "http://127.0.0.1:1"), ("forget_keys", "6"),
        ("cancel", "0" + UNKNOWN[1:], "server", "http://127.0.0.1:1"),
        ("forget_keys", "0", "server", "http://127.0.0.1:1"), ("cancel", UNKNOWN, "server", "http://other.example"),
    ],
)  # fmt: skip
def test_words_that_do_not_fit(run, client, words):
    assert run(*words).code == ExitCode.USAGE


def test_a_wrong_token(run, service, left):
    service.token = "another"
    for words in (("cancel", left[0]), ("forget_keys", "6")):
        done = run(*words, "server", service.url)
        assert done.code == ExitCode.SERVER and "does not accept the token" in done.err


# --- forget_keys ----------------------------------------------------------------------------------------------


def test_keys_are_removed(run, service, left):
    for job in service.jobs.values():
        job["state"] = "done"
    done = run("forget_keys", "6", "server", service.url)
    assert (done.code, done.out, done.err) == (ExitCode.OK, "keys/exp6/server  removed from the service\n", "")
    assert service.manifests == {} and service.requests[0].startswith("DELETE /v1/keys/") and len(service.requests) == 1
    assert Path("keys/exp6/server/manifest.json").exists()
    done = run("forget_keys", "6", "server", service.url, "json", "keys", "keys/exp6")
    assert json.loads(done.out) == {"set": 6, "keys": "keys/exp6/server", "removed": False}
    assert done.code == ExitCode.OK


def test_keys_that_jobs_need_stay(run, service, left):
    done = run("forget_keys", "6", "server", service.url)
    assert (done.code, done.out, len(service.manifests)) == (ExitCode.SERVER, "", 1)
    assert done.err == f"{ERROR}the service refuses: 2 jobs need these keys\nhint: wait, or cancel them\n"


def test_where_there_is_no_service_none_is_said_to_have_forgotten(run, service, left):
    """Another web server knows no such page either."""
    path = service.requests.clear() or f"/v1/keys/{next(iter(service.manifests))}"
    service.instead[path] = (404, {}, b"<html>Not Found</html>")
    done = run("forget_keys", "6", "server", service.url)
    assert (done.code, done.out) == (ExitCode.SERVER, "") and "cannot be understood" in done.err


def test_keys_of_which_nothing_is_left_here(run, client, service):
    shutil.rmtree("keys/exp6/server")
    done = run("forget_keys", "6", "server", service.url)
    assert (done.code, service.requests) == (ExitCode.KEYS, [])
    assert done.err.startswith(f"{ERROR}there is no keys/exp6/server/manifest.json")


# --- a run that is stopped ------------------------------------------------------------------------------------


class Stopping:
    """A run in a thread of its own, which can be stopped."""

    def __init__(self, service: FakeService, ciphertext: Path) -> None:
        self.said = io.StringIO()
        asked = Evaluation(6, Path("keys/exp6"), (Job(ciphertext, Path("result.ct")),), None)
        self.running = Remote(access(Request("page", 6, server=service.url), Printer(None, self.said)), asked)
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.running.converse(SilentProgress())
            except BaseException as error:  # noqa: BLE001 - told by the test
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def stopped(self) -> BaseException | None:
        self.running.kill()
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.error


@pytest.fixture
def ciphertext(client, tmp_path) -> Path:
    import fakes

    path = tmp_path / "picture.ct"
    fakes.write_ciphertext(path, "picture", "", b"picture")
    return path


def test_a_run_that_is_stopped_is_cancelled_at_the_service(service, ciphertext):
    service.held.clear()
    run = Stopping(service, ciphertext)
    until(lambda: [request for request in service.requests if request.endswith("/events")])
    assert isinstance(run.stopped(), Stopped)
    service.held.set()
    assert service.requests[-1] == f"DELETE /v1/jobs/{next(iter(service.jobs))}"
    assert run.said.getvalue() == ""


def test_a_run_that_waits_for_a_place_is_stopped(service, ciphertext):
    service.most_waiting = 0
    run = Stopping(service, ciphertext)
    until(lambda: [request for request in service.requests if request.startswith("POST")])
    assert isinstance(run.stopped(), Stopped) and service.jobs == {}


def test_a_run_whose_service_has_gone_is_stopped(service, ciphertext, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", Patience(600, 60, 60))
    service.held.clear()
    run = Stopping(service, ciphertext)
    until(lambda: [request for request in service.requests if request.endswith("/events")])
    service.held.set()
    service.stop()
    assert isinstance(run.stopped(), Stopped)
    [job] = service.jobs
    assert run.said.getvalue().startswith("not cancelled, no service answers at ")
    assert run.said.getvalue().endswith(f"later: lowmem-resnet20 cancel {job} server {service.url}\n")


def test_a_run_that_is_stopped_while_keys_are_sent(service, ciphertext):
    sent = threading.Event()

    def hold(number: int, request: str) -> None:
        if request.startswith("PATCH"):
            sent.set()
            time.sleep(0.05)

    service.fault = hold
    run = Stopping(service, ciphertext)
    assert sent.wait(60)
    assert isinstance(run.stopped(), Stopped)
    assert service.jobs == {} and not service.complete(next(iter(service.manifests)))


def test_a_run_that_is_stopped_before_the_answer_begins(service, ciphertext, monkeypatch):
    """It would have nothing to cut off yet, and wait for events without end."""
    service.held.clear()
    response = connection.Connection._response

    def late(self, method, path, content, headers):
        if path.endswith("/events"):
            self.stop()
        return response(self, method, path, content, headers)

    monkeypatch.setattr(connection.Connection, "_response", late)
    run = Stopping(service, ciphertext)
    run.thread.join(60)
    assert isinstance(run.error, Stopped)
    service.held.set()


def test_a_run_that_is_stopped_before_it_is_heard(client, service, ciphertext):
    running = Remote(Access(service.url, None, print), Evaluation(6, Path("keys/exp6"), (Job(ciphertext, ciphertext),)))
    running.kill()
    with pytest.raises(Stopped):
        running.converse(SilentProgress())
    assert service.requests == []
