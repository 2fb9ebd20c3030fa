"""Bearer tokens: made, read from the file of whoever runs the service, and hashed."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from ..errors import EnvironmentFault
from ..machine.files import atomic_write, hiding_hint, os_errors, read_bounded

_BYTES = 32
_SHORTEST, _LONGEST = 20, 200


def new_token() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(_BYTES)


def hashed(token: str | bytes) -> bytes:
    """Return a token's SHA-256: of so many random bits no salt is needed."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def token_in(path: Path) -> str:
    """Return the token that the file holds; at the first start one is made, in a file that its owner alone can read.

    Errors: EnvironmentFault for a file that others can read, or that holds no token.
    """
    if not path.exists():
        atomic_write(path, new_token().encode() + b"\n", private=True)
    with os_errors("look at", path):
        if path.stat().st_mode & 0o077:
            otherwise = f"have it lie elsewhere, and copy it before the start: install -m 600 FILE {path}"
            raise EnvironmentFault(f"others can read the token in {path}", hiding_hint(path, otherwise))
    no_token = EnvironmentFault(
        f"{path} holds no token of {_SHORTEST} to {_LONGEST} characters of ASCII without spaces",
        "remove it: a new one is made at the next start",
    )
    content = read_bounded(path, _LONGEST + len(b"\r\n"), no_token, no_token).strip()
    if not re.fullmatch(rb"[\x21-\x7e]{%d,%d}" % (_SHORTEST, _LONGEST), content):
        raise no_token
    return content.decode()
