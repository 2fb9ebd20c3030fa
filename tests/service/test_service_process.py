"""The service as a process with real keys of the miniature: round trips, and what becomes of jobs when it is killed."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

import parties
from lowmem_resnet20.network.forward import forward
from miniature import random_picture
from processes import ends, is_running, until
from serving import SET, Process, upload_folder, wait_for, weights

#: On a machine that does much else, or compiles the kernels first.
PATIENCE = 400.0


class Owner:
    """A client with keys of its own: encrypts numbered pictures, and compares what comes back."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.keys, self.seed = folder, folder / "exp6", seed
        self.logits: dict[int, np.ndarray] = {}
        parties.generate_keys(SET, self.keys)

    def encrypt(self, number: int) -> bytes:
        picture, path = (
            random_picture(SET.architecture, np.random.default_rng([self.seed, number])),
            self.folder / "p.ct",
        )
        self.logits[number] = forward(weights(), picture)["fc"]
        parties.encrypt_picture(self.keys, SET, picture, weights(), path, "p")
        return path.read_bytes()

    def nearest(self, result: bytes) -> tuple[int, float]:
        """The number of the picture whose logits in the clear are most like those decrypted, and how far off at
        worst."""
        path = self.folder / "r.ct"
        path.write_bytes(result)
        found = parties.decrypt_logits(self.keys, SET, path, weights())
        differences = {number: float(np.abs(found - logits).max()) for number, logits in self.logits.items()}
        return min(differences.items(), key=lambda item: item[1])


@pytest.fixture(scope="module")
def owner(tmp_path_factory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner"), 1)


def post(client: httpx.Client, name: str, content: bytes) -> str:
    answer = client.post("/v1/jobs", params={"keys": name}, content=content)
    answer.raise_for_status()
    return answer.json()["job"]


def steps_of_last_run(client: httpx.Client, job: str) -> list[str]:
    """The stages that the present run goes through, as its events say, until the job is over."""
    stages: list[str] = []
    with client.stream("GET", f"/v1/jobs/{job}/events", timeout=PATIENCE) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ["):
                event = json.loads(line[6:])
                stages = [] if event[0] == "start" else stages
                stages += [event[1]] if event[0] == "step" else []
    return stages


def test_a_service_killed_in_the_middle_goes_on_at_the_last_complete_part(owner, tmp_path):
    store = tmp_path / "store"
    with Process(store) as process, process.client() as client:
        name = upload_folder(client, owner.keys / "server")
        job = post(client, name, owner.encrypt(0))
        kept = store / "jobs" / job / "result.ct.unfinished" / "manifest.json"
        until(kept.exists, PATIENCE)
        [worker] = process.workers()
        process.end(signal.SIGKILL)
        part = json.loads(kept.read_text())["part"]
        ends(worker)
    with Process(store) as process, process.client() as client:
        stages = steps_of_last_run(client, job)
        assert part and "keys" in stages and "input" not in stages and "head" in stages
        found = wait_for(client, job)
        assert found["state"] == "done" and found["peak_bytes"] > 1 << 26
        assert (
            client.put(f"/v1/keys/{name}", content=(owner.keys / "server" / "manifest.json").read_bytes()).status_code
            == 200
        )
        number, difference = owner.nearest(client.get(f"/v1/jobs/{job}/result").content)
        assert (number, difference < 0.05) == (0, True), difference


def test_an_evaluation_is_cancelled_and_ended(owner, tmp_path):
    """A running job is cancelled; then the service is ended, politely, in the next, whose stream ends with it."""
    store = tmp_path / "store"
    with Process(store) as process, process.client() as client:
        name = upload_folder(client, owner.keys / "server")
        job = post(client, name, owner.encrypt(1))
        wait_for(client, job, "running", seconds=PATIENCE)
        until(process.workers)
        [worker] = process.workers()
        assert client.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"
        until(lambda: not is_running(worker) and not (store / "jobs" / job).exists())
        job = post(client, name, owner.encrypt(2))
        with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
            lines = answer.iter_lines()
            while "progress" not in next(lines):
                pass
            assert process.end(signal.SIGINT) == 130
            list(lines)  # it ends, and is not broken off
    assert not [path for path in (store / "jobs").iterdir() if path.name != job]
    log = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert [line["event"] for line in log][-1] == "service.stopping"
    assert not [line for line in log if line["event"] in ("run.ended", "fault")]
    assert (store / "jobs" / job / "picture.ct").exists()


class Client(threading.Thread):
    """Uploads keys, posts ciphertexts, and fetches the results, over whatever connection there is."""

    def __init__(self, url: str, token: str, keys: Path, contents: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.url, self.token, self.keys, self.contents = url, token, keys, contents
        self.acknowledged: list[str] = []
        self.results: list[bytes] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            name = self.again(lambda client: upload_folder(client, self.keys / "server"))
            for content in self.contents:
                self.acknowledged.append(self.again(lambda client: post(client, name, content)))  # noqa: B023
            for job in self.acknowledged:
                self.results.append(self.again(lambda client: self.result(client, job)))  # noqa: B023
        except BaseException as failure:  # noqa: BLE001 - told by the test
            self.failure = failure

    def again(self, ask):
        """Until there is an answer."""
        deadline = time.monotonic() + 10 * PATIENCE
        while True:
            try:
                headers = {"Authorization": f"Bearer {self.token}"}
                with httpx.Client(base_url=self.url, headers=headers, timeout=600) as client:
                    return ask(client)
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def result(self, client: httpx.Client, job: str) -> bytes:
        while client.get(f"/v1/jobs/{job}").raise_for_status().json()["state"] in ("waiting", "running"):
            time.sleep(0.2)
        return client.get(f"/v1/jobs/{job}/result").raise_for_status().content


def test_many_jobs_of_many_clients_and_a_service_that_is_killed(tmp_path, pytestconfig):
    """None is lost, none swapped.  With --full a hundred jobs of eight clients, and three kills."""
    full = pytestconfig.getoption("--full")
    jobs, clients, kills = (100, 8, 3) if full else (6, 3, 1)
    owners = [
        Owner(folder, seed) for seed in range(4 if full else 2) if (folder := tmp_path / f"owner{seed}").mkdir() is None
    ]
    numbers = [list(range(i, jobs, clients)) for i in range(clients)]
    contents = [[owners[i % len(owners)].encrypt(number) for number in numbers[i]] for i in range(clients)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store, started = tmp_path / "store", time.monotonic()
    process = Process(store, port=port, together=16)
    threads = [
        Client(process.told["url"], process.token, owners[i % len(owners)].keys, contents[i]) for i in range(clients)
    ]
    random, killed = np.random.default_rng(3), []
    try:
        for thread in threads:
            thread.start()
        for kill in range(kills):
            while sum(len(thread.results) for thread in threads) < jobs * kill // kills or not process.workers():
                assert time.monotonic() - started < 10 * PATIENCE and process.process.poll() is None
                time.sleep(0.05)
            time.sleep(random.uniform(0.5, 4))
            process.end(signal.SIGKILL)
            killed.append(sum(len(thread.results) for thread in threads))
            process = Process(store, port=port)
        for thread in threads:
            thread.join(10 * PATIENCE)
        with process.client() as client:
            states = [job["state"] for job in client.get("/v1/jobs").json()["jobs"]]
    finally:
        process.__exit__()
    assert [thread.failure for thread in threads] == [None] * clients
    assert states == ["done"] * jobs
    assert not [line for line in process.log.read_text().splitlines() if '"event": "fault"' in line]
    worst = 0.0
    for i, thread in enumerate(threads):
        nearest = [owners[i % len(owners)].nearest(result) for result in thread.results]
        assert [number for number, _ in nearest] == numbers[i]
        worst = max(worst, *(difference for _, difference in nearest))
    seconds = time.monotonic() - started
    print(f"{jobs} jobs, {clients} clients, killed after {killed} results: {seconds:.0f} s, worst {worst:.4f}")
    assert worst < 0.05
