"""The two key folders, client/ and server/, and the manifest in each.

client/: context, public key, secret key.  server/: context, public key, relinearisation key and rotation keys.
Rotation keys are divided by the stages that use them, so that each is stored once and a stage loads no other.

The manifest is written last and names every file with its size and SHA-256; nothing is read before it agrees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import KeyFolderError
from ..machine.files import atomic_write, os_fault, sha256
from ..network.parameters import ParameterSet
from .context import openfhe_version

FORMAT = 1
MANIFEST = "manifest.json"
CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY = "context.bin", "public.key", "relinearisation.key"
#: Keys that bootstrapping of any stage needs.
BOOTSTRAPPING_KEYS = "bootstrapping.key"
CLIENT, SERVER = "client", "server"
_LONGEST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """set, fingerprint: number and choices of the parameter set; keys: id of the key pair; rotations: by file of
    rotation keys, the steps it holds; stages: by stage, the files to load; bootstrapping: by stage, the steps its
    bootstrapping does.  The last three are empty in the client's."""

    set: int
    fingerprint: str
    openfhe: str
    keys: str
    files: Mapping[str, FileRecord]
    rotations: Mapping[str, list[int]] = field(default_factory=dict)
    stages: Mapping[str, list[str]] = field(default_factory=dict)
    bootstrapping: Mapping[str, list[int]] = field(default_factory=dict)
    format: int = FORMAT

    def steps(self, stage: int) -> frozenset[int]:
        """The rotations that a stage's files hold."""
        return frozenset(step for name in self.stages.get(str(stage), ()) for step in self.rotations[name])


def key_id(public_key: Path) -> str:
    """Names a key pair in ciphertexts and manifests."""
    return sha256(public_key)[:16]


def write_manifest(
    folder: Path,
    set_: ParameterSet,
    keys: str,
    *,
    rotations: Mapping[str, list[int]] | None = None,
    stages: Mapping[str, list[str]] | None = None,
    bootstrapping: Mapping[str, list[int]] | None = None,
) -> None:
    """Describe every file that is in ``folder``."""
    files = {path.name: FileRecord(path.stat().st_size, sha256(path)) for path in sorted(folder.iterdir())}
    lists = rotations or {}, stages or {}, bootstrapping or {}
    manifest = Manifest(set_.number, set_.fingerprint, openfhe_version(), keys, files, *lists)
    atomic_write(folder / MANIFEST, (json.dumps(asdict(manifest), indent=1) + "\n").encode())


def open_folder(folder: Path, set_: ParameterSet) -> Manifest:
    """Check a key folder against its manifest, every byte of it.

    Errors: KeyFolderError for a missing folder or manifest, another format, set or OpenFHE version, and a
    missing, truncated or altered file.
    """
    manifest = read_manifest(folder, set_)
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise KeyFolderError(f"{path} is missing", _AGAIN)
        if path.stat().st_size != record.bytes:
            raise KeyFolderError(f"{path} has {path.stat().st_size} bytes instead of {record.bytes}", _AGAIN)
    with ThreadPoolExecutor() as pool:  # gigabytes: as fast as the cores and the disk are
        digests = pool.map(sha256, (folder / name for name in manifest.files))
        for (name, record), digest in zip(manifest.files.items(), digests, strict=True):
            if digest != record.sha256:
                raise KeyFolderError(f"{folder / name} has been altered", _AGAIN)
    return manifest


_AGAIN = "copy it again from where it was made, or make new keys in another folder"


def read_manifest(folder: Path, set_: ParameterSet) -> Manifest:
    """The manifest, if it is for this program, set and library."""
    manifest = _parse(folder)
    if manifest.set != set_.number:
        raise KeyFolderError(f"{folder} holds keys of set {manifest.set}, not {set_.number}")
    if manifest.fingerprint != set_.fingerprint:
        raise KeyFolderError(
            f"{folder} was made by a version of this program whose set {set_.number} was another",
            f"make new keys: lowmem-resnet20 generate_keys {set_.number}",
        )
    if manifest.openfhe != openfhe_version():
        raise KeyFolderError(
            f"{folder} was made with OpenFHE {manifest.openfhe}, and this is {openfhe_version()}",
            "install that version, or make new keys",
        )
    return manifest


def _parse(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise KeyFolderError(f"there is no key folder {folder}", "make it with: lowmem-resnet20 generate_keys N")
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST_MANIFEST)
    except FileNotFoundError:
        raise KeyFolderError(f"{folder} has no {MANIFEST}", _AGAIN) from None
    except OSError as error:
        raise os_fault(error, "read", path) from error
    try:
        fields = json.loads(text)
        found = fields.get("format")
        if found == FORMAT:
            return _checked(fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise KeyFolderError(f"{path} is not a manifest of this program") from None
    raise KeyFolderError(f"{path} has format {found!r}, and this program reads {FORMAT}")


def _checked(fields: dict) -> Manifest:
    """A manifest whose every field has its type, and whose file names stay in the folder."""
    files = {name: FileRecord(**record) for name, record in fields.pop("files").items()}
    manifest = Manifest(files=files, **fields)
    names = [*files, *manifest.rotations, *(name for names in manifest.stages.values() for name in names)]
    steps = [s for lists in (manifest.rotations, manifest.bootstrapping) for steps in lists.values() for s in steps]
    typed = (
        isinstance(manifest.set, int)
        and all(isinstance(text, str) for text in (manifest.fingerprint, manifest.openfhe, manifest.keys, *names))
        and all(isinstance(r.bytes, int) and isinstance(r.sha256, str) for r in files.values())
        and all(isinstance(step, int) for step in steps)
        and all(name in files for name in names)
        and all(name == Path(name).name and name not in ("", ".", "..") for name in names)
    )
    if not typed:
        raise ValueError("wrong types")
    return manifest
