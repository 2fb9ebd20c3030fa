"""Which files a key folder that is offered to a service may name, before any of them is sent."""

from __future__ import annotations

from pathlib import Path

from ..errors import KeyFolderError
from ..files.keystore import CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY, Manifest, described, keys_set, read_manifest
from ..native.chain import CHAIN
from ..native.keyplan import key_plan, longest
from ..native.keys import key_path
from ..network.engines import NATIVE
from ..network.parameters import ParameterSet


def offered(folder: Path, number: int) -> Manifest:
    """The manifest in ``folder``, if it is one of parameter set ``number`` and names what its server reads, no more.

    Errors: KeyFolderError, EnvironmentFault.
    """
    set_ = keys_set(folder, number)
    manifest = described(folder, set_)
    read, needed = _files(manifest, set_, folder)
    for name, record in manifest.files.items():
        if name not in read:
            hint = f"offer keys/exp{number}/server, and nothing else of keys/exp{number}"
            raise KeyFolderError(f"{name} is no file that a server of parameter set {number} reads", hint)
        if record.bytes < 1:
            raise KeyFolderError(f"{name} is said to have {record.bytes} bytes")
    if missing := sorted(needed - set(manifest.files)):
        raise KeyFolderError(f"{folder} does not name {missing[0]}, which the set needs", "make new keys")
    return manifest


def kept(folder: Path, number: int) -> Manifest:
    """The manifest in ``folder``, which was offered before.  Errors: KeyFolderError if this version of the program
    cannot use it; EnvironmentFault."""
    return read_manifest(folder, keys_set(folder, number))


def _files(manifest: Manifest, set_: ParameterSet, folder: Path) -> tuple[set[str], set[str]]:
    """Names of the files that an evaluation may read, and of those that it must."""
    if set_.engine == NATIVE:
        needed = {CHAIN, *(key_path(folder, name).name for name in longest(key_plan(set_)))}
        return needed | {CONTEXT, PUBLIC_KEY}, needed
    stages = {name for names in manifest.stages.values() for name in names}
    return stages | {CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY}, {CONTEXT, RELINEARISATION_KEY}
