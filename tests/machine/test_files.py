"""Files appear whole or not at all, private where they must be, and never over a key folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError
from lowmem_resnet20.machine import files
from lowmem_resnet20.machine.files import atomic_path, atomic_write, new_folder, sha256


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    target = tmp_path / "a"
    atomic_write(target, b"one")
    atomic_write(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["a"]


def test_private_files_are_their_owners_alone(tmp_path):
    before = os.umask(0)
    try:
        atomic_write(tmp_path / "secret", b"x", private=True)
        atomic_write(tmp_path / "public", b"x")
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600
    assert mode(tmp_path / "public") == 0o666
    assert mode(tmp_path / "folder") == 0o700


def test_a_private_file_is_private_before_it_is_complete(tmp_path):
    with atomic_path(tmp_path / "secret", private=True) as temporary:
        assert mode(temporary) == 0o600
        assert temporary.parent == tmp_path
        assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file(tmp_path, failure):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(failure), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="stop"), new_folder(tmp_path / "keys" / "exp1") as temporary:
        (temporary / "client").mkdir()
        (temporary / "client" / "secret").write_bytes(b"x")
        raise ValueError("stop")
    assert names(tmp_path / "keys") == []


def test_a_new_folder_appears_whole(tmp_path):
    target = tmp_path / "keys" / "exp1"
    with new_folder(target) as temporary:
        (temporary / "manifest").write_bytes(b"x")
        assert not target.exists()
    assert names(tmp_path / "keys") == ["exp1"]
    assert names(target) == ["manifest"]


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_nothing_that_exists_is_overwritten(tmp_path, kind):
    target = tmp_path / "exp1"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_bytes(b"x")
    else:
        target.symlink_to("nowhere")
    with pytest.raises(KeyFolderError, match="exp1 exists already") as caught, new_folder(target):
        pytest.fail("must not begin")
    assert "keys DIR" in caught.value.hint


def test_two_writers_of_one_folder_do_not_mix(tmp_path):
    target = tmp_path / "exp1"
    with pytest.raises(KeyFolderError, match="exists already"), new_folder(target) as mine:
        (mine / "mine").touch()
        target.mkdir()
        (target / "theirs").touch()
    assert names(target) == ["theirs"]
    assert names(tmp_path) == ["exp1"]


def test_sha256(tmp_path):
    content = b"abc" * (files._READ_CHUNK_BYTES // 2)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(EnvironmentFault, match=r"cannot read .*absent: No such file"):
        sha256(tmp_path / "absent")


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"cannot write .*x: No such file or directory") as caught:
        atomic_write(tmp_path / "absent" / "x", b"")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(EnvironmentFault, match="Is a directory"):
        atomic_write(tmp_path / "x", b"")


def test_disk_full(tmp_path):
    """Writing what does not fit: a limit on file size stands in for the disk (EFBIG for ENOSPC)."""
    script = (
        "import resource, signal, sys\n"
        "from lowmem_resnet20.errors import EnvironmentFault\n"
        "from lowmem_resnet20.machine.files import atomic_write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: atomic_write(sys.argv[1], bytes(5000))\n"
        "except EnvironmentFault as error: print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "x"], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {tmp_path / 'x'}: File too large\n"
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/mounts").exists(), reason="root may write everywhere")
def test_no_room_and_no_permission(tmp_path):
    with pytest.raises(EnvironmentFault, match="cannot write /proc/x"):
        atomic_write("/proc/x", b"")
    with pytest.raises(EnvironmentFault, match="cannot write /proc/x"), new_folder("/proc/x"):
        pytest.fail("must not begin")


def leftover(target: Path, age_seconds: float) -> Path:
    path = target.with_name(f".{target.name}.0123456789ab.partial")
    path.write_bytes(b"half")
    then = time.time() - age_seconds
    os.utime(path, (then, then))
    return path


def test_what_a_killed_writer_left_is_swept(tmp_path):
    target = tmp_path / "a"
    leftover(target, files.STALE_SECONDS + 5)
    atomic_write(target, b"x")
    assert names(tmp_path) == ["a"]


def test_what_may_be_alive_is_not_swept(tmp_path):
    target = tmp_path / "a"
    young = leftover(target, 0)
    atomic_write(target, b"x")
    assert young.exists()
    os.utime(young, (0, 0))
    with open(young) as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        atomic_write(target, b"x")
        assert young.exists()
    atomic_write(target, b"x")
    assert not young.exists()


def test_other_files_are_not_swept(tmp_path):
    for name in (".a.partial", ".a.xyz.partial", ".b.0123456789ab.partial", "a.0123456789ab.partial"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    atomic_write(tmp_path / "a", b"x")
    assert len(names(tmp_path)) == 5


INTERRUPTED = """
import sys, time
from lowmem_resnet20.machine.files import atomic_path, new_folder
from lowmem_resnet20.machine.interrupt import ends_at_once
with ends_at_once(), new_folder(sys.argv[1]) as folder, atomic_path(folder / "x") as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)  # with its signals blocked, the main thread is as deaf here as in one of OpenFHE's calls
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_at_once_and_leaves_nothing(tmp_path, number):
    command = [sys.executable, "-c", INTERRUPTED, tmp_path / "exp1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(names(tmp_path)) == 1
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert time.monotonic() - started < 10
        assert process.stderr.read() == b""
    assert names(tmp_path) == []


def test_an_ignored_signal_stays_ignored(tmp_path):
    script = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{INTERRUPTED}"
    command = [sys.executable, "-c", script, tmp_path / "exp1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
