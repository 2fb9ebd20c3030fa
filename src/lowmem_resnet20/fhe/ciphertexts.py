"""OpenFHE's ciphertexts in files (see :mod:`.envelope`)."""

from __future__ import annotations

from pathlib import Path

from ..errors import CiphertextError, on_one_line
from ..network.parameters import ParameterSet
from ..network.resnet20 import computation
from ..network.scaling import scale
from ..network.weights import Weights
from .envelope import Belonging, Facts, read_envelope, write_envelope
from .library import BINARY, ERRORS, Ciphertext, openfhe
from .trial import check_ciphertext


def belonging(set_: ParameterSet, keys: str, weights: Weights) -> Belonging:
    """What belongs to an evaluation with these."""
    scaled = scale(weights, set_.refresh)
    return Belonging(str(set_.number), keys, weights.fingerprint, computation(set_, scaled))


def payload_of(ciphertext: Ciphertext) -> bytes:
    """OpenFHE's bytes of a ciphertext."""
    return openfhe.Serialize(ciphertext, BINARY)


def write_ciphertext(path: Path, ciphertext: Ciphertext, facts: Facts) -> str:
    """Write whole or not at all; returns the SHA-256 of its bytes."""
    return write_envelope(path, payload_of(ciphertext), facts)


def read_ciphertext(
    path: Path, kind: str, ours: Belonging, *, context: Path | None = None, expected_digest: str | None = None
) -> tuple[Ciphertext, Facts]:
    """A ciphertext of the expected kind, which belongs to what is at hand.  Errors: CiphertextError, EnvironmentFault.

    ``context``: the file of its context, for a ciphertext from someone else: it is loaded in a child process first;
    expected_digest: the SHA-256 that its bytes must have, where it is known.
    """
    envelope = read_envelope(path)
    if expected_digest not in (None, envelope.digest):
        raise CiphertextError(f"{path} is another ciphertext than was left there")
    envelope.expect(kind, ours)
    if context is not None:
        check_ciphertext(path, envelope.payload, context)
    return _load(path, envelope.payload), envelope.facts


def _load(path: Path, payload: bytes) -> Ciphertext:
    try:
        return openfhe.DeserializeCiphertextString(payload, BINARY)
    except ERRORS as error:
        raise CiphertextError(f"{path} cannot be read: {on_one_line(error)}") from error
