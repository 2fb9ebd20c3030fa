"""OpenFHE's ciphertexts as bytes, one's own and those that someone else sends."""

from __future__ import annotations

from pathlib import Path

from ..errors import CiphertextError
from ..native.keys.openfhe_files import read_chain, read_ciphertext, read_form, write_ciphertext
from .library import BINARY, Ciphertext, Context, PublicKey, openfhe, openfhe_errors


def payload_of(ciphertext: Ciphertext) -> bytes:
    """Return OpenFHE's bytes of a ciphertext."""
    return openfhe.Serialize(ciphertext, BINARY)


class Strangers:
    """Reads what someone else has sent, or may have changed.

    OpenFHE trusts what it reads: of bytes that are no ciphertext it may abort, or ask for any amount of memory.  So
    the bytes are parsed and checked here (see :mod:`..native.keys.openfhe_files`), and what OpenFHE reads is written
    anew, of residues below their primes and of the beginning of a ciphertext of one's own.
    """

    def __init__(self, context: Context, public_key: PublicKey) -> None:
        zero = context.MakeCKKSPackedPlaintext([0.0], 1, 0, None, 1)
        self._chain = read_chain(openfhe.Serialize(context, BINARY))
        self._form = read_form(payload_of(context.Encrypt(public_key, zero)), self._chain)

    def read(self, payload: bytes, path: Path) -> Ciphertext:
        """Load the bytes of ``path``.  Errors: CiphertextError unless they are a ciphertext of this context."""
        try:
            sent = read_ciphertext(payload, self._chain)
        except CiphertextError as error:
            message = f"{path} holds no ciphertext of these parameters: {error.message}"
            raise CiphertextError(message, "make it again") from None
        written = write_ciphertext(
            self._form,
            sent.residues,
            slots=sent.slots,
            level=sent.level,
            noise_degree=sent.noise_degree,
            scale=sent.scale,
        )
        with openfhe_errors(lambda reason: CiphertextError(f"{path} cannot be read: {reason}")):
            return openfhe.DeserializeCiphertextString(written, BINARY)
