"""Key folders that were sent to this machine, each named by the SHA-256 of its manifest; and room for pictures.

They stay for the next run.  A folder is there whole or not at all; one that is not in use goes when room is needed for
another, that used longest ago first, or when nobody has wanted it for a week.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..machine.cachehome import cache_home, make_private_folder
from ..machine.files import check_space, make_folder, os_errors
from ..machine.locks import FolderLock, lock, share

#: All key folders together take no more, but for those in use and on their way: every set's but set 3's twice.
MOST_BYTES = 18 << 30
UNUSED_SECONDS = 7 * 24 * 3600
_SCRATCH = "scratch-"


def cache_folder() -> Path:
    """Return the folder in which key folders are kept.  Errors: EnvironmentFault."""
    with os_errors("make", Path("a cache folder")):
        return cache_home() / "cluster"


class KeyCache:
    """The key folders in ``root``, which is this user's alone.  Errors: EnvironmentFault if it cannot be."""

    def __init__(self, root: Path, most_bytes: int = MOST_BYTES) -> None:
        with os_errors("use", root):
            if root.is_dir() and root.stat().st_uid == os.geteuid():
                root.chmod(0o700)
            os.close(make_private_folder(root))
        self.root, self.most_bytes = root, most_bytes
        self._held: list[int] = []

    def folder(self, manifest: bytes) -> Path:
        """Return the folder in which the keys of that manifest lie, if they do."""
        return self.root / hashlib.sha256(manifest).hexdigest()

    def hold(self, folder: Path) -> bool:
        """Keep a folder until this process ends, and note that it was used; False if it is not there."""
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        if share(descriptor) is False:  # it is being removed
            os.close(descriptor)
            return False
        self._held.append(descriptor)
        with suppress(OSError):
            os.utime(folder)
        return folder.is_dir()

    def release(self) -> None:
        """Let go of all that is held."""
        while self._held:
            os.close(self._held.pop())

    def make_room(self, needed_bytes: int) -> None:
        """Remove folders that nobody holds, until there is room for so much more.  Errors: EnvironmentFault."""
        with os_errors("read", self.root):
            used = self._used()
        sizes = {folder: _bytes_in(folder) for folder in used}
        for folder in sorted(used, key=lambda folder: used[folder]):
            unused = time.time() - used[folder] > UNUSED_SECONDS
            if unused or sum(sizes.values()) + needed_bytes > self.most_bytes:
                sizes[folder] = 0 if remove_unless_held(folder) else sizes[folder]
        check_space(self.root, needed_bytes, "the keys")

    def _used(self) -> dict[Path, float]:
        """Return when each folder was used last, in seconds since 1970."""
        used: dict[Path, float] = {}
        for path in self.root.iterdir():
            with suppress(FileNotFoundError):  # another run has just removed it
                if path.is_dir() and len(path.name) == hashlib.sha256().digest_size * 2:
                    used[path] = path.stat().st_mtime
        return used


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Make a folder for one picture's files, removed at the end; those that killed workers left are removed first."""
    make_folder(root)
    with os_errors("write", root):
        for left in root.glob(f"{_SCRATCH}*"):
            remove_unless_held(left)
        folder = root / f"{_SCRATCH}{secrets.token_hex(6)}"
        held = FolderLock(folder)
        held.take()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.release()


def remove_unless_held(folder: Path) -> bool:
    """Return whether it is gone: nobody held it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return not folder.exists()
    try:
        if lock(descriptor) is False:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    finally:
        os.close(descriptor)


def _bytes_in(folder: Path) -> int:
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0
