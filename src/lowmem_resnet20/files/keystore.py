"""The two key folders, client/ and server/, and the manifest in each.

client/: context, public key, secret key.  server/: context, public key, relinearisation key and rotation keys.
OpenFHE's rotation keys are divided by the stages that use them, so that each is stored once and a stage loads no other;
native keys have a file each, and the chain of primes one (:mod:`..native.keys`).

The manifest is written last and names every file with its size and SHA-256; nothing is read before it agrees, and no
file is larger than the set can make it: the server has its folder from a stranger.

A folder belongs to a ring and a chain of primes, and says which keys it holds.  It serves every network that needs no
others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import KeyFolderError
from ..machine.files import atomic_write, os_errors, read_bounded, sha256
from ..machine.libraries import openfhe_version
from ..native.keys.keyplan import key_plan, longest
from ..native.ring.chain import CHAIN
from ..native.ring.keynames import is_key_name, key_file
from ..network.architecture import Architecture
from ..network.engines import NATIVE, OPENFHE
from ..network.parameters import PARAMETER_SETS, ParameterSet, parameter_set, rings
from ..network.resnet20 import plan

FORMAT = 2
MANIFEST = "manifest.json"
CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY = "context.bin", "public.key", "relinearisation.key"
#: Keys that bootstrapping of any stage needs.
BOOTSTRAPPING_KEYS = "bootstrapping.key"
CLIENT, SERVER = "client", "server"
#: Bytes of the longest that is read.
LONGEST_MANIFEST = 1 << 20
#: What to do about a folder that is damaged.
COPY_AGAIN = "copy it again from where it was made, or make new keys in another folder"
_FILE_NAME, _STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), re.compile(r"[1-9]")
_SLOTS = re.compile(r"[1-9][0-9]{0,5}")
#: In a folder.  A native one has a file for each key, of which the sets need 58 at most; to count them anew would take
#: each command seconds.
_MOST_FILES = 128
#: Of a stage's layers; ResNet20's do 16 at most.
_MOST_ROTATIONS = 64
#: What OpenFHE adds to the coefficients of a file's keys: a thousandth at the smallest ring in use, and its context.
_OVERHEAD, _OVERHEAD_BYTES = 1.002, 1 << 16


@dataclass(frozen=True)
class FileRecord:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The description of a key folder.

    set, engine, fingerprint: number, evaluator and key choices of the parameter set;
    openfhe: the version that made the keys;
    keys: id of the key pair;
    files: size and digest of each, by name;
    rotations: of OpenFHE's keys, by file, the steps it holds;
    stages: of OpenFHE's keys, by stage, the files to load;
    bootstrapping: of OpenFHE's keys, by number of slots, the steps that bootstrapping them does;
    towers: of native keys, by name, how many each serves.
    """

    set: int
    fingerprint: str
    openfhe: str
    keys: str
    files: Mapping[str, FileRecord]
    rotations: Mapping[str, list[int]] = field(default_factory=dict)
    stages: Mapping[str, list[str]] = field(default_factory=dict)
    bootstrapping: Mapping[str, list[int]] = field(default_factory=dict)
    towers: Mapping[str, int] = field(default_factory=dict)
    engine: str = OPENFHE
    format: int = FORMAT

    def steps(self, stage: int) -> frozenset[int]:
        """Return the rotations that a stage's files hold."""
        return frozenset(step for name in self.stages.get(str(stage), ()) for step in self.rotations[name])


def key_id(public_key: Path) -> str:
    """Return what names a key pair in ciphertexts and manifests."""
    return sha256(public_key)[:16]


def largest_bytes(set_: ParameterSet, name: str, rotations: int) -> int:
    """Return the most that a file of that name may have; a file of rotation keys holds so many."""
    if set_.engine == NATIVE and name not in (CONTEXT, PUBLIC_KEY):
        return set_.switching_key_bytes + _OVERHEAD_BYTES
    if name == BOOTSTRAPPING_KEYS:
        rotations += 3  # conjugation, and the pair, one far smaller, that enters and leaves the inner secret
    if rotations or name == RELINEARISATION_KEY:
        coefficients = set_.switching_key_bytes * max(rotations, 1)
    else:
        coefficients = 2 * (set_.multiplicative_depth + 1) * set_.ring_dimension * 8
    return int(coefficients * _OVERHEAD) + _OVERHEAD_BYTES


def write_manifest(
    folder: Path,
    set_: ParameterSet,
    keys: str,
    *,
    rotations: Mapping[str, list[int]] | None = None,
    stages: Mapping[str, list[str]] | None = None,
    bootstrapping: Mapping[str, list[int]] | None = None,
    towers: Mapping[str, int] | None = None,
) -> None:
    """Describe every file that is in ``folder``; the client's is its owner's alone."""
    files = {path.name: FileRecord(path.stat().st_size, sha256(path)) for path in sorted(folder.iterdir())}
    held = rotations or {}, stages or {}, bootstrapping or {}, towers or {}
    manifest = Manifest(set_.number, set_.keys_fingerprint, openfhe_version(), keys, files, *held, engine=set_.engine)
    text = json.dumps(asdict(manifest), indent=1) + "\n"
    atomic_write(folder / MANIFEST, text.encode(), private=folder.name == CLIENT)


def open_folder(folder: Path, set_: ParameterSet) -> Manifest:
    """Check a key folder against its manifest, every byte of it.

    Errors: KeyFolderError for a missing folder or manifest, another format, set or OpenFHE version, and a
    missing, truncated, altered or too large file; EnvironmentFault.
    """
    manifest = described(folder, set_)
    for name, record in manifest.files.items():
        with os_errors("read", folder / name):
            check_size(folder / name, record)
    with ThreadPoolExecutor() as pool:  # gigabytes: as fast as the cores and the disk are
        digests = pool.map(sha256, (folder / name for name in manifest.files))
        for (name, record), digest in zip(manifest.files.items(), digests, strict=True):
            if digest != record.sha256:
                raise KeyFolderError(f"{folder / name} has been altered", COPY_AGAIN)
    return manifest


def described(folder: Path, set_: ParameterSet) -> Manifest:
    """Return the manifest, if it names no more files than the set's keys can be, and no larger ones, there or not.

    Errors: KeyFolderError, EnvironmentFault.
    """
    manifest = read_manifest(folder, set_)
    _check_number(folder, manifest, set_)
    for name, record in manifest.files.items():
        most = largest_bytes(set_, name, len(manifest.rotations.get(name, ())))
        if record.bytes > most:
            message = f"{folder / name} should have {record.bytes} bytes, and its keys have {most} at most"
            raise KeyFolderError(message, COPY_AGAIN)
    return manifest


def check_coverage(folder: Path, manifest: Manifest, set_: ParameterSet) -> None:
    """Raise KeyFolderError, which names what is missing, unless a server's keys do what the set's network asks of them,
    where OpenFHE would end the process, and what else is read is among the files that were checked."""
    lacking = _lacking_native(manifest, set_) if set_.engine == NATIVE else _lacking_openfhe(manifest, set_)
    if lacking:
        raise KeyFolderError(
            f"{folder} lacks keys that this network needs: {lacking}", _to_make_new(folder, set_.number)
        )


def _lacking_native(manifest: Manifest, set_: ParameterSet) -> str:
    needed = longest(key_plan(set_))
    if missing := sorted({CHAIN, *map(key_file, needed)} - set(manifest.files)):
        return f"its manifest does not name {missing[0]}"
    for name, towers in needed.items():
        if manifest.towers.get(name, 0) < towers:
            return f"{key_file(name)} serves {manifest.towers.get(name, 0)} towers, not {towers}"
    return ""


def _lacking_openfhe(manifest: Manifest, set_: ParameterSet) -> str:
    if missing := [name for name in (CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY) if name not in manifest.files]:
        return f"its manifest does not name {missing[0]}"
    for stage, steps in plan(set_).rotations.items():
        slots = str(set_.stage_slots(stage))
        if slots not in manifest.bootstrapping:
            return f"none for bootstrapping of {slots} slots, in stage {stage}"
        needed = {step % set_.full_slots for step in steps} | set(manifest.bootstrapping[slots])
        if missing_steps := sorted(needed - manifest.steps(stage)):
            return f"rotations by {', '.join(map(str, missing_steps[:8]))} in stage {stage}"
    return ""


def _check_number(folder: Path, manifest: Manifest, set_: ParameterSet) -> None:
    """Count files and rotations: those beside a network's are bootstrapping's, which has so many at most."""
    if len(manifest.files) > _MOST_FILES:
        raise KeyFolderError(
            f"{folder} names {len(manifest.files)} files, and a key folder has {_MOST_FILES} at most", COPY_AGAIN
        )
    most = _MOST_ROTATIONS + _most_bootstrapping_rotations(set_)
    for stage in manifest.stages:
        if len(manifest.steps(int(stage))) > most:
            raise KeyFolderError(f"{folder} has keys of more than {most} rotations for stage {stage}", COPY_AGAIN)


def check_size(path: Path, record: FileRecord) -> None:
    """Raise KeyFolderError for a file that is missing, or longer or shorter.  Errors: OSError."""
    if not path.is_file():
        raise KeyFolderError(f"{path} is missing", COPY_AGAIN)
    if path.stat().st_size != record.bytes:
        raise KeyFolderError(f"{path} has {path.stat().st_size} bytes instead of {record.bytes}", COPY_AGAIN)


def _most_bootstrapping_rotations(set_: ParameterSet) -> int:
    """Return the most rotations that a stage's bootstrapping does, with those by powers of two that each does.

    A level of a linear transform multiplies up to 2^(c+1) diagonals, for c butterfly layers, and needs as many
    rotations as it has baby steps (dim1; all, where OpenFHE chooses) and giant steps.
    """
    layers = set_.full_slots.bit_length() - 1
    most = layers
    for levels, baby_steps in zip(set_.budget, set_.dim1, strict=True):
        diagonals = 2 << -(-layers // levels)
        most += levels * (baby_steps + -(-diagonals // baby_steps) if baby_steps else diagonals)
    return most


def keys_set(folder: Path, number: int | ParameterSet | None, architecture: Architecture | None = None) -> ParameterSet:
    """Return the set itself; or that of a number, None for any, for the engine and the ring of the keys that the
    manifest in ``folder`` names; where there is none, which opening the folder will refuse, the default.

    architecture: of the network that the keys are to serve; None: of the shipped one.

    Errors: KeyFolderError, also for keys of another set, or of a ring that does not hold the network's layers;
    UsageError if there is no such set; PlanError if no ring holds them.
    """
    if isinstance(number, ParameterSet):
        return number
    if number is not None:
        default = parameter_set(number, architecture=architecture)
        if not (folder / MANIFEST).exists():
            return default
    return set_of(folder, _of_set(folder, number or 0), architecture)


def set_of(folder: Path, manifest: Manifest, architecture: Architecture | None = None) -> ParameterSet:
    """Return the set that the keys are of, for the network that they are to serve.  Errors: as of :func:`keys_set`."""
    number = manifest.set
    if (number, manifest.engine) not in PARAMETER_SETS:
        raise KeyFolderError(
            f"{folder} names the engine {manifest.engine!r}, which set {number} does not know", COPY_AGAIN
        )
    wanted = parameter_set(number, manifest.engine, architecture)
    for set_ in (wanted, *rings(number, manifest.engine)):
        if set_.keys_fingerprint == manifest.fingerprint:
            break
    else:
        return wanted  # which opening the folder will refuse
    if architecture is None:
        return set_
    if architecture.largest_layer > set_.full_slots:
        raise KeyFolderError(
            f"{folder} holds keys for networks whose layers have at most {set_.full_slots} values, and this one's have "
            f"{architecture.largest_layer}",
            f"make keys for it in another folder: generate_keys {number} weights FILE (or card CARD) keys DIR",
        )
    return set_.serving(architecture)


def read_manifest(folder: Path, set_: ParameterSet) -> Manifest:
    """Return the manifest, if it is for this program, set and library."""
    manifest = _of_set(folder, set_.number)
    if manifest.fingerprint != set_.keys_fingerprint:
        raise KeyFolderError(
            f"{folder} holds keys of another ring or other primes than parameter set {set_.number} has now, "
            f"which serves {set_.networks}",
            _to_make_new(folder, set_.number),
        )
    if manifest.engine != set_.engine:
        raise KeyFolderError(f"{folder} holds keys for the engine {manifest.engine}, not {set_.engine}", COPY_AGAIN)
    loads_openfhe = set_.engine == OPENFHE or folder.name == CLIENT
    if loads_openfhe and manifest.openfhe != openfhe_version():
        raise KeyFolderError(
            f"{folder} was made with OpenFHE {manifest.openfhe}, and this is {openfhe_version()}",
            "install that version, or make new keys",
        )
    return manifest


def _way_to(folder: Path, number: int) -> str:
    """Return how a missing folder comes to be there: keys made on the server's machine would not be the client's."""
    if folder.name == SERVER:
        return f"copy {folder} here from the machine where the keys were made"
    return _to_make_new(folder, number)


def _to_make_new(folder: Path, number: int) -> str:
    if folder.name == SERVER:
        return f"make new keys where the client is, and copy {folder} here from there"
    return f"make new keys: generate_keys {number or 'N'}"


def _of_set(folder: Path, number: int) -> Manifest:
    manifest = _parse(folder, number)
    if number not in (0, manifest.set):
        raise KeyFolderError(f"{folder} holds keys of set {manifest.set}, not {number}")
    return manifest


def _parse(folder: Path, number: int) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise KeyFolderError(f"there is no key folder {folder}", _way_to(folder, number))
    no_manifest = KeyFolderError(f"{path} is not a manifest of this program")
    missing = KeyFolderError(f"{folder} has no {MANIFEST}", COPY_AGAIN)
    text = read_bounded(path, LONGEST_MANIFEST, missing, too_large=no_manifest)
    try:
        fields = json.loads(text)
        found = fields.get("format")
        if found == FORMAT:
            return _checked(fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise no_manifest from None
    raise KeyFolderError(f"{path} has format {found!r}, and this program reads {FORMAT}", _to_make_new(folder, number))


def _checked(fields: dict) -> Manifest:
    """Return a manifest whose every field has its type, and whose file names stay in the folder."""
    files = {name: FileRecord(**record) for name, record in fields.pop("files").items()}
    manifest = Manifest(files=files, **fields)
    names = [*files, *(name for names in manifest.stages.values() for name in names)]
    steps = [s for lists in (manifest.rotations, manifest.bootstrapping) for steps in lists.values() for s in steps]
    typed = (
        isinstance(manifest.set, int)
        and all(
            isinstance(text, str)
            for text in (manifest.fingerprint, manifest.openfhe, manifest.keys, manifest.engine, *names)
        )
        and all(isinstance(r.bytes, int) and isinstance(r.sha256, str) for r in files.values())
        and all(type(count) is int for count in (*steps, *manifest.towers.values()))
        and all(name in files for name in manifest.rotations)
        and all(name in manifest.rotations for names in manifest.stages.values() for name in names)
        and not {CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY} & set(manifest.rotations)
        and all(_STAGE.fullmatch(stage) for stage in manifest.stages)
        and all(_SLOTS.fullmatch(slots) for slots in manifest.bootstrapping)
        and all(is_key_name(name) for name in manifest.towers)
        and all(len(set(steps)) == len(steps) for steps in manifest.rotations.values())
        and all(_FILE_NAME.fullmatch(name) and name != MANIFEST for name in names)
    )
    if not typed:
        raise ValueError("wrong types")
    return manifest
