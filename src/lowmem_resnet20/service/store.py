"""The folder of a service: where each thing lies, and that one service at a time uses it.

token; clients.sqlite; limits.json, if the operator wrote one; jobs.sqlite; ages.json; incoming/: what is being
received; uploads/CLIENT/K/: a key folder of which not all is there yet; keys/CLIENT/K/server/: one that is complete;
jobs/ID/: picture.ct, and result.ct when it is done.

The name of a key folder is CLIENT/K: each client has its own, of the same keys too, and none learns of another's.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from ..errors import EnvironmentFault
from ..files.resume import unfinished_folder
from ..machine.files import flush_to_disk, make_folder, os_errors
from ..machine.locks import FolderLock
from .clients import FIRST
from .refusals import disk_full

PICTURE, RESULT = "picture.ct", "result.ct"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Store:
    """Names the files of a service, from :meth:`open` to the end of the process its own.

    folder: may be a link, as systemd makes one of a StateDirectory;
    changes: held while files and what the queue says of them are brought in line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token, self.limits, self.database = folder / "token", folder / "limits.json", folder / "jobs.sqlite"
        self.clients = folder / "clients.sqlite"
        self.incoming, self.uploads = folder / "incoming", folder / "uploads"
        self.keys, self.jobs = folder / "keys", folder / "jobs"
        self.ages = folder / "ages.json"
        self.changes = threading.RLock()
        self._real = Path(os.path.realpath(folder))
        self._lock = FolderLock(self._real)

    def open(self) -> None:
        """Make what is missing, and remove what was being received when a former service ended.  Keys of a time before
        clients had names become the first's.

        Errors: EnvironmentFault, also where another service uses the folder.
        """
        with os_errors("use", self.folder):
            make_folder(self._real, mode=0o700)
            if not self._lock.take():
                raise EnvironmentFault(
                    f"another service uses {self.folder}", "stop that one, or name another folder: store DIR"
                )
            for folder in (self.incoming, self.uploads, self.keys, self.jobs):
                folder.mkdir(mode=0o700, exist_ok=True)
            for folder in (self.uploads, self.keys):
                for path in [path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)]:
                    make_room(folder / FIRST / path.name)
                    path.rename(folder / FIRST / path.name)
            flush_to_disk(self.folder)
            for path in self.incoming.iterdir():
                remove(path)

    def close(self) -> None:
        self._lock.release()

    def picture(self, job: str) -> Path:
        return self.jobs / job / PICTURE

    def result(self, job: str) -> Path:
        return self.jobs / job / RESULT

    def unfinished(self, job: str) -> Path:
        """Return the folder of what an evaluation that was killed has left."""
        return unfinished_folder(self.result(job))

    def take_in(self, path: Path, job: str) -> None:
        """Have a received ciphertext be the job's, also through a power cut.  Errors: OSError."""
        target = self.picture(job)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        flush_to_disk(path)
        path.replace(target)
        flush_to_disk(target.parent)
        flush_to_disk(self.jobs)

    def remove_job(self, job: str) -> None:
        remove(self.jobs / job)

    def check_room(self, needed_bytes: int, what: str) -> None:
        """Raise Refused if the disk has no room for ``what``."""
        free = shutil.disk_usage(self.folder).free
        if free < needed_bytes:
            raise disk_full(f"{what} would leave the service's disk too little room")


def keys_named(client: str, digest: str) -> str:
    """Return the name of a client's key folder.

    digest: the SHA-256 of its manifest.
    """
    return f"{client}/{digest}"


def client_and_digest(keys: str) -> tuple[str, str]:
    """Return whose a key folder of this name is, and the SHA-256 of its manifest."""
    client, _, digest = keys.partition("/")
    return client, digest


def facts_of(keys: str) -> dict[str, str]:
    """Return what the log says of a key folder."""
    return dict(zip(("client", "keys"), client_and_digest(keys), strict=True))


def make_room(path: Path) -> None:
    """Make the client's folder that a key folder of this path is to lie in.  Errors: OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    flush_to_disk(path.parent.parent)


def tidy(path: Path) -> None:
    """Remove the client's folder that a key folder of this path lay in, if no other does."""
    with suppress(OSError):
        path.parent.rmdir()


def remove(path: Path) -> None:
    """Remove a file, or a folder and all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
