"""Jobs: what is taken, in which order they are evaluated, and what becomes of them when something ends."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError
from lowmem_resnet20.files.resume import unfinished_folder
from lowmem_resnet20.machine.locks import FolderLock
from lowmem_resnet20.service import runner
from lowmem_resnet20.service.clients import FIRST
from lowmem_resnet20.service.store import remove
from processes import until
from serving import FakeWorker, Served, ciphertext, key_files


def states(served: Served) -> list[str]:
    return [job["state"] for job in served.client.get("/v1/jobs").json()["jobs"]]


def batches() -> list[int]:
    """How many jobs each process was given."""
    return [len(request.jobs) for request in FakeWorker.asked]


def test_a_job_from_ciphertext_to_result(served, tmp_path):
    name = served.upload()
    job = served.post(name, ciphertext(tmp_path))
    assert job["job"].startswith("6-") and len(job["job"]) == 26 and job["state"] == "waiting" and job["position"] == 1
    done = served.wait(job["job"])
    assert (done["state"], done["set"], done["keys"], done["error"]) == ("done", 6, name, None)
    assert (done["seconds"], done["peak_bytes"], done["position"]) == (1.5, 1 << 30, None)
    assert done["created"] <= done["finished"] and done["finished"].endswith("Z")
    result = served.client.get(f"/v1/jobs/{job['job']}/result")
    assert result.headers["Content-Type"] == "application/octet-stream"
    assert result.content.endswith(b"logits of a picture")
    until(lambda: not served.service.store.picture(job["job"]).exists())  # of no use any more
    [request] = FakeWorker.asked
    assert request.resume and not request.anyway and request.set_number == 6
    assert request.folder == served.service.store.keys / FIRST / name


def test_the_same_ciphertext_again_is_the_same_job(served, tmp_path):
    FakeWorker.held.clear()
    name, content = served.upload(), ciphertext(tmp_path)
    job = served.post(name, content)["job"]
    assert served.post(name, content, 200)["job"] == job
    FakeWorker.held.set()
    served.wait(job)
    again = served.post(name, content, 200)
    assert (again["job"], again["state"]) == (job, "done")
    assert batches() == [1]
    other = served.upload(key_files(seed=1))  # the same under other keys is another
    assert served.post(other, content)["job"] != job
    assert not list(served.service.store.incoming.iterdir())


WRONG = {
    "set": {"set": "5"},
    "other keys": {"keys": "f" * 16},
    "weights": {"weights": "0" * 16},
    "computes otherwise": {"computation": "0" * 16},
    "holds encrypted logits": {"kind": "logits"},
    "holds a state": {"kind": "state"},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_does_not_belong_here_is_refused_with_a_hint(served, tmp_path, said):
    answer = served.post(served.upload(), ciphertext(tmp_path, **WRONG[said]), 422)
    assert said in answer["error"] and "the ciphertext" in answer["error"]
    assert str(tmp_path) not in str(answer)
    assert answer["hint"] or "kind" in WRONG[said]
    assert states(served) == [] and not list(served.service.store.incoming.iterdir())


def test_what_is_no_ciphertext_is_refused(served, tmp_path):
    name, content = served.upload(), ciphertext(tmp_path)
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    for wrong in (b"", b"x", content[:-1], content + b"x", damaged, content.replace(b"{", b"[", 1), b"\0" * 100_000):
        answer = served.post(name, wrong, 422)
        assert "the ciphertext" in answer["error"]
    assert states(served) == []


def test_a_ciphertext_is_bounded_by_the_set(served, tmp_path):
    name, most = served.upload(), served.service.ciphertext_bytes
    served.post(name, b"x" * (most + 1), 413)
    endless = (b"x" * 65536 for _ in range(1000))
    assert served.client.post("/v1/jobs", params={"keys": name}, content=endless).status_code == 413
    served.post(name, ciphertext(tmp_path, b"x" * (most - 4096)))  # a large one is taken
    assert not list(served.service.store.incoming.iterdir())


def test_keys_must_be_there(served, tmp_path):
    content = ciphertext(tmp_path)
    served.post("0" * 64, content, 404)
    for wrong in ("", "0", "../token", "0" * 63 + "x"):
        served.post(wrong, content, 400)
    assert served.client.post("/v1/jobs", content=content).status_code == 400


def test_jobs_of_the_same_keys_are_evaluated_together(serve, tmp_path):
    """The oldest job says whose turn it is; others of its keys join, up to a number; the rest wait in order."""
    with serve(together=3) as served:
        FakeWorker.held.clear()
        mine, yours = served.upload(), served.upload(key_files(seed=1))
        first = served.post(mine, ciphertext(tmp_path, b"0"))["job"]
        served.wait(first, "running")
        order = [mine, yours, mine, mine, mine, yours]
        jobs = [served.post(keys, ciphertext(tmp_path, b"%d" % i))["job"] for i, keys in enumerate(order, 1)]
        assert [served.job(job)["position"] for job in jobs] == [1, 2, 3, 4, 5, 6]
        FakeWorker.held.set()
        for i, job in enumerate(jobs, 1):
            assert served.wait(job)["state"] == "done"
            assert served.client.get(f"/v1/jobs/{job}/result").content.endswith(b"logits of %d" % i)
    assert batches() == [1, 3, 2, 1]
    assert [request.folder.name for request in FakeWorker.asked] == [mine, mine, yours, mine]


def test_a_picture_that_fails_is_its_own_failure(served, tmp_path):
    FakeWorker.failing = (b"bad",)
    FakeWorker.held.clear()
    name = served.upload()
    served.wait(served.post(name, ciphertext(tmp_path, b"first"))["job"], "running")
    good, bad = (served.post(name, ciphertext(tmp_path, text))["job"] for text in (b"good", b"bad"))
    FakeWorker.held.set()
    assert served.wait(good)["state"] == "done"
    failed = served.wait(bad)
    assert failed["state"] == "failed"
    assert failed["error"] == {"message": "the ciphertext is bad", "hint": "make it again", "exit_code": 6}
    assert served.client.get(f"/v1/jobs/{bad}/result").status_code == 410


def test_what_a_former_version_left_unfinished_is_begun_again_once(served, tmp_path):
    FakeWorker.failing = (b"bad",)
    FakeWorker.held.clear()
    job = served.post(served.upload(), ciphertext(tmp_path, b"bad"))["job"]
    left = served.service.store.unfinished(job)
    left.mkdir()
    FakeWorker.held.set()
    assert served.wait(job)["state"] == "failed"
    assert batches() == [1, 1] and not left.exists()


@pytest.mark.parametrize(("short_runs", "state"), [(1, "done"), (2, "failed")])
def test_a_picture_for_which_the_machine_lacked_something_is_tried_again_once(
    served, tmp_path, monkeypatch, short_runs, state
):
    """Room on the disk, say: its companions are done meanwhile."""
    monkeypatch.setattr(runner, "_SHORTAGE_SECONDS", 0.01)

    def start(*arguments):
        FakeWorker.failing = (b"short",) if 1 <= len(FakeWorker.asked) <= short_runs else ()
        return FakeWorker(*arguments)

    monkeypatch.setattr(served.service.runner, "_start", start)
    FakeWorker.code = 7
    FakeWorker.held.clear()
    name = served.upload()
    served.wait(served.post(name, ciphertext(tmp_path, b"first"))["job"], "running")
    short, good = (served.post(name, ciphertext(tmp_path, text))["job"] for text in (b"short", b"good"))
    FakeWorker.held.set()
    assert (served.wait(good)["state"], served.wait(short)["state"]) == ("done", state)
    assert batches() == [1, 2, 1]


def test_a_process_that_dies_is_tried_again_with_each_alone(served, tmp_path, monkeypatch):
    """Of the three that were in it, the one that it dies of fails, and only that."""
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    FakeWorker.dying = (b"poison",)
    FakeWorker.held.clear()
    name = served.upload()
    served.wait(served.post(name, ciphertext(tmp_path, b"first"))["job"], "running")
    jobs = [served.post(name, ciphertext(tmp_path, text))["job"] for text in (b"one", b"poison", b"two")]
    FakeWorker.held.set()
    assert [served.wait(job)["state"] for job in jobs] == ["done", "failed", "done"]
    assert served.job(jobs[1])["error"]["message"] == "the server was killed by SIGSEGV"
    assert served.job(jobs[1])["error"]["exit_code"] == 8
    assert batches() == [1, 3, 1, 1, 1, 1]  # together; then one, poison, poison again, two


@pytest.mark.parametrize(
    ("error", "tries"), [(KeyFolderError("bad keys", "new ones"), 1), (EnvironmentFault("no memory", "get some"), 2)]
)
def test_a_process_that_cannot_evaluate_at_all_says_why(served, tmp_path, monkeypatch, error, tries):
    """Keys that are bad stay bad; what the machine lacks may be there later."""
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "_SHORTAGE_SECONDS", 0.01)
    FakeWorker.whole = error
    found = served.wait(served.post(served.upload(), ciphertext(tmp_path))["job"])
    assert found["error"] == {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
    assert batches() == [1] * tries


def broken(*_):
    """In place of what starts a worker."""
    raise EnvironmentFault("cannot start the server's process: Resource temporarily unavailable")


def test_a_worker_that_cannot_be_started_fails_the_job_and_not_the_service(served, tmp_path, monkeypatch):
    """It is what the machine lacks: there is a pause before it is tried again."""
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "_SHORTAGE_SECONDS", 0.01)
    monkeypatch.setattr(served.service.runner, "_start", broken)
    name = served.upload()
    failed = served.wait(served.post(name, ciphertext(tmp_path, b"1"))["job"])
    assert (failed["state"], failed["error"]["exit_code"]) == ("failed", 7)
    assert failed["error"]["message"] == "cannot start the server's process: Resource temporarily unavailable"
    monkeypatch.setattr(served.service.runner, "_start", FakeWorker)
    assert served.wait(served.post(name, ciphertext(tmp_path, b"2"))["job"])["state"] == "done"


def test_a_fault_of_the_runner_itself_does_not_lose_the_job(served, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSE_SECONDS", 0.01)
    answered, faults = served.service.runner._answered, iter([RuntimeError("a fault")])

    def faulty(*arguments):
        for fault in faults:
            raise fault
        answered(*arguments)

    monkeypatch.setattr(served.service.runner, "_answered", faulty)
    assert served.wait(served.post(served.upload(), ciphertext(tmp_path))["job"])["state"] == "done"
    assert [line["error"] for line in served.log() if line["event"] == "runner.failed"] == ["RuntimeError: a fault"]


@pytest.mark.parametrize("error", [KeyFolderError("of another version"), EnvironmentFault("cannot read them")])
def test_keys_that_cannot_be_read_hold_up_no_other_job(served, tmp_path, monkeypatch, error):
    """As after an upgrade, with jobs that wait: the process that evaluates says what is wrong."""

    def unreadable(name):
        raise error

    monkeypatch.setattr(runner, "_PAUSE_SECONDS", 0.01)
    FakeWorker.held.clear()
    name = served.upload()
    served.wait(served.post(name, ciphertext(tmp_path, b"first"))["job"], "running")
    job = served.post(name, ciphertext(tmp_path, b"next"))["job"]
    monkeypatch.setattr(served.service.folders, "manifest", unreadable)
    FakeWorker.held.set()
    assert served.wait(job)["state"] == "done"  # the stand-in of a process reads no keys
    assert not [line for line in served.log() if line["event"] == "runner.failed"]


def test_a_waiting_job_is_cancelled(served, tmp_path):
    FakeWorker.held.clear()
    name = served.upload()
    running = served.post(name, ciphertext(tmp_path, b"running"))["job"]
    served.wait(running, "running")
    waiting = served.post(name, ciphertext(tmp_path, b"waiting"))["job"]
    answer = served.client.get(f"/v1/jobs/{waiting}/result")
    assert answer.status_code == 409 and "waiting" in answer.json()["error"]
    assert served.client.delete(f"/v1/jobs/{waiting}").json()["state"] == "cancelled"
    assert not (served.service.store.jobs / waiting).exists()
    assert served.client.get(f"/v1/jobs/{waiting}/result").status_code == 410
    assert served.client.delete(f"/v1/jobs/{waiting}").status_code == 200
    FakeWorker.held.set()
    assert served.wait(running)["state"] == "done" and batches() == [1]


def test_a_running_job_is_cancelled_and_the_others_go_on(served, tmp_path, monkeypatch):
    """Its process is killed; those that were in it are evaluated together again, and not held to have caused its
    end."""
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    FakeWorker.held.clear()
    name = served.upload()
    served.wait(served.post(name, ciphertext(tmp_path, b"first"))["job"], "running")
    jobs = [served.post(name, ciphertext(tmp_path, b"%d" % i))["job"] for i in range(3)]
    served.client.delete(f"/v1/jobs/{served.client.get('/v1/jobs').json()['jobs'][0]['job']}")
    served.wait(jobs[0], "running")
    assert served.client.delete(f"/v1/jobs/{jobs[1]}").json()["state"] == "cancelled"
    until(lambda: len(FakeWorker.asked) >= 3)
    FakeWorker.held.set()
    assert [served.wait(job)["state"] for job in jobs] == ["done", "cancelled", "done"]
    assert batches() == [1, 3, 2]
    assert not (served.service.store.jobs / jobs[1]).exists()
    assert served.service.metrics.deaths._value.get() == 0


def test_a_process_that_cannot_start_after_one_was_killed_counts(served, tmp_path, monkeypatch):
    """What was killed for the sake of a cancelled job excuses no later process."""
    monkeypatch.setattr(runner, "_SIGNAL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "_SHORTAGE_SECONDS", 0.01)
    FakeWorker.held.clear()
    name = served.upload()
    first = served.post(name, ciphertext(tmp_path, b"first"))["job"]
    served.wait(first, "running")
    until(lambda: FakeWorker.asked)
    monkeypatch.setattr(served.service.runner, "_start", broken)
    job = served.post(name, ciphertext(tmp_path, b"next"))["job"]
    served.client.delete(f"/v1/jobs/{first}")
    assert served.wait(job)["state"] == "failed"
    assert served.service.metrics.deaths._value.get() == 2


def test_a_job_that_is_cancelled_while_there_is_no_room_for_it_leaves_nothing(served, tmp_path, monkeypatch):
    """Between the moment it is taken and the one in which it is put back."""
    FakeWorker.held.clear()
    name = served.upload()
    served.post(name, ciphertext(tmp_path, b"first"))
    until(lambda: FakeWorker.asked)
    job, other = (served.post(name, ciphertext(tmp_path, text))["job"] for text in (b"1", b"2"))

    def room(set_):
        served.service.cancel(served.service.queue.get(other))
        return 1

    monkeypatch.setattr(served.service.runner, "_room", room)
    FakeWorker.held.set()
    assert served.wait(job)["state"] == "done" and served.job(other)["state"] == "cancelled"
    until(lambda: not (served.service.store.jobs / other).exists())


@pytest.mark.parametrize("end", ["done", "failed"])
def test_a_job_that_is_sent_again_as_it_ends_keeps_its_picture(served, tmp_path, monkeypatch, end):
    """Who deletes it between its end and the removal of its files, and sends the same again, has a new picture."""
    FakeWorker.failing = (b"a picture",) if end == "failed" else ()
    name, content, threads = served.upload(), ciphertext(tmp_path), []

    def send_again() -> None:
        job = served.client.get("/v1/jobs").json()["jobs"][0]["job"]
        served.client.delete(f"/v1/jobs/{job}")
        served.post(name, content)

    def removing(path):
        if not threads:
            FakeWorker.failing = ()
            threads.append(threading.Thread(target=send_again))
            threads[0].start()
            threads[0].join(1)
        remove(path)

    monkeypatch.setattr(runner, "remove", removing)
    job = served.post(name, content)["job"]
    until(lambda: len(FakeWorker.asked) == 2)
    threads[0].join(300)
    assert served.wait(job)["state"] == "done"


def test_a_result_is_deleted_when_it_has_been_fetched(served, tmp_path):
    name, content = served.upload(), ciphertext(tmp_path)
    job = served.post(name, content)["job"]
    served.wait(job)
    assert served.client.delete(f"/v1/jobs/{job}").status_code == 200
    assert not (served.service.store.jobs / job).exists()
    assert served.client.get(f"/v1/jobs/{job}/result").status_code == 410
    assert served.post(name, content)["job"] == job  # what was cancelled may be asked for again
    assert served.wait(job)["state"] == "done"


def test_unknown_jobs(served):
    for path in ("/v1/jobs/6-" + "0" * 24, "/v1/jobs/x", "/v1/jobs/%00", "/v1/jobs/' OR 1=1 --"):
        assert served.client.get(path).status_code == 404
        assert served.client.delete(path).status_code == 404
        assert served.client.get(f"{path}/result").status_code == 404
        assert served.client.get(f"{path}/events").status_code == 404


def test_as_many_waiting_jobs_as_the_quota_says(serve, tmp_path):
    with serve(waiting_jobs=2) as served:
        FakeWorker.held.clear()
        name = served.upload()
        running = served.post(name, ciphertext(tmp_path, b"running"))["job"]
        served.wait(running, "running")
        served.post(name, ciphertext(tmp_path, b"1"))
        last = served.post(name, ciphertext(tmp_path, b"2"))["job"]
        answer = served.client.post("/v1/jobs", params={"keys": name}, content=ciphertext(tmp_path, b"3"))
        assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0 and answer.json()["hint"]
        FakeWorker.held.set()
        served.wait(last)
        served.post(name, ciphertext(tmp_path, b"3"))


def test_a_job_for_which_the_disk_has_no_room_is_refused(served, tmp_path, monkeypatch):
    name, usage = served.upload(), shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=served.service.limits.free_bytes))
    answer = served.post(name, ciphertext(tmp_path), 507)
    assert "disk" in answer["error"] and answer["hint"]


def test_a_disk_that_fills_on_the_way_is_told(served, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    name = served.upload()
    monkeypatch.setattr(served.service.store, "take_in", full)
    answer = served.post(name, ciphertext(tmp_path), 507)
    assert "disk is full" in answer["error"]
    assert states(served) == [] and not list(served.service.store.incoming.iterdir())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), OSError(24, "too many")])
def test_what_the_machine_lacks_may_be_there_later(served, tmp_path, monkeypatch, error):
    """It is no fault of what was sent, nor of the program."""

    def fails(*_):
        raise error

    name = served.upload()
    monkeypatch.setattr(served.service.store, "take_in", fails)
    answer = served.client.post("/v1/jobs", params={"keys": name}, content=ciphertext(tmp_path))
    assert answer.status_code == 503 and answer.headers["Retry-After"] and "machine" in answer.json()["error"]


def test_a_service_that_is_started_again_goes_on_with_its_jobs(serve, tmp_path):
    """What ran is the first again; what was done is still there; what was never acknowledged is gone."""
    with serve() as served:
        name = served.upload()
        done = served.post(name, ciphertext(tmp_path, b"done"))["job"]
        served.wait(done)
        FakeWorker.held.clear()
        jobs = [served.post(name, ciphertext(tmp_path, b"running"))["job"]]
        served.wait(jobs[0], "running")
        jobs += [served.post(name, ciphertext(tmp_path, text))["job"] for text in (b"1", b"2")]
        store = served.service.store
        served.service.stop()
        FakeWorker.held.clear()
        assert states(served) == ["done", "running", "waiting", "waiting"]
    (store.jobs / ("6-" + "0" * 24)).mkdir()
    (store.jobs / done / "picture.ct").write_bytes(b"left behind")
    FakeWorker.reset()
    with serve() as served:
        assert [served.wait(job)["state"] for job in jobs] == ["done"] * 3
        assert served.client.get(f"/v1/jobs/{done}/result").content.endswith(b"logits of done")
        assert batches() == [3] and [job.output.parent.name for job in FakeWorker.asked[0].jobs] == jobs
        assert {path.name for path in store.jobs.iterdir()} == {done, *jobs}
        assert not (store.jobs / done / "picture.ct").exists()
        [started] = [line for line in served.log() if line["event"] == "service.started"]
        assert started["jobs_taken_up"] == 1


def test_a_worker_that_still_dies_is_waited_for(served, tmp_path):
    """Of a service that was killed, whose process may hold what it worked on for a moment more."""
    FakeWorker.held.clear()
    name = served.upload()
    served.wait(served.post(name, ciphertext(tmp_path, b"first"))["job"], "running")
    job = served.post(name, ciphertext(tmp_path, b"next"))["job"]
    lock = FolderLock(unfinished_folder(served.service.store.result(job)))
    assert lock.take()
    FakeWorker.held.set()
    time.sleep(0.3)
    assert batches() == [1]
    lock.release()
    assert served.wait(job)["state"] == "done"


def test_jobs_that_are_over_are_forgotten_after_a_time(served, tmp_path):
    name = served.upload()
    job = served.post(name, ciphertext(tmp_path))["job"]
    served.wait(job)
    waiting = served.post(name, ciphertext(tmp_path, b"another"))["job"] if FakeWorker.held.clear() is None else ""
    served.service.queue.forget([job, waiting])
    assert served.client.get(f"/v1/jobs/{job}").status_code == 404
    assert served.job(waiting)["state"] in ("waiting", "running")
