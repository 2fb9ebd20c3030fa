"""What an operator sees: figures in the Prometheus format, and a log of one line an event."""

from __future__ import annotations

import io
import json
import logging
import warnings
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lowmem_resnet20.errors import UsageError
from lowmem_resnet20.service import log as log_module
from lowmem_resnet20.service import runner
from lowmem_resnet20.service.limits import Limits, read_limits
from lowmem_resnet20.service.log import EventLog, telling_of_libraries
from processes import until
from serving import FakeWorker, Served, ciphertext


def figures(served) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    answer = served.client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    return {
        (sample.name.removeprefix("lowmem_resnet20_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_figures(served, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    before = figures(served)
    assert before["jobs", "waiting"] == before["key_folders", "complete"] == before["jobs_accepted_total",] == 0
    FakeWorker.dying, FakeWorker.failing = (b"poison",), (b"bad",)
    name = served.upload()
    contents = {text: ciphertext(tmp_path, text) for text in (b"good", b"bad", b"poison")}
    for content in contents.values():
        served.wait(served.post(name, content)["job"])
    served.client.get("/nowhere")
    FakeWorker.held.clear()
    running = served.post(name, ciphertext(tmp_path, b"running"))["job"]
    served.wait(running, "running")
    served.post(name, ciphertext(tmp_path, b"waiting"))
    after = figures(served)
    assert after["jobs_accepted_total",] == 5
    assert (after["jobs_over_total", "done"], after["jobs_over_total", "failed"]) == (1, 2)
    assert (after["jobs", "running"], after["jobs", "waiting"]) == (1, 1)
    assert (after["key_folders", "complete"], after["key_folders", "uploading"]) == (1, 0)
    assert after["worker_deaths_total",] == 2
    assert after["run_seconds_count",] == 2 and after["run_seconds_sum",] == 3
    assert after["worker_peak_bytes",] == 1 << 30
    assert after["store_free_bytes",] > 0 and after["process_resident_memory_bytes",] > 1 << 20
    sent = sum(map(len, served.files.values())) + sum(map(len, contents.values()))
    assert after["received_bytes_total",] > sent
    assert after["requests_total", "keyfile", "PATCH", "204"] == len(served.files)
    assert after["requests_total", "jobs", "POST", "201"] == 5
    assert after["requests_total", "none", "GET", "404"] == 1
    served.client.delete(f"/v1/jobs/{running}")
    assert figures(served)["jobs_over_total", "cancelled"] == 1


def test_a_job_that_is_deleted_after_its_end_is_not_counted_again(served, tmp_path):
    job = served.post(served.upload(), ciphertext(tmp_path))["job"]
    served.wait(job)
    until(lambda: told_of(served, job)[-1] == "job.done")
    served.client.delete(f"/v1/jobs/{job}")
    found = figures(served)
    assert found["jobs_over_total", "done"] == 1 and ("jobs_over_total", "cancelled") not in found


def test_a_fault_of_the_program_is_counted_as_the_answer_that_it_gets(served, monkeypatch):
    def faulty(client):
        raise RuntimeError("a fault")

    monkeypatch.setattr(served.service.queue, "of", faulty)
    closing = {"Connection": "close"}  # as the server does after a fault
    assert served.client.get("/v1/jobs", headers=closing).status_code == 500
    assert figures(served)["requests_total", "jobs", "GET", "500"] == 1
    [request] = [line for line in served.log() if line["event"] == "request" and line["path"] == "/v1/jobs"]
    assert request["status"] == 500
    until(lambda: [line for line in served.log() if line["event"] == "uvicorn.error" and "RuntimeError" in str(line)])


def test_strange_methods_make_no_labels(served):
    """Otherwise anyone could make the registry grow without end."""
    for i in range(20):
        served.client.request(f"METHOD{i}", f"/nowhere/{i}")
    labels = {key for key in figures(served) if key[:2] == ("requests_total", "none")}
    assert labels == {("requests_total", "none", "other", "404")}


def told_of(served: Served, job: str) -> list[str]:
    """The events of a job, in order."""
    return [line["event"] for line in served.log() if line.get("job") == job or job in line.get("jobs", ())]


def test_a_line_an_event(served, tmp_path):
    FakeWorker.failing = (b"bad\nname",)
    name = served.upload()
    good = served.post(name, ciphertext(tmp_path, b"good"))["job"]
    until(lambda: "job.done" in told_of(served, good))
    bad = served.post(name, ciphertext(tmp_path, b"bad\nname"))["job"]
    until(lambda: "job.failed" in told_of(served, bad))
    served.post(name, ciphertext(tmp_path, b"good"), 200)
    served.client.delete(f"/v1/jobs/{good}")
    for _ in range(3):  # of which the first is told
        served.client.get("/v1/jobs/x", headers={"Authorization": "Bearer wrong"})
    lines = served.log()
    for line in lines:
        assert list(line)[:2] == ["time", "event"]
        datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
    begun = {"job.accepted", "run.started"}  # in whichever order
    for job, after in ((good, ["job.done", "job.repeated", "job.cancelled"]), (bad, ["job.failed"])):
        told = told_of(served, job)
        assert (set(told[:2]), told[2:]) == (begun, after)
    others = [line["event"] for line in lines if not {"job", "jobs"} & set(line)]
    others = [event for event in others if event not in ("request", "refused")]
    assert others == ["service.started", "keys.offered", "keys.complete", "unauthorised"]
    assert [line["exit_code"] for line in lines if line["event"] == "job.failed"] == [6]
    requests = [line for line in lines if line["event"] == "request"]
    assert {"method", "path", "status", "seconds"} <= set(requests[0])


@pytest.mark.parametrize(("verbose", "seen"), [(-1, ["c"]), (0, ["b", "c"]), (1, ["a", "b", "c"])])
def test_how_much_is_told(verbose, seen):
    stream = io.StringIO()
    log = EventLog(stream, verbose)
    log.detail("a")
    log.event("b")
    log.fault("c", text="two\nlines \x1b[31m", number=1)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == seen
    assert lines[-1]["text"] == "two\\nlines \\x1b[31m" and lines[-1]["number"] == 1


@pytest.mark.parametrize("library", ["test of libraries", "asyncio", "uvicorn.error", "uvicorn"])
def test_what_libraries_say_is_an_event_too(library):
    stream = io.StringIO()
    logger = logging.getLogger(library)
    logger.setLevel(logging.INFO)
    with telling_of_libraries(EventLog(stream)):
        logger.info("not this")
        logger.warning("too many connections")
        try:
            raise ValueError("a\nfault")
        except ValueError:
            logger.exception("an exception")
    logger.error("nor this, when it is over")
    warning, line = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (warning["event"], warning["level"]) == (library, "warning")
    assert line["message"] == "an exception" and "ValueError" in line["traceback"]


def test_warnings_of_python_are_events_too():
    stream = io.StringIO()
    with telling_of_libraries(EventLog(stream)):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert line["event"] == "py.warnings" and "DeprecationWarning: old" in line["message"]


def test_what_comes_again_is_counted(monkeypatch):
    """A line when it comes first, and one when the minute is over."""
    monkeypatch.setattr(log_module, "REPEAT_SECONDS", 0.5)
    stream = io.StringIO()
    log = EventLog(stream)
    with telling_of_libraries(log):
        for i in range(1000):
            logging.getLogger("asyncio").error("no more descriptors\nsocket: %d", i)
            log.often("unauthorised", address=f"192.0.2.{i % 2}")
    logging.getLogger("asyncio").error("this is not ours")
    until(lambda: len(stream.getvalue().splitlines()) >= 6)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = [(line["event"], line.get("address"), line.get("came_again")) for line in lines]
    clients = ("192.0.2.0", "192.0.2.1")
    assert sorted(found[:3]) == [("asyncio", None, None), *(("unauthorised", client, None) for client in clients)]
    assert sorted(found[3:]) == [("asyncio", None, 999), *(("unauthorised", client, 499) for client in clients)]


def test_counting_takes_no_more_memory_than_it_may():
    stream = io.StringIO()
    log = EventLog(stream)
    for i in range(5000):
        log.often("unauthorised", address=str(i))
    assert len(stream.getvalue().splitlines()) == len(log._repeated) == 1001
    log.tell_repeated()
    assert json.loads(stream.getvalue().splitlines()[-1])["came_again"] == 3999


def test_limits_of_an_operator(tmp_path):
    path = tmp_path / "limits.json"
    assert read_limits(path) == Limits()
    path.write_text('{"waiting_jobs": 5, "kept_days": 1}')
    assert read_limits(path) == Limits(waiting_jobs=5, kept_days=1)
    for wrong in (
        "",
        "[]",
        "{",
        '{"waiting": 5}',
        '{"together": 0}',
        '{"together": 1.5}',
        '{"together": true}',
        "[" * 9999,
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="limits") as raised:
            read_limits(path)
        assert "together" in raised.value.hint
