"""The folder that an evaluation leaves after each part of the network, so that it can go on after it was killed.

A folder beside the result, RESULT.unfinished: the ciphertexts between two parts, and a manifest that names the part,
the digest of each ciphertext and all that the run depends on.  New ciphertexts are written first, then the manifest is
replaced, then the old ones are removed: whenever the process dies, the manifest names files that are there.  The folder
is locked while a run uses it.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import CiphertextError, EnvironmentFault
from ..machine.files import atomic_write, beside, os_errors, os_fault
from ..machine.locks import FolderLock
from .envelope import LOGITS, STATE, Belonging, Envelope, Facts, read_envelope, write_envelope

FORMAT = 2
MANIFEST = "manifest.json"
#: No part of the network ends in more ciphertexts: four that hold a group of eight pictures in the first stage.
MOST_CIPHERTEXTS = 4
_LONGEST_MANIFEST = 1 << 16
#: Names of files in the folder: the manifest, ciphertexts, and what a killed process was writing of either.
_OURS = re.compile(r"manifest\.json|[^/]+\.ct|\..+\.[0-9a-f]{12}\.partial", re.DOTALL)


def unfinished_folder(output: Path) -> Path:
    """Return the folder in which an evaluation leaves what it has of a result."""
    return beside(output, ".unfinished")


@dataclass(frozen=True)
class Unfinished:
    """The folder of one run.

    output: the file of the result;
    belonging, picture: of the encrypted picture that the run evaluates.
    """

    output: Path
    belonging: Belonging
    picture: str
    lock: FolderLock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lock", FolderLock(self.folder))

    @property
    def folder(self) -> Path:
        return unfinished_folder(self.output)

    def is_finished(self) -> bool:
        """Return whether the output is the result of this very run already."""
        if not self.output.is_file():
            return False
        try:
            facts = read_envelope(self.output).facts
        except CiphertextError:
            return False
        return facts == Facts.of(self.belonging, LOGITS, self.picture)

    def begin(self, *, resume: bool) -> None:
        """Take the folder for this run alone; without ``resume``, clear what another has left.

        Errors: EnvironmentFault, also where another evaluation to the same output is going on, and where the folder is
        a link, or holds what no evaluation left: it is removed at the end.
        """
        try:
            taken = self.lock.take()
        except OSError as error:
            raise os_fault(error, "write", self.folder) from error
        if not taken:
            raise EnvironmentFault(
                f"another evaluation is writing {self.output}", "wait for it, or name another output"
            )
        try:
            with os_errors("write", self.folder):
                self._clear(keep=resume)
        except EnvironmentFault:
            self.lock.release()
            raise

    def _clear(self, *, keep: bool) -> None:
        """Remove what is there, unless it is to be kept; all of it must be such as :meth:`save` leaves."""
        paths = list(self.folder.iterdir())
        for path in paths:
            if not stat.S_ISREG(path.lstat().st_mode) or not _OURS.fullmatch(path.name):
                raise EnvironmentFault(
                    f"{self.folder} holds {path.name}, which no evaluation has left there",
                    "move it elsewhere, or name another output",
                )
        for path in () if keep else paths:
            path.unlink()

    def save(self, part: str, state: Sequence[bytes]) -> None:
        """Keep the bytes of the ciphertexts after ``part``, in place of any earlier ones.  Errors: EnvironmentFault."""
        facts = Facts.of(self.belonging, STATE, self.picture, part)
        files = {}
        for i, payload in enumerate(state):
            files[_name(part, i)] = write_envelope(self.folder / _name(part, i), payload, facts)
        manifest = {"format": FORMAT, "part": part, "files": files, "picture": self.picture} | asdict(self.belonging)
        atomic_write(self.folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for path in self.folder.glob("*.ct"):
            if path.name not in files:
                path.unlink(missing_ok=True)

    def load(self, parts: Sequence[str]) -> tuple[str, tuple[Envelope, ...]] | None:
        """Return the last complete part, one of ``parts``, and the ciphertexts after it; None if none was kept.

        Errors: CiphertextError if it is of another run, or damaged.
        """
        try:
            with open(self.folder / MANIFEST, "rb") as file:
                text = file.read(_LONGEST_MANIFEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise os_fault(error, "read", self.folder / MANIFEST) from error
        part, files = self._check(text, parts)
        return part, tuple(self._read(name, digest, part) for name, digest in files.items())

    def end(self) -> None:
        """Let go of the folder, and remove it unless there is something in it to go on from."""
        if not (self.folder / MANIFEST).exists():
            self.remove()
        self.lock.release()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, text: bytes, parts: Sequence[str]) -> tuple[str, Mapping[str, str]]:
        try:
            fields = json.loads(text)
            part, files = fields["part"], fields["files"]
            kept = {name: fields[name] for name in ("picture", *asdict(self.belonging))}
            sound = fields["format"] == FORMAT and part in parts and 0 < len(files) <= MOST_CIPHERTEXTS
            sound = sound and isinstance(files, dict)
            sound = sound and list(files) == [_name(part, i) for i in range(len(files))]
        except (ValueError, TypeError, KeyError, RecursionError):
            sound = False
        if not sound:
            raise CiphertextError(f"{self.folder} was not left by this program's evaluation", _AFRESH)
        for name, ours in {"picture": self.picture, **asdict(self.belonging)}.items():
            if kept[name] != ours:
                raise CiphertextError(f"{self.folder} was left by another run: its {name} differs", _AFRESH)
        return part, files

    def _read(self, name: str, digest: str, part: str) -> Envelope:
        envelope = read_envelope(self.folder / name)
        if envelope.digest != digest or envelope.facts != Facts.of(self.belonging, STATE, self.picture, part):
            raise CiphertextError(f"{envelope.path} is another ciphertext than was left there", _AFRESH)
        return envelope


def _name(part: str, index: int) -> str:
    return f"{part}-{index}.ct"


_AFRESH = "leave out the word resume to start afresh"
