"""Writing files and folders whole or not at all.

Everything is written under a temporary name beside its target, ``.NAME.<12 hex digits>.partial``, locked by its writer,
brought to the disk and renamed when complete: a power cut leaves the old or the new.  A failure or Ctrl-C removes it.
What a killed process left behind is swept by the next writer there, for its lock died with it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import EnvironmentFault, KeyFolderError, LowmemError, UsageError
from .interrupt import on_interrupt
from .locks import lock

#: Where the file system has no locks, its age alone tells that nobody writes a temporary any more.
STALE_SECONDS = 24 * 3600
_LONGEST_NAME_BYTES = 255
_READ_CHUNK_BYTES = 1 << 20
_ENDING = re.compile(r"\.[0-9a-f]{12}\.partial\Z")
#: What hints are about: those of a full disk suit every action.
_WRITING, _OF_THE_DISK = ("write", "make", "use"), (errno.ENOSPC, errno.EDQUOT)
_HINTS = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EACCES: "choose a place you have permission for",
    errno.EPERM: "choose a place you have permission for",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOENT: "make its folder first",
}

_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there becomes ``path`` at the end.

    The temporary file exists, empty, from the start.  ``private`` makes it readable by its owner alone (0600).  A link
    is written through: the file it names is replaced.  On any failure the temporary is removed and ``path`` is as it
    was.

    Errors: UsageError if ``path`` is a device, a pipe or the like; EnvironmentFault for any OSError, inside the context
    too, and where the file system cannot keep a file private.
    """
    with os_errors("write", Path(path)):
        target = written_file(Path(path))
        _sweep(target.parent, partial(_is_temporary_of, target))
        make = partial(os.open, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600 if private else 0o666)
        with _temporary(target, make) as temporary:
            yield temporary
            if private:
                _make_private(temporary, 0o600)
            flush_to_disk(temporary)
            os.replace(temporary, target)
            flush_to_disk(target.parent)


def atomic_write(path: str | os.PathLike[str], data: bytes, *, private: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all; 0600 if ``private``.  Errors: as :func:`atomic_path`."""
    with atomic_path(path, private=private) as temporary:
        temporary.write_bytes(data)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder (0700) beside ``path`` that becomes ``path`` at the end.

    Missing parents are made.  On any failure the temporary folder is removed with all that is in it.  What killed
    makers of folders left in the same place, under whatever name, is removed first.  The folder is brought to the disk,
    and those in it; the files are their writer's to bring there.

    Errors: KeyFolderError if ``path`` exists, before or at the end; EnvironmentFault for any other OSError, and where
    the file system cannot keep a folder private.
    """
    target = Path(path)
    with os_errors("write", target):
        make_folder(target.parent)
        _sweep(target.parent, _is_temporary_folder)
        if os.path.lexists(target):
            raise exists_already(target)
        with _temporary(target, _open_new_folder) as temporary:
            _make_private(temporary, 0o700)
            yield temporary
            _flush_folders(temporary)
            _rename_folder(temporary, target)
            flush_to_disk(target.parent)


def written_file(path: Path) -> Path:
    """Return the file that is replaced when ``path`` is written: where it is a link, the file that is linked to.

    Errors: UsageError if it is no regular file, or where this program's own messages go; EnvironmentFault if it is a
    folder or cannot be looked at.
    """
    with os_errors("write", path):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return _linked(path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "", str(path))
    kind = _KINDS.get(stat.S_IFMT(found.st_mode)) or _own_stream(found)
    if kind:
        raise UsageError(f"{path} is {kind}, and the output is a file of its own", "name a file")
    return _linked(path)


def make_folder(path: Path, *, parents: bool = True, mode: int = 0o777) -> None:
    """Make a folder if it is missing, and those it lies in; where one is a link, what is linked to.

    Errors: EnvironmentFault.
    """
    with os_errors("write", path):
        Path(os.path.realpath(path)).mkdir(mode, parents=parents, exist_ok=True)


def beside(path: Path, ending: str) -> Path:
    """Return ``path`` with a longer name, in which a hash stands for a name that leaves no room for it."""
    name = os.fsencode(path.name)
    if len(name) + len(ending) > _LONGEST_NAME_BYTES:
        hidden = "." if path.name.startswith(".") else ""
        return path.with_name(hidden + hashlib.sha256(name).hexdigest() + ending)
    return path.with_name(path.name + ending)


def flush_to_disk(path: Path) -> None:
    """Have the disk keep a file's content, or which names a folder holds, through a power cut.  Errors: OSError."""
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not folder:  # a folder without permission to read, or a file system that does not do this to folders
            raise


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise EnvironmentFault unless the disk of ``folder`` has room for ``what`` (plural)."""
    with os_errors("look at", folder):
        disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < needed_bytes:
        raise EnvironmentFault(
            f"{what} take {needed_bytes / 1e9:.2f} GB of disk, and {free_bytes / 1e9:.2f} GB are free in {folder}",
            "free some disk space, or name a folder on another disk",
        )


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits.  Errors: EnvironmentFault if it cannot be read."""
    digest = hashlib.sha256()
    with os_errors("read", Path(path)), open(path, "rb") as file:
        while chunk := file.read(_READ_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_bounded(path: Path, most_bytes: int, missing: LowmemError, too_large: LowmemError) -> bytes:
    """Return a file's content, of at most so many bytes.

    Errors: ``missing`` where there is no file, ``too_large``; EnvironmentFault for any other OSError.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise missing from None
    except OSError as error:
        raise os_fault(error, "read", path) from error
    if len(content) > most_bytes:
        raise too_large
    return content


def hiding_hint(path: Path, otherwise: str) -> str:
    """Return what to do about a secret that others can read: ``otherwise`` where this user cannot change its mode, as
    of one that is mounted into a container."""
    try:
        path.chmod(stat.S_IMODE(path.stat().st_mode))  # which is as it was
    except OSError:
        return otherwise
    return f"chmod 600 {shlex.quote(str(path))}"


def os_fault(error: OSError, action: str, path: str | os.PathLike[str]) -> EnvironmentFault:
    """Return the one-line error for an OSError met when about to ``action`` ("read", "write") ``path``."""
    number = error.errno or 0  # below zero it is getaddrinfo's
    if number == errno.ENOENT and not error.filename and working_directory_is_gone():
        return EnvironmentFault("the working directory has been removed", "cd to another, and give the command there")
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    hint = _HINTS.get(number, "") if action in _WRITING or number in _OF_THE_DISK else ""
    return EnvironmentFault(f"cannot {action} {path}: {reason}", hint)


@contextmanager
def os_errors(action: str, path: Path) -> Iterator[None]:
    """Raise, for an OSError inside, the error of about to ``action`` ``path``."""
    try:
        yield
    except OSError as error:
        raise os_fault(error, action, path) from error


def _own_stream(found: os.stat_result) -> str:
    for descriptor, name in ((1, "output"), (2, "error")):
        with suppress(OSError):  # it is closed
            if os.path.samestat(os.fstat(descriptor), found):
                return f"where standard {name} goes"
    return ""


def _linked(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


# --- temporaries ------------------------------------------------------------------------------------------


@contextmanager
def _temporary(target: Path, make: Callable[[Path], int]) -> Iterator[Path]:
    """Make a new temporary of ``target``, locked while the context lasts; removed if it is still there at the end.

    make: makes the file or folder of a name, and returns a descriptor of it.
    """
    temporary, descriptor = _claim(target, make)
    try:
        with on_interrupt(partial(_remove, temporary)):
            try:
                yield temporary
            finally:
                _remove(temporary)
    finally:
        os.close(descriptor)


def _claim(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make a temporary and lock it; make another if a sweeper came between the two."""
    while True:
        temporary = _temporary_path(target, f".{secrets.token_hex(6)}.partial")
        descriptor = make(temporary)
        try:
            if lock(descriptor) is not False and os.path.samestat(os.fstat(descriptor), os.lstat(temporary)):
                return temporary, descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            _remove(temporary)
            os.close(descriptor)
            raise
        os.close(descriptor)


def _temporary_path(target: Path, ending: str) -> Path:
    return beside(target.with_name(f".{target.name}"), ending)


def _is_temporary_of(target: Path, path: Path) -> bool:
    ending = _ENDING.search(path.name)
    return ending is not None and path.name == _temporary_path(target, ending.group()).name


def _is_temporary_folder(path: Path) -> bool:
    return path.name.startswith(".") and bool(_ENDING.search(path.name)) and stat.S_ISDIR(path.lstat().st_mode)


def _open_new_folder(path: Path) -> int:
    path.mkdir(mode=0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _make_private(path: Path, mode: int) -> None:
    path.chmod(mode)
    if path.stat().st_mode & 0o077:
        raise EnvironmentFault(
            f"others could read what is kept in {path.parent}: its file system keeps no permissions",
            "name a folder on a file system that does, such as one in your home",
        )


def _sweep(folder: Path, is_temporary: Callable[[Path], bool]) -> None:
    """Remove the temporaries in ``folder`` that no living process is writing."""
    with suppress(OSError):  # a folder that can be written to but not read: nothing is to be found
        for path in folder.iterdir():
            with suppress(OSError):
                if is_temporary(path):
                    _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    """Remove a temporary unless its writer lives; it stays locked meanwhile, so that none takes it over."""
    access = os.O_RDONLY if path.is_dir() else os.O_RDWR  # NFS locks no file that is open for reading alone
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        locked = lock(descriptor)
        if locked or (locked is None and time.time() - os.fstat(descriptor).st_mtime > STALE_SECONDS):
            _remove(path)
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


def _flush_folders(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            flush_to_disk(path)


def _rename_folder(temporary: Path, target: Path) -> None:
    """Rename a folder to a name that must still be free (an empty folder may be taken over: nothing is lost)."""
    try:
        os.rename(temporary, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise exists_already(target) from error
        raise


def exists_already(target: Path) -> KeyFolderError:
    """Return the error for an output that would replace a key folder."""
    return KeyFolderError(
        f"{target} exists already",
        "nothing is overwritten: use what is there, remove it yourself, or name another folder with: keys DIR",
    )


@contextmanager
def standing_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Have the working directory be another inside this context; the one before may be none any more, or unreadable."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        os.chdir(folder)
        try:
            yield
        finally:
            os.fchdir(before)
    finally:
        os.close(before)


def working_directory_is_gone() -> bool:
    """Return whether the working directory has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder that only its owner can read, removed at the end however it comes."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise os_fault(error, "make", error.filename or "a temporary folder; TMPDIR names where") from error
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    with on_interrupt(remove):
        try:
            yield folder
        finally:
            remove()
