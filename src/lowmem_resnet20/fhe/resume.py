"""What an evaluation leaves after each part of the network, so that it can go on after it was killed.

A folder beside the result, RESULT.unfinished: the ciphertexts between two parts, and a manifest that names the part and,
by hash, everything the run depends on.  New ciphertexts are written first, then the manifest is replaced, then the old
ones are removed: whenever the process dies, the manifest names files that are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import CiphertextError
from ..machine.files import atomic_write, make_folder, os_fault
from .ciphertexts import STATE, Facts, read_ciphertext, write_ciphertext
from .library import Ciphertext

FORMAT = 1
MANIFEST = "manifest.json"
#: No part of the network ends in more ciphertexts.
MOST_CIPHERTEXTS = 2
_LONGEST_MANIFEST = 1 << 16


@dataclass(frozen=True)
class Run:
    """All that an evaluation depends on.  input: SHA-256 of the encrypted picture; weights, set: fingerprints; keys:
    id of the keys."""

    input: str
    weights: str
    set: str
    keys: str


@dataclass(frozen=True)
class Unfinished:
    """The folder of one run."""

    folder: Path
    run: Run

    @classmethod
    def beside(cls, output: Path, run: Run) -> Unfinished:
        return cls(output.with_name(output.name + ".unfinished"), run)

    def save(self, part: str, state: Sequence[Ciphertext]) -> None:
        """Keep the ciphertexts after ``part``, in place of any earlier ones.  Errors: EnvironmentFault."""
        make_folder(self.folder, parents=False)
        names = [f"{part}-{i}.ct" for i in range(len(state))]
        for name, ciphertext in zip(names, state, strict=True):
            write_ciphertext(self.folder / name, ciphertext, Facts(STATE, self.run.keys, part))
        manifest = {"format": FORMAT, "part": part, "files": names} | asdict(self.run)
        atomic_write(self.folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for path in self.folder.glob("*.ct"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def load(self, parts: Sequence[str]) -> tuple[str, tuple[Ciphertext, ...]] | None:
        """The last complete part, one of ``parts``, and the ciphertexts after it; None if nothing was kept.

        Errors: CiphertextError if it is of another run, or damaged.
        """
        try:
            with open(self.folder / MANIFEST, "rb") as file:
                text = file.read(_LONGEST_MANIFEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise os_fault(error, "read", self.folder / MANIFEST) from error
        part, names = self._check(text, parts)
        return part, tuple(self._read(name, part) for name in names)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, text: bytes, parts: Sequence[str]) -> tuple[str, list[str]]:
        try:
            fields = json.loads(text)
            kept = Run(**{name: fields[name] for name in asdict(self.run)})
            part, names = fields["part"], fields["files"]
            sound = fields["format"] == FORMAT and part in parts and 0 < len(names) <= MOST_CIPHERTEXTS
        except (ValueError, TypeError, KeyError, RecursionError):
            sound = False
        if not sound or names != [f"{part}-{i}.ct" for i in range(len(names))]:
            raise CiphertextError(f"{self.folder} was not left by this program's evaluation", _AFRESH)
        for name, ours in asdict(self.run).items():
            if getattr(kept, name) != ours:
                raise CiphertextError(f"{self.folder} was left by another run: its {name} differ(s)", _AFRESH)
        return part, names

    def _read(self, name: str, part: str) -> Ciphertext:
        path = self.folder / name
        ciphertext, facts = read_ciphertext(path, STATE, self.run.keys)
        if facts.layer != part:
            raise CiphertextError(f"{path} is of another part of the network", _AFRESH)
        return ciphertext


_AFRESH = "leave out the word resume to start afresh"
