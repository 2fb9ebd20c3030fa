"""A ciphertext is tried in a process of its own, and what fails there is told from what is wrong with it."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20.client import client
from lowmem_resnet20.errors import CiphertextError, EnvironmentFault
from lowmem_resnet20.files.belonging import belonging
from lowmem_resnet20.files.envelope import PICTURE
from lowmem_resnet20.files.keystore import CONTEXT
from lowmem_resnet20.openfhe import trial
from lowmem_resnet20.openfhe.ciphertexts import read_ciphertext
from lowmem_resnet20.progress.display import SilentProgress
from miniature import ARCHITECTURE, INSECURE_SET, random_picture, random_weights

WEIGHTS = random_weights(ARCHITECTURE)
CHECK = """
import sys
from pathlib import Path
from lowmem_resnet20.fhe.trial import Trial
try:
    with Trial(Path(sys.argv[2])) as trial:
        trial.check(Path("p.ct"), Path(sys.argv[1]).read_bytes())
except Exception as error:
    print(type(error).__name__, error.message)
else:
    print("good")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    client.generate_keys(INSECURE_SET, folder / "exp1", SilentProgress())
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(1))
    client.encrypt_picture(folder / "exp1", INSECURE_SET, pixels, WEIGHTS, folder / "p.ct", "picture")
    (folder / "payload").write_bytes((folder / "p.ct").read_bytes().split(b"\n", 2)[2])
    return folder


@pytest.fixture
def context(folder) -> Path:
    return folder / "exp1" / "server" / CONTEXT


@pytest.fixture
def payload(folder) -> bytes:
    return (folder / "payload").read_bytes()


def under(limits: str, folder: Path, context: Path) -> str:
    """What becomes of the good ciphertext where the shell has set these limits: its error, or "good"."""
    shell = f'{limits}; exec "$0" "$@"'
    command = ["bash", "-c", shell, sys.executable, "-c", CHECK, str(folder / "payload"), str(context)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def check(payload: bytes, context: Path) -> None:
    with trial.Trial(context) as tried:
        tried.check(Path("p.ct"), payload)


def test_a_good_ciphertext_is_good(payload, context):
    check(payload, context)


def test_other_bytes_are_bad(payload, context):
    for bad in (b"", payload[: len(payload) // 2], payload[:200] + b"\xff" * 400, b"\xff" * 4000):
        with pytest.raises(CiphertextError, match="holds no ciphertext of these parameters"):
            check(bad, context)


@pytest.fixture
def started(monkeypatch) -> list:
    """The children that are started."""
    processes, popen = [], subprocess.Popen
    monkeypatch.setattr(trial.subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1])
    return processes


def test_one_child_tries_them_all(payload, context, started):
    with trial.Trial(context) as tried:
        assert not started  # where there is nothing to try, none is needed
        for i in range(3):
            tried.check(Path(f"{i}.ct"), payload)
    assert len(started) == 1 and started[0].returncode is not None


def test_a_bad_one_is_named_and_takes_no_other_with_it(payload, context, started):
    """It is tried once more by itself: what ended a child that had stood others might have been their doing."""
    bad = payload[:200] + b"\xff" * 400
    with trial.Trial(context) as tried:
        tried.check(Path("0.ct"), payload)
        for name in ("1.ct", "2.ct"):
            with pytest.raises(CiphertextError, match=rf"^{name} holds no ciphertext"):
                tried.check(Path(name), bad)
        tried.check(Path("3.ct"), payload)
        tried.check(Path("4.ct"), payload)
    assert len(started) == 4


def test_what_others_took_is_not_the_next_ones_fault(monkeypatch, context, payload):
    """Limits are a child's, so a hundred good ciphertexts come to one's end."""
    program = (
        "import sys, os\nread = sys.stdin.buffer.read\nprint('able', flush=True)\n"
        "for _ in range(2): read(int.from_bytes(read(8), 'little')); print('good', flush=True)\n"
        "os.kill(os.getpid(), 24)"
    )
    child_that(monkeypatch, program)
    with trial.Trial(context) as tried:
        for i in range(5):
            tried.check(Path(f"{i}.ct"), payload)


@pytest.mark.parametrize("limits", ["ulimit -v 6000000", "ulimit -Sv 6000000", "ulimit -t 100", "ulimit -c 0"])
def test_limits_lower_than_ours_are_kept(folder, context, limits):
    assert under(limits, folder, context) == "good\n"


@pytest.mark.parametrize("limits", ["ulimit -v 50000", "ulimit -n 5"])
def test_what_cannot_be_tried_is_not_called_bad(folder, context, limits):
    kind, _, message = under(limits, folder, context).partition(" ")
    assert kind == "EnvironmentFault" and "p.ct" in message and len(message.splitlines()) == 1, message


def child_that(monkeypatch, program: str) -> None:
    monkeypatch.setattr(trial.child, "command", lambda *_: [sys.executable, "-c", program])


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("raise MemoryError", EnvironmentFault),
        ("print('able', flush=True); import os; os.kill(os.getpid(), 9)", EnvironmentFault),
        ("print('able', flush=True); import os; os.kill(os.getpid(), 6)", CiphertextError),
        ("print('able', flush=True); import os; os.kill(os.getpid(), 24)", CiphertextError),
        ("print('able')", CiphertextError),
        ("pass", EnvironmentFault),
        ("print('able'); print('out of memory'); 1 / 0", CiphertextError),
    ],
)
def test_each_end_of_the_child_has_its_error(monkeypatch, program, kind):
    child_that(monkeypatch, program)
    with pytest.raises(kind):
        check(b"", Path("context.bin"))


def test_less_memory_than_ours_is_not_the_ciphertexts_fault(monkeypatch):
    child_that(monkeypatch, "print('able'); print('out of memory'); 1 / 0")
    monkeypatch.setattr(trial.resource, "getrlimit", lambda _: (1 << 30, resource.RLIM_INFINITY))
    with pytest.raises(EnvironmentFault, match="ZeroDivisionError"):
        check(b"", Path("context.bin"))


def test_a_child_that_does_not_answer_is_ended(monkeypatch):
    child_that(monkeypatch, "print('able', flush=True); import time; time.sleep(600)")
    monkeypatch.setattr(trial, "_MOST_PATIENCE", 1)
    with pytest.raises(EnvironmentFault, match="more than 1 s") as error:
        check(b"", Path("context.bin"))
    assert error.value.hint == "is the machine busy?"


def test_where_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(trial.child, "command", lambda *_: ["/absent/python"])
    with pytest.raises(EnvironmentFault, match=r"cannot start a process to try p\.ct"):
        check(b"", Path("context.bin"))


def test_the_bytes_that_were_read_are_tried(folder, context):
    """The file is another one by then: no second reading of it can be of what is loaded afterwards."""
    ours = belonging(INSECURE_SET, client.open_folder(folder / "exp1" / "client", INSECURE_SET).keys, WEIGHTS)
    path, tried = folder / "changing.ct", []
    path.write_bytes((folder / "p.ct").read_bytes())

    class ChangedBefore(trial.Trial):
        def check(self, path, payload):
            path.write_bytes(b"other")
            tried.append(payload)
            super().check(path, payload)

    with ChangedBefore(context) as changing:
        read_ciphertext(path, PICTURE, ours, changing)
    assert tried == [(folder / "payload").read_bytes()]


def test_nothing_in_the_working_directory_is_run(folder, context, payload, tmp_path, monkeypatch):
    for name in ("random", "json", "numpy", "openfhe"):
        (tmp_path / f"{name}.py").write_text("open('was-run', 'w')")
    monkeypatch.chdir(tmp_path)
    check(payload, context)
    assert not (tmp_path / "was-run").exists()


def test_no_temporary_folder_is_needed(folder, context, monkeypatch, payload):
    monkeypatch.setenv("TMPDIR", "/absent")
    check(payload, context)


def test_endless_work_is_ended(monkeypatch, context):
    """The child's limit of processor time, made 1 s: the parent does not wait for its patience to end."""
    program = (
        "import sys, lowmem_resnet20.openfhe.trial as t; from pathlib import Path\n"
        "t.MOST_SECONDS, t._compute = 1, lambda *_: [0 for _ in iter(int, 1)]\n"
        f"t._try(Path({str(context)!r}))"
    )
    child_that(monkeypatch, program)
    started = time.monotonic()
    with pytest.raises(CiphertextError, match="s to load"):
        check(b"", context)
    assert time.monotonic() - started < 30


def test_the_child_is_ended_by_ctrl_c_though_its_parent_blocks_it(monkeypatch):
    assert (
        trial.child.command("openfhe.trial", "context.bin")[1] == "-I"
    )  # started by machine/child.py, whose tests say so
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        done = subprocess.run(
            trial.child.command("openfhe.trial", "absent"), capture_output=True, input=b"", check=False
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert done.returncode == 1 and b"Traceback" in done.stderr
