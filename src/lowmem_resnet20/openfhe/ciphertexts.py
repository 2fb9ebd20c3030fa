"""OpenFHE's ciphertexts as bytes, and in files (see :mod:`..files.envelope`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CiphertextError, on_one_line
from ..files.envelope import Belonging, Facts, read_envelope
from .library import BINARY, ERRORS, Ciphertext, openfhe
from .trial import check_ciphertext, check_ciphertexts


def payload_of(ciphertext: Ciphertext) -> bytes:
    """OpenFHE's bytes of a ciphertext."""
    return openfhe.Serialize(ciphertext, BINARY)


def read_payload(payload: bytes, path: Path) -> Ciphertext:
    """The ciphertext that bytes of ``path`` hold.  Errors: CiphertextError."""
    try:
        return openfhe.DeserializeCiphertextString(payload, BINARY)
    except ERRORS as error:
        raise CiphertextError(f"{path} cannot be read: {on_one_line(error)}") from error


def read_ciphertext(path: Path, kind: str, ours: Belonging, *, context: Path | None = None) -> tuple[Ciphertext, Facts]:
    """A ciphertext of the expected kind, which belongs to what is at hand.  Errors: CiphertextError, EnvironmentFault.

    ``context``: the file of its context, for a ciphertext from someone else: it is loaded in a child process first.
    """
    envelope = read_envelope(path)
    envelope.expect(kind, ours)
    if context is not None:
        check_ciphertext(path, envelope.payload, context)
    return read_payload(envelope.payload, path), envelope.facts


def read_ciphertexts(
    paths: Sequence[Path], kind: str, ours: Belonging, *, context: Path
) -> Iterator[tuple[Ciphertext, Facts]]:
    """Ciphertexts from someone else, in their order, of which none is loaded before a child process has stood them all.

    Errors: as :func:`read_ciphertext`.
    """
    envelopes = [read_envelope(path) for path in paths]
    for envelope in envelopes:
        envelope.expect(kind, ours)
    check_ciphertexts([(envelope.path, envelope.payload) for envelope in envelopes], context)
    for envelope in envelopes:
        yield read_payload(envelope.payload, envelope.path), envelope.facts
