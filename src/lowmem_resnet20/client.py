"""The client: makes keys, encrypts a picture, decrypts the logits.  The only module that touches the secret key."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

from . import registry
from .errors import CiphertextError, KeyFolderError, PlanError, on_one_line
from .fhe.ciphertexts import belonging, payload_of, read_ciphertext
from .fhe.context import (
    clear_relinearisation_keys,
    clear_rotation_keys,
    new_context,
    power_of_two_rotations,
    read_context,
    read_public_key,
    write_object,
    write_relinearisation_key,
    write_rotation_keys,
)
from .fhe.envelope import LOGITS, PICTURE, Facts, digest_of, write_envelope
from .fhe.keystore import (
    BOOTSTRAPPING_KEYS,
    CLIENT,
    CONTEXT,
    PUBLIC_KEY,
    RELINEARISATION_KEY,
    SERVER,
    Manifest,
    key_id,
    open_folder,
    write_manifest,
)
from .fhe.library import BINARY, Ciphertext, openfhe
from .fhe.secret import (
    ClientContext,
    KeyPair,
    PrivateKey,
    bootstrapping_rotations,
    client_context,
    make_shared_bootstrapping_keys,
)
from .machine.files import atomic_path, new_folder
from .machine.memory import return_freed_memory
from .network.parameters import PARAMETER_SETS, PICTURE_LEVELS, ParameterSet
from .network.ranges import are_logits
from .network.resnet20 import pack_picture, plan
from .network.weights import Weights
from .terminal.progress import Progress, Step

SECRET_KEY = "secret.key"
_OUT_OF_RANGE_HINT = "a value left its range: the picture may be unlike those the weights were calibrated on"


# --- keys -------------------------------------------------------------------------------------------------


def generate_keys(set_: ParameterSet, folder: Path, progress: Progress) -> None:
    """Make ``folder`` (keys/expN) with client/ and server/, whole or not at all.

    Rotation keys are made, written and forgotten file by file, so memory stays well below their sum.

    Errors: KeyFolderError if ``folder`` exists; EnvironmentFault if it cannot be written; PlanError.
    """
    with new_folder(folder) as new:
        progress.start(f"generating keys for parameter set {set_.number}")
        progress.step("plan", "rotations")
        needed, bootstrapping = _rotations_by_stage(set_)
        shared = power_of_two_rotations(set_)
        files = _divide({stage: steps - shared for stage, steps in needed.items()})
        names = {name: f"{len(steps)} rotation keys, {name}" for name, (_, steps) in files.items()}
        coming = [Step("keys", "bootstrapping keys", "rotation key", len(shared))]
        coming += [Step("keys", names[name], "rotation key", len(steps)) for name, (_, steps) in files.items()]
        progress.expect(coming)
        progress.step("keys", "secret, public and relinearisation key")
        context = client_context(new_context(set_))
        pair = context.KeyGen()
        _write_basic_keys(new, context, pair)
        progress.step("keys", "bootstrapping keys")
        make_shared_bootstrapping_keys(context, set_, pair.secretKey)
        _write_held_rotation_keys(new / SERVER / BOOTSTRAPPING_KEYS, context, pair)
        for name, (_, steps) in files.items():
            progress.step("keys", names[name])
            context.EvalRotateKeyGen(pair.secretKey, sorted(steps))
            _write_held_rotation_keys(new / SERVER / name, context, pair)
        progress.step("keys", "manifests")
        _write_manifests(new, set_, shared, files, bootstrapping)
        progress.close()


def _rotations_by_stage(set_: ParameterSet) -> tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]]:
    """By stage: all rotations its layers and bootstrapping do, and those of bootstrapping alone; in [1, N/2)."""
    bootstrapping = bootstrapping_rotations(set_)
    layers = {
        stage: frozenset(step % set_.full_slots for step in steps) for stage, steps in plan(set_).rotations.items()
    }
    return {stage: layers[stage] | bootstrapping[stage] for stage in layers}, bootstrapping


def _divide(needed: dict[int, frozenset[int]]) -> dict[str, tuple[tuple[int, ...], set[int]]]:
    """Rotations into files by the stages that use them: name -> (stages, steps)."""
    users: dict[int, tuple[int, ...]] = {}
    for step in sorted(frozenset().union(*needed.values())):
        users[step] = tuple(stage for stage in sorted(needed) if step in needed[stage])
    groups: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for step, stages in users.items():
        groups[stages].add(step)
    return {f"rotations-{'-'.join(map(str, stages))}.key": (stages, groups[stages]) for stages in sorted(groups)}


def _write_basic_keys(new: Path, context: ClientContext, pair: KeyPair) -> None:
    client, server = new / CLIENT, new / SERVER
    client.mkdir(mode=0o700)
    server.mkdir(mode=0o755)
    write_object(server / CONTEXT, context)
    write_object(server / PUBLIC_KEY, pair.publicKey)
    context.EvalMultKeyGen(pair.secretKey)
    write_relinearisation_key(server / RELINEARISATION_KEY, context, pair.secretKey.GetKeyTag())
    clear_relinearisation_keys()
    shutil.copyfile(server / CONTEXT, client / CONTEXT)
    shutil.copyfile(server / PUBLIC_KEY, client / PUBLIC_KEY)
    with atomic_path(client / SECRET_KEY, private=True) as path:
        write_object(path, pair.secretKey)


def _write_held_rotation_keys(path: Path, context: ClientContext, pair: KeyPair) -> None:
    write_rotation_keys(path, context, pair.secretKey.GetKeyTag())
    clear_rotation_keys()
    return_freed_memory()


def _write_manifests(
    new: Path,
    set_: ParameterSet,
    shared: frozenset[int],
    files: dict[str, tuple[tuple[int, ...], set[int]]],
    bootstrapping: dict[int, frozenset[int]],
) -> None:
    stages = {
        str(stage): [BOOTSTRAPPING_KEYS, *(name for name, (users, _) in files.items() if stage in users)]
        for stage in bootstrapping
    }
    rotations = {name: sorted(steps) for name, (_, steps) in files.items()} | {BOOTSTRAPPING_KEYS: sorted(shared)}
    lists = {str(stage): sorted(steps) for stage, steps in bootstrapping.items()}
    keys = key_id(new / CLIENT / PUBLIC_KEY)
    write_manifest(new / CLIENT, set_, keys)
    write_manifest(new / SERVER, set_, keys, rotations=rotations, stages=stages, bootstrapping=lists)


# --- pictures ---------------------------------------------------------------------------------------------


def encrypt_picture(
    folder: Path, set_: ParameterSet, pixels: np.ndarray, weights: Weights, output: Path, name: str
) -> str:
    """Normalise and encrypt ``pixels`` (colours, width, width) in [0, 1]; reads keys/expN/client.

    The ciphertext holds the colours and one empty channel, on no more primes than the first convolution needs.
    Returns the encryption's id, which its result will repeat; ``name`` is kept beside it in the client's list (see
    :mod:`.registry`), and goes nowhere else.
    """
    manifest, context = open_client(folder, set_)
    public_key = read_public_key(folder / CLIENT / PUBLIC_KEY)
    slots = pack_picture(set_.architecture, weights.normalise(pixels))
    level = set_.multiplicative_depth - set_.reserve_levels - PICTURE_LEVELS
    plaintext = context.MakeCKKSPackedPlaintext(slots, 1, level, None, len(slots))
    payload = payload_of(context.Encrypt(public_key, plaintext))
    identity = digest_of(payload)
    registry.record(folder / CLIENT, registry.Entry(identity, registry.pixel_digest(pixels), name))
    write_envelope(output, payload, Facts.of(belonging(set_, manifest.keys, weights), PICTURE))
    return identity


def encryptions(folder: Path, set_: ParameterSet) -> dict[str, registry.Entry]:
    """What this client has encrypted, by id; reads keys/expN/client."""
    open_folder(folder / CLIENT, set_)
    return registry.read(folder / CLIENT)


def decrypt_logits(
    folder: Path, set_: ParameterSet, ciphertext: Path, weights: Weights, picture: str | None = None
) -> np.ndarray:
    """The logits (classes,) in a ciphertext that the server wrote; reads keys/expN/client.

    picture: id of the encryption that must be the one it answers, where that is known.

    Errors: CiphertextError too where it answers another, and where the numbers are far larger than any logit that
    ``weights`` were calibrated with: a value that left the range of a Chebyshev series grows without bound, and what
    comes out is noise.  One that left the range of a Fourier series does not show here (see :mod:`.network.ranges`).
    """
    manifest, context = open_client(folder, set_)
    secret_key = read_secret_key(folder)
    ours = belonging(set_, manifest.keys, weights)
    encrypted, facts = read_ciphertext(ciphertext, LOGITS, ours, context=folder / CLIENT / CONTEXT)
    if picture not in (None, facts.picture):
        raise CiphertextError(f"{ciphertext} is the result of another picture")
    slots = decrypt_slots(context, secret_key, encrypted, ciphertext)
    logits = slots[: set_.architecture.classes]
    if not are_logits(weights, logits):
        raise CiphertextError(
            f"{ciphertext} holds numbers that are no logits of this network",
            _OUT_OF_RANGE_HINT,
        )
    return logits


def open_client(folder: Path, set_: ParameterSet) -> tuple[Manifest, ClientContext]:
    manifest = open_folder(folder / CLIENT, set_)
    return manifest, client_context(read_context(folder / CLIENT / CONTEXT))


def read_secret_key(folder: Path) -> PrivateKey:
    path = folder / CLIENT / SECRET_KEY
    if path.stat().st_mode & 0o077:
        raise KeyFolderError(f"{path} can be read by others", f"chmod 600 {path}")
    secret_key: PrivateKey
    secret_key, read = openfhe.DeserializePrivateKey(str(path), BINARY)
    if not read:
        raise KeyFolderError(f"{path} cannot be read")
    return secret_key


def decrypt_slots(context: ClientContext, secret_key: PrivateKey, ciphertext: Ciphertext, path: Path) -> np.ndarray:
    """(slots,) real values.  OpenFHE refuses when the result is noise."""
    try:
        return np.array(context.Decrypt(ciphertext, secret_key).GetRealPackedValue())
    except RuntimeError as error:
        reason = on_one_line(error).rpartition("(): ")[2]  # without the place in OpenFHE's source
        raise CiphertextError(f"{path} does not decrypt: {reason}", _OUT_OF_RANGE_HINT) from error


# --- self-test --------------------------------------------------------------------------------------------


def self_test(progress: Progress) -> None:
    """Build the context of every parameter set, and encrypt, compute and decrypt in it; keeps nothing.

    Errors: PlanError if OpenFHE refuses a set or a result is wrong.
    """
    progress.start("self-test")
    for set_ in PARAMETER_SETS.values():
        progress.step(f"set {set_.number}", f"context, log2 QP = {set_.log2_qp}")
        plan(set_)
        context = client_context(new_context(set_))
        pair = context.KeyGen()
        progress.step(f"set {set_.number}", "encrypt, multiply, decrypt")
        slots = set_.architecture.stage_slots(1)
        values = np.random.default_rng(set_.number).uniform(-1, 1, slots)
        level = set_.multiplicative_depth - 2
        plaintext = context.MakeCKKSPackedPlaintext(values, 1, level, None, slots)
        square = context.EvalMult(context.Encrypt(pair.publicKey, plaintext), plaintext)
        found = np.array(context.Decrypt(square, pair.secretKey).GetRealPackedValue())[:slots]
        worst = float(np.abs(found - values**2).max())
        if not worst < 1e-4:
            raise PlanError(f"parameter set {set_.number} computes with an error of {worst:.1e}")
    progress.close()
