"""Bytes under a passphrase, for the client's secret key: made, and opened again.

Scrypt (RFC 7914) makes a key of the passphrase and a random salt, AES-256-GCM encrypts under it and tells of any
change; both are the package cryptography's, which is imported when it is needed.  File: a line that names the form and
so all its numbers, salt, nonce, ciphertext with its tag.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import KeyFolderError

MAGIC = b"lowmem-resnet20 sealed 1\n"
#: Scrypt's N, r and p: 128 MiB of memory and the better part of a second, for each guess too.
_COST, _BLOCK_SIZE, _PARALLEL = 1 << 17, 8, 1
_KEY_BYTES, _SALT_BYTES, _NONCE_BYTES = 32, 16, 12


def sealer(passphrase: bytes) -> Callable[[bytes], bytes]:
    """Return what seals bytes under ``passphrase``.  The key is made at once, so that nothing can fail for want of it.

    Errors: ImportError without the package cryptography; MemoryError.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt = os.urandom(_SALT_BYTES)
    cipher = AESGCM(_key(passphrase, salt))

    def seal(data: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return MAGIC + salt + nonce + cipher.encrypt(nonce, data, MAGIC)

    return seal


def encoded(passphrase: str | bytes) -> bytes:
    """Return a passphrase as bytes, as the terminal would give it.  Errors: KeyFolderError if it is empty."""
    if not passphrase:
        raise KeyFolderError("an empty passphrase protects nothing", "leave it out, or choose one")
    return passphrase if isinstance(passphrase, bytes) else passphrase.encode("utf-8", "surrogateescape")


def is_sealed(data: bytes) -> bool:
    """Return whether a passphrase is needed to read these bytes."""
    return data.startswith(MAGIC)


def opened(sealed: bytes, passphrase: bytes) -> bytes:
    """Return what was sealed.  Errors: KeyFolderError for another passphrase or altered bytes; as :func:`sealer`."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt_end = len(MAGIC) + _SALT_BYTES
    nonce_end = salt_end + _NONCE_BYTES
    salt, nonce, ciphertext = sealed[len(MAGIC) : salt_end], sealed[salt_end:nonce_end], sealed[nonce_end:]
    try:
        return AESGCM(_key(passphrase, salt)).decrypt(nonce, ciphertext, MAGIC)
    except (InvalidTag, ValueError):  # ValueError: bytes too few to be any
        raise KeyFolderError("the passphrase is not the one that the secret key was protected by") from None


def _key(passphrase: bytes, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=_KEY_BYTES, n=_COST, r=_BLOCK_SIZE, p=_PARALLEL).derive(passphrase)
