"""Files appear whole or not at all, private where they must be, and never over a key folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError, UsageError
from lowmem_resnet20.machine import files
from lowmem_resnet20.machine.files import (
    atomic_path,
    atomic_write,
    beside,
    make_folder,
    new_folder,
    os_fault,
    sha256,
)


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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EADDRINUSE, "in words of its own"), os.strerror(errno.EADDRINUSE)),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_the_reason_of_an_error_whose_number_is_none(error, reason):
    assert os_fault(error, "listen on", "host:80").message == f"cannot listen on host:80: {reason}"


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


def leftover(target: Path, age_seconds: float = 0) -> Path:
    path = target.with_name(f".{target.name}.0123456789ab.partial")
    path.write_bytes(b"half")
    then = time.time() - age_seconds
    os.utime(path, (then, then))
    return path


def test_what_a_killed_writer_left_is_swept_at_once(tmp_path):
    leftover(tmp_path / "a")
    atomic_write(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_what_a_living_writer_writes_is_not_swept(tmp_path):
    target = tmp_path / "a"
    old = leftover(target, 10 * files.STALE_SECONDS)
    with open(old) as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        atomic_write(target, b"x")
        assert old.exists()
    with atomic_path(target), new_folder(tmp_path / "exp1"):
        before = names(tmp_path)
        atomic_write(target, b"y")
        with new_folder(tmp_path / "exp2"):
            pass
        assert {*before, "exp2"} - {old.name} <= {*names(tmp_path)}
    assert names(tmp_path) == ["a", "exp1", "exp2"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_age_alone_tells(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    young, old = leftover(tmp_path / "young"), leftover(tmp_path / "old", files.STALE_SECONDS + 5)
    for name in ("young", "old"):
        atomic_write(tmp_path / name, b"x")
    with new_folder(tmp_path / "exp1"):
        pass
    assert young.exists() and not old.exists()
    assert (tmp_path / "exp1").is_dir()


KILLED = """
import os, signal, sys
from lowmem_resnet20.machine.files import new_folder
with new_folder(sys.argv[1]) as folder:
    (folder / "secret.key").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_keys_that_were_being_made_are_swept_at_once_by_the_next_of_any_number(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "exp1"], check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = names(tmp_path)
    assert left.startswith(".exp1.")
    with new_folder(tmp_path / "exp6") as folder:
        assert names(tmp_path) == [folder.name]


def test_a_sweeper_between_making_and_locking(tmp_path, monkeypatch):
    """It takes the new file for one whose writer was killed; the writer makes another."""
    made = []

    def lock(descriptor):
        made.extend(name for name in names(tmp_path) if name.endswith(".partial"))
        if len(made) == 1:
            (tmp_path / made[0]).unlink()
        return True

    monkeypatch.setattr(files, "lock", lock)
    atomic_write(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert len(set(made)) == 2


def test_a_pipe_named_like_a_temporary_does_not_block(tmp_path):
    os.mkfifo(tmp_path / ".a.0123456789ab.partial")
    atomic_write(tmp_path / "a", b"x")
    assert "a" in names(tmp_path)


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n" * 234, "n" * 233])
def test_the_longest_names(tmp_path, name):
    for content in (b"one", b"two"):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_bytes(content)
    assert (tmp_path / name).read_bytes() == b"two"
    with new_folder(tmp_path / "f" / name):
        pass
    left = tmp_path / beside(tmp_path / f".{name}", ".0123456789ab.partial").name
    left.touch()
    atomic_write(tmp_path / name, b"x")
    assert not left.exists()
    (tmp_path / beside(tmp_path / name, ".unfinished").name).mkdir()


def test_names_that_are_not_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    atomic_write(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_folder_that_can_be_written_to_but_not_read():
    def write(folder: Path) -> None:
        atomic_write(folder / "a", b"x")
        with new_folder(folder / "exp1"):
            pass
        os._exit(7 if (folder / "a").read_bytes() == b"x" and (folder / "exp1").is_dir() else 1)

    assert as_nobody(write, mode=0o333) == 7


def as_nobody(work, mode: int) -> int:
    """The exit code of ``work`` in a process without a superuser's rights, on a folder of that mode."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = os.fork()
        if not child:
            try:
                folder.chmod(mode)
                if os.geteuid() == 0:
                    os.chown(folder, 65534, 65534)
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                work(folder)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        folder.chmod(0o700)
        return os.waitstatus_to_exitcode(status)


# --- what is no file --------------------------------------------------------------------------------------


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user may not make devices")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(("make", "kind"), [(device, "a device"), (os.mkfifo, "a pipe"), (listening, "a socket")])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_left_as_it_is(tmp_path, monkeypatch, make, kind, linked):
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    special = Path("special")
    make(special)
    before = special.lstat()
    target = special
    if linked:
        target = Path("link")
        target.symlink_to("special")
    with pytest.raises(UsageError, match=kind), atomic_path(target):
        pytest.fail("must not begin")
    after = special.lstat()
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)
    assert target.is_symlink() == linked


def test_a_link_is_written_through(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    target, link = tmp_path / "there" / "file", tmp_path / "here" / "link"
    link.symlink_to("../there/file")
    for content in (b"one", b"two"):  # the first time there is nothing at its end
        atomic_write(link, content)
        assert link.is_symlink() and target.read_bytes() == content
    assert names(tmp_path / "here") == ["link"] and names(tmp_path / "there") == ["file"]


def test_a_folder_is_made_where_a_link_leads(tmp_path):
    """That of an output, and that in which a key folder is to lie."""
    link, target = tmp_path / "link", tmp_path / "other" / "disk"
    link.symlink_to("other/disk")
    make_folder(link)
    assert target.is_dir()
    target.rmdir()
    with new_folder(link / "keys" / "exp1"):
        pass
    assert link.is_symlink() and names(target / "keys") == ["exp1"]
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        make_folder(tmp_path / "round")


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        atomic_write(tmp_path / "a", b"x")


@pytest.mark.parametrize("redirection", [">out", "2>out"])
def test_where_the_messages_go_is_no_output(tmp_path, redirection):
    script = (
        "from lowmem_resnet20.machine.files import atomic_write\n"
        "from lowmem_resnet20.errors import UsageError\n"
        "try: atomic_write('out', b'x')\nexcept UsageError as error: open('said', 'w').write(error.message)"
    )
    command = f'"$0" -c "$1" {redirection}'
    subprocess.run(["sh", "-c", command, sys.executable, script], cwd=tmp_path, check=True)
    assert "where standard" in (tmp_path / "said").read_text()
    assert (tmp_path / "out").read_bytes() == b""


# --- the disk ---------------------------------------------------------------------------------------------


def test_where_no_modes_are_kept_nothing_private_is(tmp_path, monkeypatch):
    """As on FAT, where the mount alone says who may read."""
    chmod = Path.chmod
    monkeypatch.setattr(Path, "chmod", lambda path, mode: chmod(path, 0o777))
    for made in (new_folder(tmp_path / "exp1"), atomic_path(tmp_path / "secret", private=True)):
        with pytest.raises(EnvironmentFault, match="keeps no permissions"), made as temporary:
            if temporary.is_dir():
                pytest.fail("must not begin")
    assert names(tmp_path) == []
    atomic_write(tmp_path / "public", b"x")


def test_files_reach_the_disk_before_their_name_and_the_name_too(tmp_path, monkeypatch):
    """A power cut after a manifest was written finds what was written before it."""
    done, fsync, replaced = [], os.fsync, os.replace

    def note_fsync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_replace(source, target):
        done.append("rename")
        replaced(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic_write(tmp_path / "a", b"x")
    assert [Path(step).suffix or step for step in done] == [".partial", "rename", str(tmp_path)]
    done.clear()
    with new_folder(tmp_path / "exp1") as folder:
        (folder / "client").mkdir()
    assert [Path(step).name for step in done] == ["client", folder.name, tmp_path.name]


def test_space_is_looked_at(tmp_path, monkeypatch):
    files.check_space(tmp_path, 1, "the keys")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=3, f_frsize=10**9))
    files.check_space(tmp_path, 3 * 10**9, "the keys")
    with pytest.raises(EnvironmentFault, match=r"the keys take 3\.01 GB of disk, and 3\.00 GB are free") as caught:
        files.check_space(tmp_path, 3_010_000_000, "the keys")
    assert caught.value.hint


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
    time.sleep(600)  # with its signals blocked, the main thread is as deaf here as in one of OpenFHE's calls
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_at_once_and_leaves_nothing(tmp_path, number):
    command = [sys.executable, "-c", INTERRUPTED, tmp_path / "exp1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(names(tmp_path)) == 1
        process.send_signal(number)
        assert process.wait(300) == 128 + number
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
        assert process.wait(300) == 130


def test_how_to_hide_a_secret(tmp_path, monkeypatch):
    """By chmod, which is not done; where it would be refused, as of what is mounted read-only, by something else."""
    path = tmp_path / "a secret"
    path.touch(0o644)
    path.chmod(0o644)
    assert files.hiding_hint(path, "otherwise") == f"chmod 600 '{path}'" and mode(path) == 0o644
    for error in (PermissionError(), OSError(errno.EROFS, "")):

        def refuse(path: Path, mode: int, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(Path, "chmod", refuse)
        assert files.hiding_hint(path, "otherwise") == "otherwise"
