"""Keys on a machine of a cluster: found, received, kept within bounds; no cluster is needed for that."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lowmem_resnet20.cluster import keycache
from lowmem_resnet20.cluster.keeper import Keeper
from lowmem_resnet20.cluster.keycache import KeyCache, scratch_folder
from lowmem_resnet20.errors import EnvironmentFault, ExitCode
from lowmem_resnet20.files.keystore import write_manifest
from miniature import INSECURE_NATIVE_SET

SET = INSECURE_NATIVE_SET
HOLDS = """
import os, sys, fcntl
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_SH if sys.argv[2] == "shared" else fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """This machine's folder for what was sent."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return keycache.cache_folder()


@pytest.fixture
def keys(tmp_path) -> Path:
    """A folder with the form of a server's: nothing here opens the keys."""
    folder = tmp_path / "exp6" / "server"
    folder.mkdir(parents=True)
    for name, size in (("chain.json", 10), ("public.key", 0), ("rotation-1.key", 5000)):
        (folder / name).write_bytes(os.urandom(size))
    write_manifest(folder, SET, "0123456789abcdef")
    return folder


@pytest.mark.parametrize("mode", [None, 0o777, 0o755])
def test_the_folder_is_private_whatever_the_umask(cache, mode):
    """Also one that an earlier version made."""
    if mode is not None:
        cache.mkdir(parents=True)
        cache.chmod(mode)
    before = os.umask(0)
    try:
        KeyCache(cache)
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert mode is not None or {cache.parents[i].stat().st_mode & 0o777 for i in (0, 1)} == {0o700}


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder is made by root")
def test_another_users_folder_is_not_used(cache):
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    os.chown(cache, 1000, 1000)
    with pytest.raises(EnvironmentFault, match=f"^cannot use {cache}: Operation not permitted"):
        KeyCache(cache)
    assert cache.stat().st_mode & 0o777 == 0o755


def manifest(folder: Path) -> bytes:
    return (folder / "manifest.json").read_bytes()


def send(keeper: Keeper, folder: Path, piece: int = 1000) -> dict:
    assert keeper.begin(5010) == {}
    for name in json.loads(keeper.manifest)["files"]:
        data = (folder / name).read_bytes()
        for start in range(0, max(len(data), 1), piece):
            assert keeper.receive(name, data[start : start + piece]) == {}
    return keeper.finish()


def holder(folder: Path, how: str) -> subprocess.Popen:
    """Another process that holds a folder until its input ends."""
    command = [sys.executable, "-c", HOLDS, str(folder), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_shared_folder_is_used_where_it_is(keys, cache):
    assert Keeper(SET, manifest(keys)).find(str(keys)) == {"folder": str(keys)}
    assert not cache.exists()


def test_keys_are_received_once(keys, cache):
    keeper = Keeper(SET, manifest(keys))
    assert keeper.find("/nowhere") == {}
    answer = send(keeper, keys)
    folder = cache / hashlib.sha256(manifest(keys)).hexdigest()
    assert answer == {"folder": str(folder)}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in keys.iterdir()
    }
    assert (folder.stat().st_mode & 0o77, list(cache.iterdir())) == (0, [folder])
    assert Keeper(SET, manifest(keys)).find("/nowhere") == answer


@pytest.mark.parametrize("how", ["missing", "altered", "of other keys"])
def test_what_is_not_whole_is_not_found(keys, cache, how, tmp_path):
    """In a shared folder, and among what was sent."""
    shared = tmp_path / "shared"
    shutil.copytree(keys, shared)
    send_to = Keeper(SET, manifest(keys))
    send_to.find("/nowhere")
    sent = Path(send(send_to, keys)["folder"])
    for folder in (shared, sent):
        if how == "missing":
            (folder / "rotation-1.key").unlink()
        elif how == "altered":
            (folder / "rotation-1.key").write_bytes(bytes(5000))
        else:
            (folder / "manifest.json").write_bytes(manifest(keys).replace(b"0123456789abcdef", b"0123456789abcde0"))
    assert send_to._cache
    send_to._cache.release()  # as the end of its process does
    keeper = Keeper(SET, manifest(keys))
    assert keeper.find(str(shared)) == {}
    assert send(keeper, keys) == {"folder": str(sent)}
    assert Keeper(SET, manifest(keys)).find(str(shared)) == {"folder": str(sent)}


def test_what_was_sent_wrong_is_refused_and_removed(keys, cache):
    other = keys.parent / "other"
    shutil.copytree(keys, other)
    (other / "rotation-1.key").write_bytes(bytes(5000))
    keeper = Keeper(SET, manifest(keys))
    keeper.find("/nowhere")
    answer = send(keeper, other)
    assert answer["error"].endswith("rotation-1.key has been altered") and answer["exit_code"] == ExitCode.KEYS
    assert list(cache.iterdir()) == []


def test_two_runs_that_send_the_same_keys_at_once(keys, cache):
    one, other = (Keeper(SET, manifest(keys)) for _ in range(2))
    assert one.find("/nowhere") == other.find("/nowhere") == {}
    assert one.begin(5010) == {}
    answer = send(other, keys)
    for name in ("chain.json", "public.key", "rotation-1.key"):
        assert one.receive(name, (keys / name).read_bytes()) == {}
    assert one.finish() == answer and len(list(cache.iterdir())) == 1


def test_a_sender_that_dies_leaves_nothing(keys, cache):
    """What a killed process received is removed by the next."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import os, test_keycache as t; from pathlib import Path\n"
    program += "k = t.Keeper(t.SET, t.manifest(Path(sys.argv[2]))); k.find('/nowhere'); k.begin(1)\n"
    program += "k.receive('chain.json', b'x'); os.kill(os.getpid(), 9)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(keys)]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    [left] = cache.iterdir()
    assert left.name.endswith(".partial")
    keeper = Keeper(SET, manifest(keys))
    keeper.find("/nowhere")
    sent = send(keeper, keys)
    assert list(cache.iterdir()) == [Path(sent["folder"])]


def made(cache: Path, letter: str, size: int, age: float) -> Path:
    folder = cache / (letter * 64)
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(bytes(size))
    os.utime(folder, (0, folder.stat().st_mtime - age))
    return folder


def test_room_is_made_of_what_was_used_longest_ago(cache):
    old, older, new = (made(cache, letter, 100, age) for letter, age in (("a", 200), ("b", 300), ("c", 1)))
    KeyCache(cache, most_bytes=300).make_room(0)
    assert old.exists() and older.exists() and new.exists()
    KeyCache(cache, most_bytes=300).make_room(50)
    assert old.exists() and not older.exists() and new.exists()
    KeyCache(cache, most_bytes=300).make_room(300)
    assert list(cache.iterdir()) == []


def test_two_runs_that_make_room_at_once(cache, monkeypatch):
    """What the other has just removed is no fault."""
    folders = [made(cache, letter, 100, age) for letter, age in (("a", 300), ("b", 200), ("c", 100))]

    def overtaken(folder: Path) -> bool:
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)
        return True

    monkeypatch.setattr(keycache, "remove_unless_held", overtaken)
    KeyCache(cache, most_bytes=10).make_room(0)
    assert list(cache.iterdir()) == []


def test_what_is_in_use_stays(cache):
    """Whatever room is needed, and however old it is; what nobody has used for a week goes."""
    used, unused = (made(cache, letter, 100, 8 * 24 * 3600) for letter in "ab")
    process = holder(used, "shared")
    try:
        KeyCache(cache, most_bytes=1000).make_room(0)
        assert used.exists() and not unused.exists()
        KeyCache(cache, most_bytes=10).make_room(5)
        assert used.exists()
        assert KeyCache(cache).hold(used)  # beside the other
    finally:
        process.communicate("")


def test_what_is_being_removed_is_not_used(cache):
    folder = made(cache, "a", 100, 0)
    process = holder(folder, "alone")
    assert not KeyCache(cache).hold(folder)
    process.communicate("")
    assert KeyCache(cache).hold(folder)
    assert not KeyCache(cache).hold(cache / ("b" * 64))


def test_no_room_on_the_disk(keys, cache):
    keeper = Keeper(SET, manifest(keys))
    keeper.find("/nowhere")
    answer = keeper.begin(1 << 60)
    assert answer["error"].startswith("the keys take ") and answer["exit_code"] == ExitCode.ENVIRONMENT


def test_scratch_folders_of_killed_workers_are_removed(cache):
    left, lived_in = (cache / f"scratch-{name}" for name in ("killed", "alive"))
    for folder in (left, lived_in):
        folder.mkdir(parents=True)
        (folder / "picture.ct").write_bytes(b"x")
    process = holder(lived_in, "alone")
    try:
        with scratch_folder(cache) as folder:
            (folder / "picture.ct").write_bytes(b"x")
            assert {path for path in cache.iterdir()} == {folder, lived_in}
        assert list(cache.iterdir()) == [lived_in]
    finally:
        process.communicate("")
