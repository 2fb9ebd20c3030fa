"""OpenFHE's ciphertexts as bytes, and in files (see :mod:`..files.envelope`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CiphertextError
from ..files.envelope import Belonging, Facts, read_envelope
from .library import BINARY, Ciphertext, openfhe, openfhe_errors
from .trial import Trial


def payload_of(ciphertext: Ciphertext) -> bytes:
    """OpenFHE's bytes of a ciphertext."""
    return openfhe.Serialize(ciphertext, BINARY)


def read_payload(payload: bytes, path: Path) -> Ciphertext:
    """The ciphertext that bytes of ``path`` hold.  Errors: CiphertextError."""
    with openfhe_errors(lambda reason: CiphertextError(f"{path} cannot be read: {reason}")):
        return openfhe.DeserializeCiphertextString(payload, BINARY)


def read_ciphertext(path: Path, kind: str, ours: Belonging, trial: Trial | None = None) -> tuple[Ciphertext, Facts]:
    """A ciphertext of the expected kind, which belongs to what is at hand.  Errors: CiphertextError, EnvironmentFault.

    trial: for a ciphertext from someone else, which is loaded there first.
    """
    envelope = read_envelope(path)
    envelope.expect(kind, ours)
    if trial is not None:
        trial.check(path, envelope.payload)
    return read_payload(envelope.payload, path), envelope.facts


def read_ciphertexts(
    paths: Sequence[Path], kind: str, ours: Belonging, trial: Trial
) -> Iterator[tuple[Ciphertext, Facts]]:
    """Ciphertexts from someone else, in their order, of which none is loaded before ``trial`` has stood them all.

    Errors: as :func:`read_ciphertext`.
    """
    envelopes = [read_envelope(path) for path in paths]
    for envelope in envelopes:
        envelope.expect(kind, ours)
    for envelope in envelopes:
        trial.check(envelope.path, envelope.payload)
    for envelope in envelopes:
        yield read_payload(envelope.payload, envelope.path), envelope.facts
