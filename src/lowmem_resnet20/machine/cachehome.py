"""Where this machine's user keeps what can be made again."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def cache_home() -> Path:
    """Return ``lowmem-resnet20`` in XDG_CACHE_HOME, which counts only if it does not depend on the working directory,
    else in ``~/.cache``; it need not be there.

    Errors: OSError where the user has no home folder.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no home folder
        base = Path()
    if not base.is_absolute():
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder", "~")
    return base / "lowmem-resnet20"


def make_private_folder(path: Path) -> int:
    """Return a descriptor of a folder that this process's user alone can look into and write to.  It is made (0700) if
    it is missing, and so are those it lies in, whatever the umask.

    What is opened relative to the descriptor is this user's, whoever may write to the folders above.
    Errors: OSError, also where a link has its name, or another user owns the folder or may look into it.
    """
    for folder in (*reversed(path.parents), path):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError:  # such as that of a disk that is only read
            if not folder.is_dir():
                raise
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return descriptor
    os.close(descriptor)
    who = "it is another user's" if found.st_uid != os.geteuid() else "others may look into it or change it"
    raise PermissionError(errno.EPERM, who, str(path))
