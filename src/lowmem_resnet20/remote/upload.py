"""Sending evaluation keys to a service, which keeps them: what it has already is not sent again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from ..errors import KeyFolderError, ServerError
from ..files.keystore import COPY_AGAIN, LONGEST_MANIFEST, MANIFEST, Manifest, check_size, read_manifest
from ..machine.files import os_errors, read_bounded, sha256
from ..network.parameters import ParameterSet
from ..progress.display import Progress, Step, format_bytes
from .connection import Connection
from .said import HttpAnswer, nonsense

#: So much is sent in one request; and shown as a step, or a little more.
PIECE_BYTES = 32 << 20
#: A file may start again so often, and go on no further than it was so often in a row.
_MOST_RESTARTS, _MOST_CORRECTIONS = 2, 8
_CORRECTED, _DAMAGED = 409, 422


def upload_keys(connection: Connection, folder: Path, set_: ParameterSet, progress: Progress) -> str:
    """Have the service hold the server's key folder; return the name by which it knows it, the manifest's SHA-256.

    The files are hashed only where the service finds another digest than the manifest's.

    Errors: KeyFolderError for a folder that is missing, incomplete, altered or of another set; as of ``connection``.
    """
    manifest, content = read_manifest(folder, set_), _manifest(folder)
    keys = _Keys(connection, folder, manifest, hashlib.sha256(content).hexdigest())
    for _ in range(_MOST_RESTARTS + 1):
        if keys.announce(content):
            return keys.name
        keys.send(progress)
    if keys.announce(content):
        return keys.name
    raise ServerError("the service has been sent all keys, and still has them not complete")


def forget_keys(connection: Connection, folder: Path) -> bool:
    """Have the service remove what :func:`upload_keys` has sent of a server's key folder; returns whether it was there.

    Errors: KeyFolderError for a folder without a manifest; as of ``connection``, also where jobs need the keys.
    """
    path = f"/v1/keys/{hashlib.sha256(_manifest(folder)).hexdigest()}"
    answer = connection.ask("DELETE", path, accept=(204, 404))
    if answer.status == 404:
        answer.fields()  # of something else than a service it is no JSON
    return answer.status == 204


def _manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    gone = KeyFolderError(f"there is no {path}, which tells a service which keys are meant")
    too_large = KeyFolderError(f"{path} is no manifest of this program", COPY_AGAIN)
    return read_bounded(path, LONGEST_MANIFEST, gone, too_large)


class _Keys:
    """Knows a key folder of ours, and what the service has of it.

    name: what the service knows it by.
    """

    def __init__(self, connection: Connection, folder: Path, manifest: Manifest, name: str) -> None:
        self.connection, self.folder, self.files = connection, folder, manifest.files
        self.name, self.path = name, f"/v1/keys/{name}"
        self.received = dict.fromkeys(self.files, 0)

    @property
    def received_bytes(self) -> int:
        return sum(self.received.values())

    def announce(self, manifest: bytes) -> bool:
        """Tell of the keys; returns whether the service has all of them."""
        return self._take(self.connection.ask("PUT", self.path, content=manifest, accept=(200, 201)))

    def look(self) -> None:
        """Ask how much is there.  Errors: Lost too."""
        self._take(self.connection.once("GET", self.path))

    def send(self, progress: Progress) -> None:
        """Send the missing parts of all files, whose sizes are looked at before the first is sent.

        Where the service has all bytes and has not looked at them, an empty piece of each file has it do so.
        """
        for name, record in self.files.items():
            check_size(self.folder / name, record)
        shown = _Shown(self, progress)
        all_there = self.received_bytes == shown.total_bytes
        for name, record in self.files.items():
            if all_there or self.received[name] < record.bytes:
                _File(self, name, shown).send()

    def _take(self, answer: HttpAnswer) -> bool:
        fields = answer.fields()
        files = fields.get("files")
        if not isinstance(fields.get("complete"), bool) or not isinstance(files, dict):
            raise nonsense("the state of keys")
        self.received = {name: self._count(name, files.get(name)) for name in self.files}
        return fields["complete"]

    def _count(self, name: str, told: object) -> int:
        """Return how much there is of a file, of which the service tells ``{"bytes": .., "received": ..}``."""
        received = told.get("received") if isinstance(told, dict) else None
        if type(received) is not int or not 0 <= received <= self.files[name].bytes:
            raise nonsense("the state of keys")
        return received


class _Shown:
    """Shows how far the upload has come: in steps of a piece, or of several where files are small, for the time of a
    small one would tell nothing of the others'."""

    def __init__(self, keys: _Keys, progress: Progress) -> None:
        self._keys, self._progress = keys, progress
        self.total_bytes = sum(record.bytes for record in keys.files.values())
        progress.start(f"sending keys to {keys.connection.address.url}")
        progress.expect(self._steps())
        self._begin()

    def go_on(self) -> None:
        if self._keys.received_bytes - self._began >= PIECE_BYTES:
            self._begin()

    def _begin(self) -> None:
        self._began = self._keys.received_bytes
        self._progress.step(*self._named(self._began))

    def _named(self, sent_bytes: int) -> tuple[str, str]:
        return "keys", f"{format_bytes(sent_bytes)} of {format_bytes(self.total_bytes)}"

    def _steps(self) -> list[Step]:
        sent = self._keys.received_bytes
        starts = [sent]
        for name, record in self._keys.files.items():
            for start in range(self._keys.received[name], record.bytes, PIECE_BYTES):
                if sent - starts[-1] >= PIECE_BYTES:
                    starts.append(sent)
                sent += min(PIECE_BYTES, record.bytes - start)
        ends = [*starts[1:], sent]
        return [
            Step(*self._named(start), "sending", end - start)
            for start, end in zip(starts, ends, strict=True)
            if start < end
        ]


class _File:
    """Sends one file."""

    def __init__(self, keys: _Keys, name: str, shown: _Shown) -> None:
        self._keys, self._name, self._shown = keys, name, shown
        self._record, self._path = keys.files[name], keys.folder / name
        self._restarts = self._corrections = 0
        self._sure = True  # of how much the service has

    def send(self) -> None:
        complete = False
        while not complete:
            self._shown.go_on()
            complete = self._keys.connection.persist(self._send_piece)

    def _send_piece(self) -> bool:
        """Return whether it was the last.  After a cut the service is first asked where to go on.  Errors: Lost too."""
        if not self._sure:
            self._keys.look()
            if self._keys.received[self._name] == self._record.bytes:
                return True
        offset = self._keys.received[self._name]
        piece = self._read(offset)
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        path = f"{self._keys.path}/files/{quote(self._name, safe='')}"
        self._sure = False
        answer = self._keys.connection.once(
            "PATCH", path, content=piece, headers=headers, accept=(204, _CORRECTED, _DAMAGED)
        )
        self._sure = True
        return self._go_on_from(self._after(answer, offset, len(piece)), offset)

    def _read(self, offset: int) -> bytes:
        with os_errors("read", self._path), open(self._path, "rb") as file:
            file.seek(offset)
            return file.read(min(PIECE_BYTES, self._record.bytes - offset))

    def _after(self, answer: HttpAnswer, offset: int, count: int) -> int:
        """Return where the service wants the next piece from."""
        if answer.status == _DAMAGED:
            self._check_digest()
            return 0
        told = answer.headers.get("upload-offset", "")
        if not (told.isascii() and told.isdigit() and len(told) < 16 and int(told) <= self._record.bytes):
            raise answer.refusal() if answer.status == _CORRECTED else nonsense("the offset of a file")
        if answer.status != _CORRECTED and int(told) != offset + count:
            raise nonsense("the offset of a file")
        return int(told)

    def _go_on_from(self, after: int, before: int) -> bool:
        self._keys.received[self._name] = after
        self._corrections = self._corrections + 1 if after <= before else 0
        if self._corrections > _MOST_CORRECTIONS:
            raise nonsense("the offset of a file")
        return after == self._record.bytes

    def _check_digest(self) -> None:
        """See whose fault it is that the service has found another."""
        self._restarts += 1
        if sha256(self._path) != self._record.sha256:
            raise KeyFolderError(f"{self._path} has been altered", COPY_AGAIN)
        if self._restarts > _MOST_RESTARTS:
            raise ServerError(
                f"what the service has of {self._name} is not what it was sent, {self._restarts} times over"
            )
