"""Runs of the miniature on a Ray cluster of two nodes of this machine, which keep keys in folders of their own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from lowmem_resnet20.errors import (
    CiphertextError,
    EnvironmentFault,
    ExitCode,
    KeyFolderError,
    LowmemError,
    ServerError,
    error_of,
)
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.progress.display import LineProgress
from lowmem_resnet20.server.request import Job
from processes import until
from raycluster import TESTS, WEIGHTS, Kept, cluster, keep, kill_one, pictures, processes, request, run

pytest.importorskip("ray")
COUNT, LOCAL = 8, 2
#: Seconds between two looks at all processes of the machine.
PAUSE = 0.1
CACHE = "lowmem-resnet20/cluster"
#: Has the nodes look for the keys where there are none: they share no folder with this machine.
NO_SHARED_FOLDER = """
from lowmem_resnet20.cluster.keys import Keys
Keys.shared = property(lambda self: "/nowhere")
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Kept:
    """Keys and pictures, and in local/ the results of the first LOCAL by a server process of this machine."""
    kept = keep(tmp_path_factory.mktemp("ray"), COUNT)
    (kept.folder / "local").mkdir()
    done = run(request(kept, kept.jobs(kept.folder / "local", range(LOCAL)), ""))
    assert not any("error" in picture for picture in done.pictures)
    return kept


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """The cluster, and the folder of each node's own.  None of its processes is left."""
    folder = tmp_path_factory.mktemp("nodes")
    with cluster(folder, 2) as made:
        yield made, folder
    until(lambda: not processes("ray::") | processes(str(Path(sys.executable).parent)), pause=PAUSE)


def sent(folder: Path) -> list[list[str]]:
    """The keys that each node was sent and keeps, by the digest of their manifest."""
    return [sorted(path.name for path in (folder / node / CACHE).glob("*")) for node in ("0", "1")]


def same_as_local(kept: Kept, path: Path, number: int) -> bool:
    return path.read_bytes() == (kept.folder / "local" / f"{number}.ct").read_bytes()


def test_all_are_answered_though_a_worker_dies(kept, nodes, tmp_path):
    """Two workers share the pictures; one is killed in the middle; one ciphertext is no picture's.  The nodes are sent
    the server's keys, once."""
    made, folder = nodes
    bad = kept.folder / "bad.ct"
    bad.write_bytes((kept.folder / "0.ct").read_bytes()[:-1])
    jobs = kept.jobs(tmp_path, range(COUNT))
    jobs = (*jobs[:3], Job(bad, tmp_path / "bad.ct"), *jobs[3:])
    seen, killed, shown = set(), [], io.StringIO()

    def kill_when_both_evaluate() -> None:
        def both() -> bool:
            seen.update(processes("ray::Worker.evaluate"))
            return len(seen) == 2

        until(both, 600, PAUSE)
        killed.append(kill_one("ray::Worker.evaluate"))

    killer = threading.Thread(target=kill_when_both_evaluate, daemon=True)
    killer.start()
    done = run(request(kept, jobs, made.address), LineProgress(shown), NO_SHARED_FOLDER)
    killer.join()
    assert len(seen) >= 2 and len(killed) == 1
    assert [number for number, line in enumerate(done.pictures) if "error" in line] == [3]
    failed = done.pictures.pop(3)
    assert failed["error"] == f"{bad} is truncated or altered" and failed["exit_code"] == ExitCode.CIPHERTEXT
    assert all(line["seconds"] > 0 and line["peak_bytes"] > 1 << 26 for line in done.pictures)
    assert done.peak_bytes == max(line["peak_bytes"] for line in done.pictures)
    for number, pixels in enumerate(pictures(COUNT)):
        assert number >= LOCAL or same_as_local(kept, tmp_path / f"{number}.ct", number)
        logits = kept.logits(tmp_path / f"{number}.ct", number)
        assert np.abs(logits - forward(WEIGHTS, pixels)["fc"]).max() < 0.1
    assert not list(tmp_path.glob("*.unfinished")) and not (tmp_path / "bad.ct").exists()
    lines = shown.getvalue()
    assert "a worker on " in lines and " was lost, and " in lines
    assert "sending to 2 of 2 machines" in lines
    assert f"{COUNT} of {COUNT}" in lines and " left\n" in lines
    held = sent(folder)
    assert held[0] == held[1] and len(held[0]) == 1
    for node in ("0", "1"):
        copy = folder / node / CACHE / held[0][0]
        names = {path.name for path in copy.iterdir()}
        assert names == {path.name for path in (kept.keys / "server").iterdir()} and "secret.key" not in names


def test_keys_that_were_sent_stay(kept, nodes, tmp_path):
    """Those of the run before; a copy that was damaged meanwhile is sent again, alone."""
    made, folder = nodes
    if not all(sent(folder)):
        run(request(kept, kept.jobs(tmp_path, range(2)), made.address), None, NO_SHARED_FOLDER)
    [name] = sent(folder)[1]
    damaged = folder / "1" / CACHE / name / "chain.json"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b" ")
    shown = io.StringIO()
    run(request(kept, kept.jobs(tmp_path, range(2)), made.address), LineProgress(shown), NO_SHARED_FOLDER)
    assert "sending to 1 of 2 machines" in shown.getvalue()
    assert sent(folder) == [[name], [name]]
    assert same_as_local(kept, tmp_path / "1.ct", 1)


def test_results_that_are_there_are_left_alone(kept, nodes, tmp_path):
    """With resume; the others are evaluated."""
    made, _ = nodes
    jobs = kept.jobs(tmp_path, range(2))
    jobs[0].output.write_bytes((kept.folder / "local" / "0.ct").read_bytes())
    before = jobs[0].output.stat().st_mtime_ns
    done = run(request(kept, jobs, made.address, resume=True))
    assert [line["seconds"] > 0 for line in done.pictures] == [False, True]
    assert jobs[0].output.stat().st_mtime_ns == before and same_as_local(kept, jobs[1].output, 1)


def test_a_picture_that_its_workers_die_of_fails_alone(kept, nodes, tmp_path):
    """After three of them."""
    made, _ = nodes
    killed = []
    killer = threading.Thread(target=lambda: killed.extend(kill_one("ray::Worker.evaluate") for _ in range(3)))
    killer.start()
    done = run(request(kept, kept.jobs(tmp_path, [0]), made.address))
    killer.join()
    [line] = done.pictures
    assert len(set(killed)) == 3
    assert line["error"].startswith(f"3 workers died while they evaluated {kept.folder / '0.ct'}, the last on ")
    assert isinstance(error_of(line), ServerError)
    assert list(tmp_path.iterdir()) == []


def test_a_node_with_another_version_is_refused(kept, nodes, tmp_path):
    """Before any picture is sent."""
    made, _ = nodes
    other = tmp_path / "other" / "lowmem_resnet20"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "0.0.1"\n')
    odd = made.add_node(
        num_cpus=1,
        node_ip_address="127.0.0.9",
        env_vars={"PYTHONPATH": str(other.parent)},
        object_store_memory=80 << 20,
    )
    try:
        with pytest.raises(
            EnvironmentFault, match=r"another lowmem-resnet20 than this machine: version 0\.0\.1 \("
        ) as e:
            run(request(kept, kept.jobs(tmp_path, [0]), made.address))
    finally:
        made.remove_node(odd)
    assert e.value.hint.startswith("install the same version")
    assert not (tmp_path / "0.ct").exists()


def test_a_cluster_that_wants_another_token(kept, nodes, tmp_path, monkeypatch, capfd):
    made, _ = nodes
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(EnvironmentFault) as caught:
        run(request(kept, kept.jobs(tmp_path, [0]), made.address))
    assert caught.value.message == f"cannot join the Ray cluster at {made.address}: it wants another token"
    assert "RAY_AUTH_MODE=token" in caught.value.hint
    assert capfd.readouterr().err == ""


def test_a_port_of_the_cluster_that_is_not_the_heads(kept, nodes, tmp_path, capfd):
    """A node's: it speaks as the head does, and as the port for Ray's own clients, and knows nothing of the rest."""
    from ray._raylet import GcsClient

    made, _ = nodes
    node = next(iter(GcsClient(address=made.address).get_all_node_info().values()))
    address = f"{node.node_manager_address}:{node.node_manager_port}"
    with pytest.raises(EnvironmentFault) as caught:
        run(request(kept, kept.jobs(tmp_path, [0]), address))
    assert caught.value.message == f"what answers at {address} is no head of a Ray cluster"
    assert "8265" in caught.value.hint and "10001" in caught.value.hint
    assert capfd.readouterr().err == ""


def test_a_cluster_that_this_machine_is_none_of(kept, nodes, tmp_path):
    made, _ = nodes
    more = "from ray._private import services; services.find_node_ids = set"
    with pytest.raises(EnvironmentFault) as caught:
        run(request(kept, kept.jobs(tmp_path, [0]), made.address), more=more)
    assert caught.value.message == f"this machine is none of those of the Ray cluster at {made.address}"
    assert caught.value.hint.endswith(f"ray start --address={made.address}")


def test_a_cluster_of_another_user(kept, nodes, tmp_path):
    """Its sockets are its starter's alone, or lie in a folder that is."""
    made, _ = nodes
    more = (
        "import os\nopen_to = os.access\nos.access = lambda path, mode: 'sockets' not in path and open_to(path, mode)"
    )
    with pytest.raises(EnvironmentFault) as caught:
        run(request(kept, kept.jobs(tmp_path, [0]), made.address), more=more)
    assert caught.value.message.startswith(f"the Ray cluster at {made.address} is not open to this user, ")
    assert caught.value.hint.endswith("ray local")


def test_interrupted(kept, nodes, tmp_path):
    """Ctrl-C ends the run and its workers, and leaves nothing half written."""
    made, _ = nodes
    program = "import sys, raycluster; from lowmem_resnet20.cli.main import main\n"
    program += "with raycluster.server_program(): sys.exit(main(sys.argv[1:]))"
    words = ["evaluate", "6", *(str(kept.folder / f"{i}.ct") for i in range(2)), "output", f"{tmp_path}/"]
    words += ["ray", made.address, "keys", str(kept.folder), "weights", str(kept.folder / "weights")]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    started = subprocess.Popen([sys.executable, "-c", program, *words], env=environment, stderr=subprocess.PIPE)
    while not processes("ray::Worker.evaluate"):
        assert started.poll() is None, started.communicate()
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    assert started.wait(300) == ExitCode.INTERRUPTED
    until(lambda: not processes("ray::Worker") | processes("ray::Keeper"), pause=PAUSE)
    assert not list(tmp_path.glob("*.ct"))


def test_a_service_has_the_cluster_evaluate(kept, nodes, tmp_path):
    """Jobs of a client go to both workers; what the run goes through is told as that of a process of this machine."""
    pytest.importorskip("uvicorn")
    from serving import Process, upload_folder, wait_for

    made, _ = nodes
    store, seen = tmp_path / "store", set()
    with Process(store, words=("ray", made.address)) as process, process.client() as asked:
        name = upload_folder(asked, kept.keys / "server")
        posted = [
            asked.post("/v1/jobs", params={"keys": name}, content=(kept.folder / f"{i}.ct").read_bytes()).json()["job"]
            for i in range(3)
        ]
        while asked.get(f"/v1/jobs/{posted[-1]}").json()["state"] in ("waiting", "running"):
            seen |= processes("ray::Worker.evaluate")
            time.sleep(0.1)
        for number, job in enumerate(posted):
            found = wait_for(asked, job)
            assert found["state"] == "done" and found["peak_bytes"] > 1 << 26, found
            result = asked.get(f"/v1/jobs/{job}/result").content
            assert number >= LOCAL or result == (kept.folder / "local" / f"{number}.ct").read_bytes()
    assert len(seen) >= 2
    until(lambda: not processes("ray::Worker"), pause=PAUSE)


@pytest.mark.parametrize("address", ["127.0.0.2:1", "nowhere"])
def test_a_service_without_its_cluster_does_not_start(kept, address, tmp_path):
    """It says so in a line, before it listens."""
    words = ["serve", "6", "store", str(tmp_path / "store"), "ray", address, "weights", str(kept.folder / "weights")]
    done = subprocess.run([sys.executable, TESTS / "serving.py", *words], capture_output=True, text=True, check=False)
    assert done.returncode == (ExitCode.USAGE if address == "nowhere" else ExitCode.ENVIRONMENT)
    error, hint = done.stderr.splitlines()
    assert address in error and error.startswith("lowmem-resnet20: error: ") and hint.startswith("hint: ")


def test_a_cluster_made_for_the_run(kept, tmp_path, monkeypatch):
    """``local``: nothing of it is left, and none of what the environment says of other clusters is done."""
    before = processes("ray::")
    for name in ("RAY_ADDRESS", "RAY_REDIS_ADDRESS"):
        monkeypatch.setenv(name, "127.0.0.3:1")
    monkeypatch.setenv("RAY_GCS_SERVER_PORT", "1")
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "evil.hook")
    with TemporaryDirectory(dir="/tmp") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        done = run(request(kept, kept.jobs(tmp_path, [0]), "local"))
        assert list(Path(temporary).iterdir()) == []
    assert not [line for line in done.pictures if "error" in line]
    assert same_as_local(kept, tmp_path / "0.ct", 0)
    until(lambda: not processes("ray::") - before, pause=PAUSE)


def test_a_temporary_folder_whose_name_is_too_long(kept, tmp_path, monkeypatch):
    """For the sockets of a cluster in it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 80)))
    Path(os.environ["TMPDIR"]).mkdir()
    with pytest.raises(EnvironmentFault) as caught:
        run(request(kept, kept.jobs(tmp_path, [0]), "local"))
    assert (
        caught.value.message
        == f"the name of {tmp_path / ('x' * 80)} is too long for the sockets of a Ray cluster in it"
    )
    assert caught.value.hint.endswith("TMPDIR=/tmp")
    assert list((tmp_path / ("x" * 80)).iterdir()) == []


@pytest.mark.full
def test_two_workers_are_faster_than_one(kept, tmp_path, capsys):
    """On a machine of two processors, with nothing else running."""
    seconds = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        with cluster(folder, count) as made:
            done = run(request(kept, kept.jobs(folder, range(COUNT)), made.address))
        assert not [line for line in done.pictures if "error" in line]
        seconds[count] = done.seconds, sum(step.seconds for step in done.steps if step.stage == "pictures")
    with capsys.disabled():
        for count, (whole, evaluating) in seconds.items():
            print(f"\n{COUNT} pictures, workers: {count}: {whole:.1f} s, of them {evaluating:.1f} s evaluating", end="")
    assert seconds[2] < seconds[1]


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("127.0.0.2:1", ExitCode.ENVIRONMENT, "no Ray cluster answers at 127.0.0.2:1: Connection refused"),
        ("nowhere", ExitCode.USAGE, "'nowhere' is not the address of a Ray cluster"),
        ("a..b:1", ExitCode.USAGE, "'a..b:1' is not the address of a Ray cluster"),
        ("[::1:1", ExitCode.USAGE, "'[::1:1' is not the address of a Ray cluster"),
        ("ray://127.0.0.2:1", ExitCode.USAGE, "'ray://127.0.0.2:1' is not the address of a Ray cluster"),
    ],
)
def test_no_cluster(kept, tmp_path, address, code, message):
    with pytest.raises(LowmemError) as caught:
        run(request(kept, kept.jobs(tmp_path, [0]), address))
    assert (caught.value.exit_code, caught.value.message) == (code, message)
    assert caught.value.hint


def test_what_is_wrong_with_keys_or_pictures_needs_no_cluster(kept, tmp_path):
    """Nobody listens at the address."""
    asked = request(kept, kept.jobs(tmp_path, [0]), "127.0.0.2:1")
    with pytest.raises(KeyFolderError, match="holds keys of set 6, not 5"):
        run(replace(asked, set_number=5))
    (kept.folder / "no.ct").write_bytes(b"")
    [line] = run(replace(asked, jobs=(Job(kept.folder / "no.ct", tmp_path / "r.ct"),))).pictures
    assert isinstance(error_of(line), CiphertextError)
