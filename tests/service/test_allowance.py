"""Pictures a day: counted by client, over a day in which the service runs, whatever the machine's clock is set to."""

from __future__ import annotations

import json
import time

import pytest

from lowmem_resnet20.service.allowance import Allowance
from lowmem_resnet20.service.clients import Client
from lowmem_resnet20.service.jobs import Queue
from lowmem_resnet20.service.refusals import Refused
from serving import NUMBER, Served, ciphertext

DAY = 86400
BEN = Client("ben", b"", 10)


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "jobs.sqlite", NUMBER)
    yield queue
    queue.close()


def send(queue: Queue, allowance: Allowance, pictures: int = 1, client: Client = BEN) -> None:
    allowance.check(client, pictures)
    number = len(queue.all())
    queue.add(f"6-{number:024}", f"{client.name}/k", pictures, allowance.now())


def refused(allowance: Allowance, pictures: int = 1, client: Client = BEN) -> Refused:
    with pytest.raises(Refused) as raised:
        allowance.check(client, pictures)
    return raised.value


def test_a_day_goes_by(queue, clock):
    """What was sent counts until a day is over, and each picture by itself."""
    allowance = Allowance(queue, clock)
    for _ in range(10):
        send(queue, allowance)
        clock.seconds += 3600
    found = refused(allowance)
    assert (found.status, found.headers) == (429, {"Retry-After": str(14 * 3600)})
    assert found.message == "ben may send 10 pictures a day; more can be sent in 14 h 0 min"
    assert refused(allowance, 3).headers == {"Retry-After": str(16 * 3600)}  # for three, three hours' must be over
    clock.seconds += 14 * 3600 - 0.5
    assert refused(allowance).headers == {"Retry-After": "1"}
    clock.seconds += 0.5
    send(queue, allowance)
    assert refused(allowance).headers == {"Retry-After": "3600"}


def test_a_group_counts_its_places(queue, clock):
    allowance = Allowance(queue, clock)
    send(queue, allowance, 8)
    assert refused(allowance, 8).status == 429
    send(queue, allowance, 2)
    never = refused(allowance, 16)
    assert never.status == 403 and "Retry-After" not in never.headers
    assert never.message == "ben may send 10 pictures a day, and a job of this parameter set is 16"


def test_clients_are_counted_apart_and_some_not_at_all(queue, clock):
    allowance = Allowance(queue, clock)
    send(queue, allowance, 10)
    for client in (Client("ben2", b"", 10), Client("be", b"", 10), Client("first", b"")):
        send(queue, allowance, 10, client)
    for _ in range(3):
        send(queue, allowance, 10, Client("first", b""))
    refused(allowance)


def test_what_was_sent_is_forgotten_after_a_day(queue, clock):
    allowance = Allowance(queue, clock)
    for _ in range(3):
        send(queue, allowance, 10, Client("first", b""))
        clock.seconds += DAY
    assert queue._database.execute("SELECT COUNT(*) FROM sent").fetchone() == (1,)


def test_a_clock_that_has_lost_its_time_costs_a_day_at_most(queue, clock):
    """As after a kill, which loses what was not saved, or of a file of ages that is damaged."""
    send(queue, Allowance(queue, clock), 10)
    clock.seconds = 0
    allowance = Allowance(queue, clock)
    assert refused(allowance).headers == {"Retry-After": str(DAY)}
    clock.seconds = DAY
    send(queue, allowance, 10)


# --- a service ----------------------------------------------------------------------------------------------


def post(served: Served, keys: str, content: bytes):
    return served.client.post("/v1/jobs", params={"keys": keys}, content=content)


def test_the_end_of_a_day_s_pictures(served, tmp_path):
    """What was sent already is told as before, also when the answer to it was lost."""
    contents = [ciphertext(tmp_path, b"%d" % i) for i in range(4)]
    with served.as_client("ben", 2) as ben:
        keys = ben.upload()
        jobs = [ben.post(keys, content)["job"] for content in contents[:2]]
        for content in contents[2:]:
            answer = post(ben, keys, content)
            assert answer.status_code == 429 and DAY - 600 < int(answer.headers["Retry-After"]) <= DAY
            assert answer.json()["error"].startswith("ben may send 2 pictures a day; more can be sent in 2")
        assert [ben.post(keys, content, 200)["job"] for content in contents[:2]] == jobs
        for job in jobs:
            assert ben.wait(job)["state"] == "done"
            assert ben.client.get(f"/v1/jobs/{job}/result").status_code == 200
        assert len(ben.client.get("/v1/jobs").json()["jobs"]) == 2
        assert not list(served.service.store.incoming.iterdir())
    served.post(served.upload(), contents[2])


def test_a_job_that_is_cancelled_has_been_sent(served, tmp_path):
    with served.as_client("ben", 1) as ben:
        keys, content = ben.upload(), ciphertext(tmp_path)
        ben.client.delete(f"/v1/jobs/{ben.post(keys, content)['job']}")
        assert post(ben, keys, content).status_code == 429


@pytest.mark.parametrize("lost", [True, False])
def test_a_restart_begins_no_new_day(serve, tmp_path, monkeypatch, lost):
    """Nor does a new token of the same client, a clock that is set, or the loss of the file of ages."""
    with serve() as served, served.as_client("ben", 1) as ben:
        keys = ben.upload()
        ben.post(keys, ciphertext(tmp_path))
    ages = tmp_path / "store" / "ages.json"
    assert json.loads(ages.read_bytes())["seconds"] > 0
    if lost:
        ages.unlink()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3 * DAY)
    with serve() as served:
        served.service.clients.remove("ben")
        with served.as_client("ben", 1) as ben:
            assert post(ben, keys, ciphertext(tmp_path, b"2")).status_code == 429
            clock = served.service.retention._monotonic
            monkeypatch.setattr(served.service.retention, "_monotonic", lambda: clock() + DAY)
            ben.post(keys, ciphertext(tmp_path, b"2"))
