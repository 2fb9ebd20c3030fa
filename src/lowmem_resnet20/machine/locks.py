"""Locks on files and folders, which end with their process."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

#: What flock says on a file system that has no locks, or none on folders: there we go on without.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


def lock(descriptor: int) -> bool | None:
    """Take the lock of an open file or folder, and return whether it is held; None where the file system has none."""
    return _take(descriptor, fcntl.LOCK_EX)


def share(descriptor: int) -> bool | None:
    """Take a lock, as :func:`lock`, that others may hold as well, if they share it too."""
    return _take(descriptor, fcntl.LOCK_SH)


def _take(descriptor: int, kind: int) -> bool | None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


class FolderLock:
    """Held from :meth:`take` to :meth:`release`, or to the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Make the folder if it is missing, and lock it; False if another process holds it.

        Errors: OSError, also where a link has its name: who may put one there must not choose the folder.
        """
        while True:
            self.folder.mkdir(exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                locked = lock(descriptor) is not False
                same = _is_open_folder(self.folder, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if locked and same:
                self._descriptor = descriptor
                return True
            os.close(descriptor)
            if same:
                return False  # otherwise its holder has removed it meanwhile: try again on a new one

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_open_folder(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
