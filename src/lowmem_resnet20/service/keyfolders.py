"""Key folders that clients upload: named by client and manifest's digest, received in pieces, visible when complete.

Of a name CLIENT/K, uploads/CLIENT/K/server/ holds the manifest and each file that is complete and has its digest,
uploads/CLIENT/K/parts/ those of which only a beginning is there: how far an upload has come is what lies on the disk.
When the last file is complete the whole becomes keys/CLIENT/K by one rename.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault, KeyFolderError, naming
from ..files.keystore import MANIFEST, SERVER, FileRecord, Manifest, set_of
from ..machine.files import atomic_write, flush_to_disk, sha256
from ..network.architecture import Architecture
from ..network.parameters import ParameterSet
from .keyfiles import kept, offered
from .limits import Limits
from .refusals import Refused, unknown
from .store import Store, client_and_digest, make_room, remove, tidy

_PARTS = "parts"
_CALLED = "the key folder"
#: Of the offset in a file that the next piece has to start from.
OFFSET = "Upload-Offset"


@dataclass(frozen=True)
class _Folder:
    """A key folder, complete or not, as it lies on the disk."""

    path: Path
    manifest: Manifest

    def record(self, file: str) -> FileRecord:
        """Return what the manifest says of a file.  Errors: Refused if it names none of that name."""
        if file not in self.manifest.files:
            raise unknown("such file of these keys")
        return self.manifest.files[file]

    def whole(self, file: str) -> Path:
        return self.path / SERVER / file

    def part(self, file: str) -> Path:
        return self.path / _PARTS / file

    def received(self, file: str) -> int:
        """Return how many bytes are there."""
        for path in (self.whole(file), self.part(file)):
            with suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def lacking(self) -> int:
        """Return how many bytes are not."""
        return sum(record.bytes - self.received(file) for file, record in self.manifest.files.items())

    def is_whole(self) -> bool:
        return all(self.whole(file).exists() for file in self.manifest.files)


class KeyFolders:
    """Receives and keeps key folders.

    number, architecture: of the parameter set and the network that they have to serve.

    Errors, of every method: Refused, EnvironmentFault, OSError; KeyFolderError where this version of the program cannot
    use a folder that is kept.
    """

    def __init__(self, store: Store, number: int, architecture: Architecture, limits: Limits) -> None:
        self._store, self._number, self._architecture, self._limits = store, number, architecture, limits
        self._manifests: dict[str, Manifest] = {}

    def recover(self) -> None:
        """Check at the start what was received whole when a former service was killed; remove what this version of the
        program cannot use."""
        for name in _names_in(self._store.uploads):
            try:
                files = self._find(name).manifest.files
            except KeyFolderError:
                self.remove(name)
                continue
            for file in files:
                with suppress(Refused):  # damaged: its client sends it again
                    self.finish(name, file)

    def count(self) -> dict[str, int]:
        """Count those that are complete, and those on their way."""
        return {
            "complete": len(_names_in(self._store.keys)),
            "uploading": len(_names_in(self._store.uploads)),
        }

    def offer(self, name: str, manifest: bytes) -> bool:
        """Hear what a client has; returns whether that is new here, of this client."""
        if hashlib.sha256(manifest).hexdigest() != client_and_digest(name)[1]:
            raise Refused(422, "the manifest's SHA-256 is not the name it was sent under")
        with self._store.changes:
            if self._where(name):
                return False
        new = self._store.incoming / secrets.token_hex(8)
        try:
            folder = self._described(new, manifest)
            with self._store.changes:
                if self._where(name):
                    return False
                self._check_quota(folder)
                make_room(self._store.uploads / name)
                new.rename(self._store.uploads / name)
                flush_to_disk((self._store.uploads / name).parent)
        finally:
            remove(new)
        return True

    def status(self, name: str) -> dict[str, Any]:
        """Return how much of each file is there."""
        with self._store.changes:
            folder = self._find(name)
            files = {
                file: {"bytes": record.bytes, "received": folder.received(file)}
                for file, record in folder.manifest.files.items()
            }
            return {"complete": self._is_complete(folder), "files": files}

    def size(self, name: str, file: str) -> int:
        """Return how many bytes a file is to have."""
        return self._find(name).record(file).bytes

    def append(self, name: str, file: str, offset: int, piece: bytes) -> int:
        """Add a piece that starts at ``offset``; returns where the next one starts.

        Of two who send the same file at once the first to write goes on, and the other is told where that one is.
        """
        with self._store.changes:
            folder = self._find(name)
            size, received = folder.record(file).bytes, folder.received(file)
            if offset != received:
                raise Refused(
                    409, f"the next piece starts at {received}, not {offset}", headers={OFFSET: str(received)}
                )
            if offset + len(piece) > size:
                raise Refused(
                    413, f"the manifest says that this file has {size} bytes", headers={OFFSET: str(received)}
                )
            if piece:
                self._store.check_room(len(piece) + self._limits.free_bytes, "these keys")
                with open(folder.part(file), "ab") as part:
                    part.write(piece)
            return offset + len(piece)

    def finish(self, name: str, file: str) -> bool:
        """Keep a request's pieces through a power cut, and check the file if all of it is there.  Returns whether the
        folder has become complete."""
        folder = self._find(name)
        record, part = folder.record(file), folder.part(file)
        with suppress(FileNotFoundError):  # another request has finished it, or the keys were deleted
            flush_to_disk(part)
            _, size, _ = state = _state(part)
            if size == record.bytes:
                digest = _digest(part)
                with self._store.changes:
                    if _state(part) == state:  # otherwise the keys were deleted meanwhile, and are sent again
                        self._settle(folder, file, sound=digest == record.sha256)
        with self._store.changes:
            uploading = not self._is_complete(folder) and folder.path.exists()
            if uploading and folder.is_whole():
                self._publish(folder, self._store.keys / name)
                return True
        return False

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a folder that is complete."""
        folder = self._find(name)
        if not self._is_complete(folder):
            hint = f"send the rest: GET /v1/keys/{client_and_digest(name)[1]} tells what"
            raise Refused(409, "the key folder is not complete yet", hint)
        return folder.manifest

    def set_of(self, name: str) -> ParameterSet:
        """Return the set that the keys of a complete folder are of, for the service's network."""
        return set_of(self._store.keys / name, self.manifest(name), self._architecture)

    def remove(self, name: str) -> None:
        """Remove a folder; the caller has seen that no job needs it."""
        remove(self.set_aside(name))

    def set_aside(self, name: str) -> Path:
        """Do as :meth:`remove`, but for the gigabytes themselves: return where they are now.  The caller removes them
        when it holds no lock."""
        gone = self._store.incoming / secrets.token_hex(8)
        with self._store.changes:
            path = self._where(name)
            if path is None:
                raise unknown("such key folder")
            path.rename(gone)
            tidy(path)
            self._manifests.pop(name, None)
        return gone

    def uploading(self) -> dict[str, str]:
        """Return, by the name of each folder that is on its way, what is another text whenever a piece has come."""
        with self._store.changes:
            return {name: _progress(self._store.uploads / name) for name in _names_in(self._store.uploads)}

    def complete(self) -> list[str]:
        """Return the names of those that are complete."""
        return _names_in(self._store.keys)

    def _is_complete(self, folder: _Folder) -> bool:
        return folder.path.is_relative_to(self._store.keys)

    def _where(self, name: str) -> Path | None:
        return next((at / name for at in (self._store.keys, self._store.uploads) if (at / name).is_dir()), None)

    def _find(self, name: str) -> _Folder:
        with self._store.changes:
            path = self._where(name)
            if path is None:
                raise unknown("such key folder")
            if name not in self._manifests:
                with naming({path / SERVER: _CALLED}):
                    self._manifests[name] = kept(path / SERVER, self._number, self._architecture)
            return _Folder(path, self._manifests[name])

    def _described(self, new: Path, manifest: bytes) -> _Folder:
        """Make a new folder that holds no more than the manifest, once that has been checked."""
        (new / SERVER).mkdir(parents=True)
        (new / _PARTS).mkdir()
        atomic_write(new / SERVER / MANIFEST, manifest)
        flush_to_disk(new)
        with naming({new / SERVER: _CALLED}):
            return _Folder(new, offered(new / SERVER, self._number, self._architecture))

    def _check_quota(self, folder: _Folder) -> None:
        if sum(self.count().values()) >= self._limits.key_folders:
            hint = "have one deleted that is done with: DELETE /v1/keys/K"
            raise Refused(409, f"the service keeps {self._limits.key_folders} key folders at most", hint)
        promised = sum(self._find(name).lacking() for name in _names_in(self._store.uploads))
        self._store.check_room(promised + folder.lacking() + self._limits.free_bytes, "these keys")

    def _settle(self, folder: _Folder, file: str, *, sound: bool) -> None:
        """Keep a file that has all its bytes, if it is the right one; otherwise it begins again."""
        part = folder.part(file)
        if not sound:
            part.unlink()
            hint = "it was damaged on its way, or is another than the manifest's: send it again"
            raise Refused(422, f"{file} has another SHA-256 than the manifest says", hint, {OFFSET: "0"})
        part.rename(folder.whole(file))

    def _publish(self, folder: _Folder, target: Path) -> None:
        for path in (folder.path / SERVER, folder.path):
            flush_to_disk(path)
        remove(folder.path / _PARTS)
        make_room(target)
        os.rename(folder.path, target)
        flush_to_disk(target.parent)
        flush_to_disk(folder.path.parent)
        tidy(folder.path)


def _names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*") if path.is_dir())


def _progress(folder: Path) -> str:
    files = [path.stat() for path in folder.glob("*/*") if path.is_file()]
    return f"{sum(found.st_size for found in files)} {max((found.st_mtime_ns for found in files), default=0)}"


def _state(part: Path) -> tuple[int, int, int]:
    """Return inode, bytes and time: others if it is another file, though of the same name and content.

    Errors: FileNotFoundError.
    """
    found = part.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(part: Path) -> str:
    """Return its SHA-256.  Errors: FileNotFoundError if it has gone; EnvironmentFault."""
    try:
        return sha256(part)
    except EnvironmentFault as fault:
        if isinstance(fault.__cause__, FileNotFoundError):
            raise fault.__cause__ from None
        raise
