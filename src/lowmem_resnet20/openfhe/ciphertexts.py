"""OpenFHE's ciphertexts as bytes, and in files (see :mod:`..files.envelope`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CiphertextError, on_one_line
from ..files.envelope import Belonging, Envelope, Facts
from .library import BINARY, ERRORS, Ciphertext, openfhe
from .trial import check_ciphertexts


def payload_of(ciphertext: Ciphertext) -> bytes:
    """OpenFHE's bytes of a ciphertext."""
    return openfhe.Serialize(ciphertext, BINARY)


def read_payload(payload: bytes, path: Path) -> Ciphertext:
    """The ciphertext that bytes of ``path`` hold.  Errors: CiphertextError."""
    try:
        return openfhe.DeserializeCiphertextString(payload, BINARY)
    except ERRORS as error:
        raise CiphertextError(f"{path} cannot be read: {on_one_line(error)}") from error


def read_ciphertext(envelope: Envelope, kind: str, ours: Belonging, *, context: Path) -> tuple[Ciphertext, Facts]:
    """Load a ciphertext from someone else, of the expected kind, which belongs to what is at hand.

    context: the file of its context, for a child process, which loads it first.  Errors: CiphertextError,
    EnvironmentFault.
    """
    [read] = read_ciphertexts([envelope], kind, ours, context=context)
    return read


def read_ciphertexts(
    envelopes: Sequence[Envelope], kind: str, ours: Belonging, *, context: Path
) -> Iterator[tuple[Ciphertext, Facts]]:
    """Load several, in their order, of which none is loaded here before a child process has stood them all.

    Errors: as :func:`read_ciphertext`.
    """
    for envelope in envelopes:
        envelope.expect(kind, ours)
    check_ciphertexts([(envelope.path, envelope.payload) for envelope in envelopes], context)
    for envelope in envelopes:
        yield read_payload(envelope.payload, envelope.path), envelope.facts
