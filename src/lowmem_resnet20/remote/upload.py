"""Sending evaluation keys to a service, which keeps them: what it has already is not sent again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..errors import KeyFolderError, ServerError
from ..fhe.keystore import MANIFEST, FileRecord, Manifest, read_manifest
from ..machine.files import os_errors, read_bounded, sha256
from ..network.parameters import ParameterSet
from ..terminal.progress import Progress, Step, format_bytes
from .connection import Connection
from .said import Answer, nonsense

#: So much is sent in one request, and lost where a connection is cut; and shown as a step, or a little more.
PIECE_BYTES = 32 << 20
_LONGEST_MANIFEST = 1 << 20
_AGAIN = "copy it again from where it was made, or make new keys in another folder"
#: A file may start again so often, and go on no further than it was so often in a row.
_MOST_RESTARTS, _MOST_CORRECTIONS = 2, 8


@dataclass(frozen=True)
class _Received:
    """complete: the service has the folder; bytes: by file, how many it has."""

    complete: bool
    bytes: dict[str, int]


def upload_keys(connection: Connection, folder: Path, set_: ParameterSet, progress: Progress) -> str:
    """Have the service hold the server's key folder; returns the name by which it knows it, the manifest's SHA-256.

    The files are hashed only where the service finds another digest than the manifest's.

    Errors: KeyFolderError for a folder that is missing, incomplete, altered or of another set; as of ``connection``.
    """
    manifest = read_manifest(folder, set_)
    path = folder / MANIFEST
    gone = KeyFolderError(f"{path} is no manifest of this program", _AGAIN)
    content = read_bounded(path, _LONGEST_MANIFEST, gone, gone)
    upload = _Upload(connection, folder, manifest, hashlib.sha256(content).hexdigest(), progress)
    for _ in range(_MOST_RESTARTS + 1):
        received = upload.announce(content)
        if received.complete:
            return upload.name
        upload.send(received)
    if upload.announce(content).complete:
        return upload.name
    raise ServerError("the service has been sent all keys, and still has them not complete")


class _Upload:
    """One key folder on its way."""

    def __init__(self, connection: Connection, folder: Path, manifest: Manifest, name: str, progress: Progress) -> None:
        self.connection, self.folder, self.files = connection, folder, manifest.files
        self.name, self.path, self.progress = name, f"/v1/keys/{name}", progress
        self.total_bytes = sum(record.bytes for record in self.files.values())
        self.sent_bytes = self.shown_bytes = 0

    def announce(self, manifest: bytes) -> _Received:
        """Tell of the keys; the answer says what is there already."""
        return self._received(self.connection.ask("PUT", self.path, content=manifest, accept=(200, 201)))

    def _received(self, answer: Answer) -> _Received:
        fields = answer.fields()
        files = fields.get("files")
        if not isinstance(fields.get("complete"), bool) or not isinstance(files, dict):
            raise nonsense("the state of keys")
        return _Received(fields["complete"], {name: self._count(name, files.get(name)) for name in self.files})

    def _count(self, name: str, told: object) -> int:
        """Of a file, of which the service tells ``{"bytes": .., "received": ..}``."""
        received = told.get("received") if isinstance(told, dict) else 0
        if type(received) is not int or not 0 <= received <= self.files[name].bytes:
            raise nonsense("the state of keys")
        return received

    def send(self, received: _Received) -> None:
        """The missing parts of all files, whose sizes are looked at before the first is sent."""
        for name, record in self.files.items():
            _check_size(self.folder / name, record)
        self.sent_bytes = sum(received.bytes.values())
        self.progress.start(f"sending keys to {self.connection.address.url}")
        self.progress.expect(self._steps(received))
        self.shown_bytes = self.sent_bytes
        self.progress.step(*self._shown(self.sent_bytes))
        all_there = self.sent_bytes == self.total_bytes  # and none has been looked at: an empty piece has that done
        for name, offset in received.bytes.items():
            if offset < self.files[name].bytes or all_there:
                self._send_file(name, offset)

    def _steps(self, received: _Received) -> list[Step]:
        """Each of a piece, or of several where files are small: their time would tell nothing of the others'."""
        starts, sent = [self.sent_bytes], self.sent_bytes
        for name, offset in received.bytes.items():
            for start in range(offset, self.files[name].bytes, PIECE_BYTES):
                if sent - starts[-1] >= PIECE_BYTES:
                    starts.append(sent)
                sent += min(PIECE_BYTES, self.files[name].bytes - start)
        return [
            Step(*self._shown(start), "sending", end - start)
            for start, end in zip(starts, [*starts[1:], sent], strict=True)
            if start < end
        ]

    def _shown(self, sent_bytes: int) -> tuple[str, str]:
        return "keys", f"{format_bytes(sent_bytes)} of {format_bytes(self.total_bytes)}"

    def _show(self) -> None:
        """Another step, where enough has been sent since the last."""
        if self.sent_bytes - self.shown_bytes >= PIECE_BYTES:
            self.shown_bytes = self.sent_bytes
            self.progress.step(*self._shown(self.sent_bytes))

    def _send_file(self, name: str, offset: int) -> None:
        restarts = corrections = 0
        complete = False
        while not complete:
            answer = self._send_piece(name, offset)
            if answer.status == 422:
                restarts += 1
                self._check_digest(name, restarts)
                after = 0
            else:
                after = self._offset(name, answer)
                corrections = corrections + 1 if after <= offset else 0
            if corrections > _MOST_CORRECTIONS:
                raise nonsense("the offset of a file")
            self.sent_bytes += after - offset
            offset, complete = after, after == self.files[name].bytes

    def _send_piece(self, name: str, offset: int) -> Answer:
        """204: taken; 409: it goes on elsewhere; 422: the file is whole and its digest another."""
        self._show()
        with os_errors("read", self.folder / name), open(self.folder / name, "rb") as file:
            file.seek(offset)
            piece = file.read(min(PIECE_BYTES, self.files[name].bytes - offset))
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        path = f"{self.path}/files/{quote(name, safe='')}"
        answer = self.connection.ask("PATCH", path, content=piece, headers=headers, accept=(204, 409, 422))
        if answer.status == 204 and self._offset(name, answer) != offset + len(piece):
            raise nonsense("the offset of a file")
        return answer

    def _offset(self, name: str, answer: Answer) -> int:
        told = answer.headers.get("upload-offset", "")
        if not (told.isascii() and told.isdigit() and len(told) < 16 and int(told) <= self.files[name].bytes):
            raise answer.refusal() if answer.status == 409 else nonsense("the offset of a file")
        return int(told)

    def _check_digest(self, name: str, restarts: int) -> None:
        """The service has found another: whose fault it is."""
        if sha256(self.folder / name) != self.files[name].sha256:
            raise KeyFolderError(f"{self.folder / name} has been altered", _AGAIN)
        if restarts > _MOST_RESTARTS:
            raise ServerError(f"what the service has of {name} is not what it was sent, {restarts} times over")


def _check_size(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        raise KeyFolderError(f"{path} is missing", _AGAIN)
    if path.stat().st_size != record.bytes:
        raise KeyFolderError(f"{path} has {path.stat().st_size} bytes instead of {record.bytes}", _AGAIN)
