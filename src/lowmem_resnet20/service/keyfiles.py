"""Which files a key folder that is offered to a service may name, before any of them is sent."""

from __future__ import annotations

from pathlib import Path

from ..errors import EnvironmentFault, KeyFolderError
from ..files.keystore import (
    CONTEXT,
    PUBLIC_KEY,
    RELINEARISATION_KEY,
    Manifest,
    check_coverage,
    described,
    keys_set,
    read_manifest,
)
from ..machine.libraries import openfhe_version
from ..native.ring.chain import CHAIN
from ..native.ring.keynames import key_file
from ..network.architecture import Architecture
from ..network.engines import NATIVE, OPENFHE
from ..network.parameters import ParameterSet


def offered(folder: Path, number: int, architecture: Architecture) -> Manifest:
    """Return the manifest in ``folder``, if it is of parameter set ``number`` and names only what its server reads, and
    all that a network of the architecture needs.

    Errors: KeyFolderError, EnvironmentFault.
    """
    set_ = keys_set(folder, number, architecture)
    if set_.engine == OPENFHE:
        _check_openfhe(number)
    manifest = described(folder, set_)
    read = _readable(manifest, set_)
    for name, record in manifest.files.items():
        if name not in read:
            hint = f"offer keys/exp{number}/server, and nothing else of keys/exp{number}"
            raise KeyFolderError(f"{name} is no file that a server of parameter set {number} reads", hint)
        if record.bytes < 1:
            raise KeyFolderError(f"{name} is said to have {record.bytes} bytes")
    check_coverage(folder, manifest, set_)
    return manifest


def kept(folder: Path, number: int, architecture: Architecture) -> Manifest:
    """Return the manifest in ``folder``, which was offered before.

    Errors: KeyFolderError if this version of the program, or its network, cannot use it; EnvironmentFault.
    """
    set_ = keys_set(folder, number, architecture)
    manifest = read_manifest(folder, set_)
    check_coverage(folder, manifest, set_)
    return manifest


def _check_openfhe(number: int) -> None:
    """Raise KeyFolderError where this machine has no OpenFHE, which is no fault of it: it cannot use such keys."""
    try:
        openfhe_version()
    except EnvironmentFault:
        hint = f"offer native keys: generate_keys {number} engine {NATIVE}"
        raise KeyFolderError("this service has no OpenFHE, which these keys are for", hint) from None


def _readable(manifest: Manifest, set_: ParameterSet) -> set[str]:
    """Return the names of the files that an evaluation of one network or another may read."""
    if set_.engine == NATIVE:
        return {CHAIN, CONTEXT, PUBLIC_KEY, *map(key_file, manifest.towers)}
    stages = {name for names in manifest.stages.values() for name in names}
    return stages | {CONTEXT, PUBLIC_KEY, RELINEARISATION_KEY}
