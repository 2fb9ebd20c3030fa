"""Making keys: what they take of the disk, what is left when it fails, and who may read them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import parties
from lowmem_resnet20.client import Client
from lowmem_resnet20.client import keys as keygeneration
from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError
from lowmem_resnet20.files.envelope import PICTURE, read_envelope
from lowmem_resnet20.files.keystore import MANIFEST, check_coverage, largest_bytes, open_folder
from lowmem_resnet20.machine import files
from lowmem_resnet20.openfhe.context import (
    checked_context,
    clear_relinearisation_keys,
    clear_rotation_keys,
    load_relinearisation_key,
    load_rotation_keys,
)
from miniature import ARCHITECTURE, INSECURE_FUNCTIONAL_SET, INSECURE_SET, random_picture, random_weights
from processes import WITHOUT_TORCH

WEIGHTS = random_weights(ARCHITECTURE)
PIXELS = random_picture(ARCHITECTURE, np.random.default_rng(3))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """In a folder whose name is not UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path_factory.mktemp("keys")) + b"/\xff"))
    before = os.umask(0)
    try:
        parties.generate_keys(INSECURE_SET, folder / "exp1")
    finally:
        os.umask(before)
    return folder / "exp1"


def test_the_clients_files_are_its_owners_alone(keys):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (keys / "client").iterdir()}
    assert set(modes) == {"context.bin", "public.key", "secret.key", "manifest.json"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == stat.S_IMODE((keys / "client").stat().st_mode) == 0o700


def test_every_file_under_a_name_that_is_not_utf8(keys):
    """The client's, the server's, and the ciphertext's."""
    picture, name = keys.parent / os.fsdecode(b"p\xfe.ct"), os.fsdecode(b"\xfe.png")
    identity = parties.encrypt_picture(keys, INSECURE_SET, PIXELS, WEIGHTS, picture, name)
    client = opened(keys)
    assert client.encryptions()[identity].name == name
    client.unlock()
    context, side = checked_context(keys / "server" / "context.bin", INSECURE_SET), keys / "server"
    load_relinearisation_key(side / "relinearisation.key", context)
    load_rotation_keys(side / "rotations-1.key", context)
    clear_rotation_keys()
    clear_relinearisation_keys()
    read_envelope(picture).expect(PICTURE, client.belonging)


def test_what_the_keys_will_take_is_known_before_they_are_made(tmp_path, monkeypatch):
    """A little more than they take; and with less free, none is made."""
    asked, taken = [], 0
    monkeypatch.setattr(keygeneration, "check_space", lambda folder, needed, what: asked.append(needed))
    parties.generate_keys(INSECURE_FUNCTIONAL_SET, tmp_path / "exp6")
    manifest = json.loads((tmp_path / "exp6" / "server" / MANIFEST).read_text())
    for path in (path for path in (tmp_path / "exp6").rglob("*") if path.is_file()):
        bound = largest_bytes(INSECURE_FUNCTIONAL_SET, path.name, len(manifest["rotations"].get(path.name, ())))
        assert path.stat().st_size <= bound
        taken += path.stat().st_size
    assert taken < asked[0] < 1.04 * taken
    monkeypatch.undo()
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=asked[0] - 1, f_frsize=1))
    monkeypatch.setattr(keygeneration, "new_context", lambda _: pytest.fail("no key may be made"))
    with pytest.raises(EnvironmentFault, match=r"the keys of parameter set 6 take 0\.\d\d GB of disk"):
        parties.generate_keys(INSECURE_FUNCTIONAL_SET, tmp_path / "again" / "exp6")
    assert list((tmp_path / "again").iterdir()) == []


SHORT = """
import resource, signal, sys
from pathlib import Path
import parties
from lowmem_resnet20.errors import EnvironmentFault
from miniature import INSECURE_SET
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
parties.generate_keys(INSECURE_SET, folder / "exp1")
largest = max(path.stat().st_size for path in folder.rglob("*.key"))
for lacking in (0, 1, largest // 2):
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - lacking, largest))
    try:
        parties.generate_keys(INSECURE_SET, folder / str(lacking) / "exp1")
        print("made")
    except EnvironmentFault as error:
        print(error.message.replace(str(folder), ""), [*(folder / str(lacking)).iterdir()])
"""


def test_a_disk_that_is_full_before_the_end(tmp_path):
    """A limit on the size of files stands in for the disk.  Of one byte OpenFHE itself does not notice the lack."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + SHORT, str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    made, lacks_one, lacks_half = done.stdout.splitlines()
    assert made == "made"
    assert lacks_one == "cannot write /1/exp1: File too large []"
    assert lacks_half.endswith("/exp1: File too large []")


KILLED = """
import os, signal, sys
from pathlib import Path
import parties
from lowmem_resnet20.client import keys
from miniature import INSECURE_SET
keys.clear_rotation_keys = lambda: os.kill(os.getpid(), signal.SIGKILL)
parties.generate_keys(INSECURE_SET, Path(sys.argv[1]))
"""


def test_what_a_killed_one_left_goes_at_the_next_try(tmp_path):
    """A secret key lies in it; and what is swept first makes room."""
    command = [sys.executable, "-c", WITHOUT_TORCH + KILLED, str(tmp_path / "exp1")]
    assert subprocess.run(command, env=ENVIRONMENT, check=False).returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".exp1.*.partial/client/secret.key"))
    parties.generate_keys(INSECURE_FUNCTIONAL_SET, tmp_path / "exp6")
    assert [path.name for path in tmp_path.iterdir()] == ["exp6"]


def test_where_no_modes_are_kept_no_key_is_made(tmp_path, monkeypatch):
    chmod = Path.chmod
    monkeypatch.setattr(Path, "chmod", lambda path, mode: chmod(path, 0o777))
    monkeypatch.setattr(keygeneration, "new_context", lambda _: pytest.fail("no key may be made"))
    with pytest.raises(EnvironmentFault, match="keeps no permissions"):
        parties.generate_keys(INSECURE_SET, tmp_path / "exp1")
    assert list(tmp_path.iterdir()) == []


def opened(keys: Path) -> Client:
    return Client(keys, WEIGHTS, set_=INSECURE_SET)


def test_what_decrypting_needs_can_be_checked_before_encrypting(keys, tmp_path, monkeypatch):
    opened(keys)
    secret = keys / "client" / "secret.key"
    secret.chmod(0o644)
    try:
        with pytest.raises(KeyFolderError, match="can be read by others") as caught:
            opened(keys)
        assert caught.value.hint == f"chmod 600 {shlex.quote(str(secret))}"
        copy = shutil.copytree(keys, tmp_path / "copy")
        with monkeypatch.context() as patch, pytest.raises(KeyFolderError) as caught:
            patch.setattr(Path, "chmod", lambda path, mode: path.joinpath("x").mkdir())  # as it is mounted read-only
            opened(keys)
        assert caught.value.hint.startswith("copy the key folder to where its files can be 0600")
        (copy / "client" / "secret.key").chmod(0o600)
        opened(copy)
    finally:
        secret.chmod(0o600)
    secret.rename(secret.with_suffix(".away"))
    try:
        with pytest.raises(KeyFolderError, match="is missing"):
            opened(keys)
    finally:
        secret.with_suffix(".away").rename(secret)


def test_a_manifest_that_leaves_files_unchecked_is_refused(keys):
    manifest = open_folder(keys / "server", INSECURE_SET)
    for name in ("context.bin", "relinearisation.key"):
        less = {other: record for other, record in manifest.files.items() if other != name}
        with pytest.raises(KeyFolderError, match=f"does not name {name}"):
            check_coverage(keys / "server", replace(manifest, files=less), INSECURE_SET)


def test_the_folder_is_flushed(tmp_path, monkeypatch):
    """The client's files, small and not to be made again, reach the disk before their folder has its name."""
    flushed, flush = [], files.flush_to_disk
    monkeypatch.setattr(files, "flush_to_disk", lambda path: (flushed.append(path), flush(path)))
    parties.generate_keys(INSECURE_SET, tmp_path / "exp1")
    names = [path.name for path in flushed]
    assert names[-1] == tmp_path.name
    for name in ("secret.key", "public.key", "manifest.json"):
        assert any(flushed_name.startswith(f".{name}.") for flushed_name in names)
