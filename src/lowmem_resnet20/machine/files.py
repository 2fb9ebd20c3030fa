"""Writing files and folders whole or not at all.

Everything is written under a temporary name beside its target, ``.NAME.<12 hex digits>.partial``, and
renamed when complete; a failure or Ctrl-C removes it.  What a killed process left behind is swept by the
next writer of the same target, once it is neither locked by its writer nor younger than a minute.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import EnvironmentFault, KeyFolderError
from .interrupt import on_interrupt

STALE_SECONDS = 60
_READ_CHUNK_BYTES = 1 << 20
_HINTS = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EACCES: "choose a place you have permission for",
    errno.EPERM: "choose a place you have permission for",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOENT: "make its folder first",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there becomes ``path`` at the end.

    The temporary file exists, empty, from the start.  ``private`` makes it readable by its owner alone
    (0600).  On any failure the temporary is removed and ``path`` is as it was.

    Errors: EnvironmentFault for any OSError, inside the context too.
    """
    target = Path(path)
    with _os_errors("write", target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        _sweep(target)
        temporary = _temporary(target)
        lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with _removed_unless_renamed(temporary, lock):
            yield temporary
            if private:
                temporary.chmod(0o600)
            _flush_to_disk(temporary)
            os.replace(temporary, target)


def atomic_write(path: str | os.PathLike[str], data: bytes, *, private: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all; 0600 if ``private``.  Errors: EnvironmentFault."""
    with atomic_path(path, private=private) as temporary:
        temporary.write_bytes(data)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder (0700) beside ``path`` that becomes ``path`` at the end.

    Missing parents are made.  On any failure the temporary folder is removed with all that is in it.

    Errors: KeyFolderError if ``path`` exists, before or at the end; EnvironmentFault for any other OSError.
    """
    target = Path(path)
    with _os_errors("write", target):
        if os.path.lexists(target):
            raise _exists(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        temporary = _temporary(target)
        temporary.mkdir(mode=0o700)
        with _removed_unless_renamed(temporary, os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)):
            temporary.chmod(0o700)
            yield temporary
            _rename_folder(temporary, target)


def make_folder(path: Path, *, parents: bool = True) -> None:
    """Make a folder if it is missing, and those it lies in.  Errors: EnvironmentFault."""
    with _os_errors("write", path):
        path.mkdir(parents=parents, exist_ok=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.  Errors: EnvironmentFault if it cannot be read."""
    digest = hashlib.sha256()
    with _os_errors("read", Path(path)), open(path, "rb") as file:
        while chunk := file.read(_READ_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def os_fault(error: OSError, action: str, path: str | os.PathLike[str]) -> EnvironmentFault:
    """The one-line error for an OSError met when about to ``action`` ("read", "write") ``path``."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return EnvironmentFault(f"cannot {action} {path}: {reason}", _HINTS.get(error.errno or 0, ""))


@contextmanager
def _os_errors(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise os_fault(error, action, path) from error


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")


@contextmanager
def _removed_unless_renamed(temporary: Path, descriptor: int) -> Iterator[None]:
    """Hold ``temporary`` locked through its open ``descriptor``, and remove it if it is still there at the end."""
    try:
        with on_interrupt(partial(_remove, temporary)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
            finally:
                _remove(temporary)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file or folder, though an interrupted writer may still be adding to it."""
    for _ in range(5):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
        if not os.path.lexists(path):
            return


def _sweep(target: Path) -> None:
    """Remove temporaries of ``target`` that no living process is writing."""
    name = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{12}\.partial")
    for sibling in target.parent.iterdir():
        if name.fullmatch(sibling.name):
            with suppress(OSError):
                if time.time() - sibling.lstat().st_mtime > STALE_SECONDS and _unlocked(sibling):
                    _remove(sibling)


def _unlocked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_folder(temporary: Path, target: Path) -> None:
    """Rename a folder to a name that must still be free (an empty folder may be taken over: nothing is lost)."""
    try:
        os.rename(temporary, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _exists(target) from error
        raise


def _exists(target: Path) -> KeyFolderError:
    return KeyFolderError(
        f"{target} exists already",
        "nothing is overwritten: use what is there, remove it yourself, or name another folder with: keys DIR",
    )
