"""The client: encrypts pictures, decrypts the logits.  The only module that reads the secret key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cli.passphrase import passphrase_of
from ..client import encryptions as registry
from ..client import sealing
from ..errors import CiphertextError, KeyFolderError, PlanError
from ..files.belonging import belonging
from ..files.envelope import LOGITS, PICTURE, Facts, digest_of, write_envelope
from ..files.group import group_and_place, join, picture_id
from ..files.keystore import CLIENT, CONTEXT, PUBLIC_KEY, Manifest, open_folder
from ..machine.coredumps import forbid_core_dumps
from ..machine.files import os_errors
from ..network.parameters import PARAMETER_SETS, PICTURE_LEVELS, ParameterSet
from ..network.ranges import are_logits
from ..network.resnet20 import group_logits, pack_group, plan
from ..network.weights import Weights
from ..openfhe.ciphertexts import payload_of, read_ciphertext
from ..openfhe.context import new_context, read_context, read_public_key
from ..openfhe.library import BINARY, Ciphertext, openfhe, openfhe_errors
from ..openfhe.secret import SECRET_KEY, ClientContext, PrivateKey, client_context
from ..openfhe.trial import Trial
from ..progress.display import Progress
from .keys import generate_keys

__all__ = [
    "Named",
    "check_decryption",
    "check_encryption",
    "check_logits",
    "decrypt_group",
    "decrypt_logits",
    "decrypt_slots",
    "encrypt_group",
    "encrypt_picture",
    "encryptions",
    "generate_keys",
    "open_client",
    "read_secret_key",
    "self_test",
    "trial_of",
]

_OUT_OF_RANGE_HINT = "a value left its range: the picture may be unlike those the weights were calibrated on"


# --- pictures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A picture to encrypt.  pixels: (colours, width, width) in [0, 1]; name: kept in the client's list alone."""

    pixels: np.ndarray
    name: str


def encrypt_group(
    folder: Path, set_: ParameterSet, group: Sequence[Named | None], weights: Weights, output: Path
) -> list[str]:
    """Normalise and encrypt up to ``set_.pictures`` pictures into one file; reads keys/expN/client.

    Each ciphertext holds the colours and one empty channel of its pictures, on no more primes than the first
    convolution needs; a place of None stays empty.  Returns the id of each picture's encryption, which its result will
    repeat; the names are kept beside them in the client's list (see :mod:`.encryptions`), and go nowhere else.
    """
    manifest, context = open_client(folder, set_)
    public_key = read_public_key(folder / CLIENT / PUBLIC_KEY)
    level = set_.multiplicative_depth - set_.reserve_levels - PICTURE_LEVELS
    ciphertexts = []
    for slots in pack_group(set_, [weights.normalise(named.pixels) if named else None for named in group]):
        plaintext = context.MakeCKKSPackedPlaintext(slots, 1, level, None, len(slots))
        ciphertexts.append(payload_of(context.Encrypt(public_key, plaintext)))
    payload = join(ciphertexts)
    ids = [picture_id(digest_of(payload), place, set_.pictures) for place in range(len(group))]
    for identity, named in zip(ids, group, strict=True):
        if named:
            registry.record(folder / CLIENT, registry.Entry(identity, registry.pixel_digest(named.pixels), named.name))
    write_envelope(output, payload, Facts.of(belonging(set_, manifest.keys, weights), PICTURE))
    return ids


def encrypt_picture(
    folder: Path, set_: ParameterSet, pixels: np.ndarray, weights: Weights, output: Path, name: str
) -> str:
    """Of one picture alone: as :func:`encrypt_group`."""
    return encrypt_group(folder, set_, [Named(pixels, name)], weights, output)[0]


def encryptions(folder: Path, set_: ParameterSet) -> dict[str, registry.Entry]:
    """What this client has encrypted, by id; reads keys/expN/client."""
    open_folder(folder / CLIENT, set_)
    return registry.read(folder / CLIENT)


def decrypt_group(
    folder: Path,
    set_: ParameterSet,
    ciphertext: Path,
    weights: Weights,
    group: str | None = None,
    trial: Trial | None = None,
) -> np.ndarray:
    """The numbers (pictures, classes) in a ciphertext that the server wrote, by place; reads keys/expN/client.

    group: id of the encryption that must be the one it answers, where that is known; trial: :func:`trial_of` the
    folder, which several results share.  What the numbers are, of each place that was filled, :func:`check_logits`
    tells.

    Errors: CiphertextError too where it answers another.
    """
    manifest, context = open_client(folder, set_)
    secret_key = read_secret_key(folder)
    ours = belonging(set_, manifest.keys, weights)
    with nullcontext(trial) if trial else trial_of(folder) as tried:
        encrypted, facts = read_ciphertext(ciphertext, LOGITS, ours, tried)
    if group not in (None, facts.picture):
        raise CiphertextError(f"{ciphertext} is the result of another picture")
    slots = decrypt_slots(context, secret_key, encrypted, ciphertext)
    if len(slots) < set_.pictures * set_.architecture.final_width**2:
        raise CiphertextError(f"{ciphertext} holds {len(slots)} numbers, too few for logits")
    return group_logits(set_, slots)


def trial_of(folder: Path) -> Trial:
    """Where what others sent is loaded first, of the keys in ``folder``."""
    return Trial(folder / CLIENT / CONTEXT)


def check_logits(ciphertext: Path, weights: Weights, numbers: np.ndarray) -> None:
    """That numbers (classes,) from a ciphertext are logits.

    Errors: CiphertextError where they are far larger than any logit that ``weights`` were calibrated with: a value that
    left the range of a Chebyshev series grows without bound, and what comes out is noise.  One that left the range of a
    Fourier series does not show here (see :mod:`..network.ranges`).
    """
    if not are_logits(weights, numbers):
        raise CiphertextError(f"{ciphertext} holds numbers that are no logits of this network", _OUT_OF_RANGE_HINT)


def decrypt_logits(
    folder: Path, set_: ParameterSet, ciphertext: Path, weights: Weights, picture: str | None = None
) -> np.ndarray:
    """The logits (classes,) of one picture, by the id of its encryption, or in the first place of a result: as
    :func:`decrypt_group` and :func:`check_logits`."""
    group, place = group_and_place(picture, set_.pictures) if picture else (None, 0)
    logits = decrypt_group(folder, set_, ciphertext, weights, group)[place]
    check_logits(ciphertext, weights, logits)
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

    Errors: KeyFolderError, also where the passphrase is another's; EnvironmentFault where there is nowhere to ask for
    it.
    """
    forbid_core_dumps()
    path = _private_secret_key(folder)
    with os_errors("read", path):
        content = path.read_bytes()
    if sealing.is_sealed(content):
        content = sealing.opened(content, passphrase_of(path))
    with openfhe_errors(lambda reason: KeyFolderError(f"{path} cannot be read: {reason}")):
        return openfhe.DeserializePrivateKeyString(content, BINARY)


def _private_secret_key(folder: Path) -> Path:
    """Its file, which is its owner's alone."""
    path = folder / CLIENT / SECRET_KEY
    with os_errors("read", path):
        if path.stat().st_mode & 0o077:
            raise KeyFolderError(f"{path} can be read by others", f"chmod 600 {path}")
    return path


def decrypt_slots(context: ClientContext, secret_key: PrivateKey, ciphertext: Ciphertext, path: Path) -> np.ndarray:
    """(slots,) real values.  OpenFHE refuses when the result is noise."""

    def refused(reason: str) -> CiphertextError:
        words = reason.rpartition("(): ")[2]  # without the place in OpenFHE's source
        return CiphertextError(f"{path} does not decrypt: {words}", _OUT_OF_RANGE_HINT)

    with openfhe_errors(refused):
        values = context.Decrypt(ciphertext, secret_key).GetRealPackedValue()
    return np.array(values)


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
        slots = set_.stage_slots(1)
        values = np.random.default_rng(set_.number).uniform(-1, 1, slots)
        level = set_.multiplicative_depth - 2
        plaintext = context.MakeCKKSPackedPlaintext(values, 1, level, None, slots)
        square = context.EvalMult(context.Encrypt(pair.publicKey, plaintext), plaintext)
        found = np.array(context.Decrypt(square, pair.secretKey).GetRealPackedValue())[:slots]
        worst = float(np.abs(found - values**2).max())
        if not worst < 1e-4:
            raise PlanError(f"parameter set {set_.number} computes with an error of {worst:.1e}")
    progress.close()
