"""The client: makes keys, encrypts a picture, decrypts the logits.  The only module that touches the secret key."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import registry, sealing
from .errors import CiphertextError, KeyFolderError, PlanError, on_one_line
from .fhe.belonging import belonging
from .fhe.ciphertexts import payload_of, read_ciphertext
from .fhe.context import new_context, read_context, read_public_key
from .fhe.envelope import LOGITS, PICTURE, Facts, digest_of, write_envelope
from .fhe.keystore import CLIENT, CONTEXT, PUBLIC_KEY, Manifest, open_folder
from .fhe.library import BINARY, ERRORS, Ciphertext, openfhe
from .fhe.secret import SECRET_KEY, ClientContext, PrivateKey, client_context
from .keygeneration import generate_keys
from .machine.coredumps import forbid_core_dumps
from .machine.files import os_errors
from .network.parameters import PARAMETER_SETS, PICTURE_LEVELS, ParameterSet
from .network.ranges import are_logits
from .network.resnet20 import pack_picture, plan
from .network.weights import Weights
from .terminal.passphrase import passphrase_of
from .terminal.progress import Progress

__all__ = [
    "check_decryption",
    "check_encryption",
    "decrypt_logits",
    "decrypt_slots",
    "encrypt_picture",
    "encryptions",
    "generate_keys",
    "open_client",
    "read_secret_key",
    "self_test",
]

_OUT_OF_RANGE_HINT = "a value left its range: the picture may be unlike those the weights were calibrated on"


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


def check_encryption(folder: Path, set_: ParameterSet) -> None:
    """That the client's key folder is whole, the secret key included, which is not read: it may be under a passphrase.

    Errors: KeyFolderError, EnvironmentFault.
    """
    open_folder(folder / CLIENT, set_)
    _private_secret_key(folder)


def check_decryption(folder: Path, set_: ParameterSet) -> None:
    """That what this client encrypts it can decrypt: its key folder is whole and its secret key can be read, for which
    its passphrase is asked, if it has one.

    Errors: KeyFolderError, EnvironmentFault.
    """
    check_encryption(folder, set_)
    read_secret_key(folder)


def read_secret_key(folder: Path) -> PrivateKey:
    """The only place where it is read; this process leaves no core dump from here on.

    Errors: KeyFolderError, also where the passphrase is another's; EnvironmentFault where there is nowhere to ask for it.
    """
    forbid_core_dumps()
    path = _private_secret_key(folder)
    with os_errors("read", path):
        content = path.read_bytes()
    if sealing.is_sealed(content):
        content = sealing.opened(content, passphrase_of(path))
    try:
        return openfhe.DeserializePrivateKeyString(content, BINARY)
    except ERRORS as error:
        raise KeyFolderError(f"{path} cannot be read: {on_one_line(error)}") from error


def _private_secret_key(folder: Path) -> Path:
    """Its file, which is its owner's alone."""
    path = folder / CLIENT / SECRET_KEY
    with os_errors("read", path):
        if path.stat().st_mode & 0o077:
            raise KeyFolderError(f"{path} can be read by others", f"chmod 600 {path}")
    return path


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
