"""Ciphertexts in files: a line of header, a line of facts, then OpenFHE's bytes.

The facts (JSON) name the keys it was made under, what it is, and the SHA-256 of the bytes, so that a
truncated, altered or foreign file is refused before OpenFHE, which may end the process, sees it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import CiphertextError, on_one_line
from ..machine.files import atomic_write, os_fault
from .library import BINARY, Ciphertext, openfhe
from .trial import check_ciphertext

MAGIC = b"lowmem-resnet20 ciphertext 1\n"
PICTURE, LOGITS, CHECKPOINT, STATE = "picture", "logits", "checkpoint", "state"
#: No facts are longer; no ciphertext of a shipped set is.
LONGEST_FACTS = 4096
LARGEST_BYTES = 1 << 28


@dataclass(frozen=True)
class Facts:
    """What a ciphertext is.  kind: PICTURE, LOGITS, CHECKPOINT (a layer's values) or STATE (all there is between two
    parts of the network); keys: id of the keys; layer: of a checkpoint or state."""

    kind: str
    keys: str
    layer: str = ""


def write_ciphertext(path: Path, ciphertext: Ciphertext, facts: Facts) -> None:
    """Write whole or not at all."""
    payload = openfhe.Serialize(ciphertext, BINARY)
    line = json.dumps(asdict(facts) | {"sha256": hashlib.sha256(payload).hexdigest()})
    atomic_write(path, MAGIC + line.encode() + b"\n" + payload)


def read_ciphertext(path: Path, kind: str, keys: str, *, context: Path | None = None) -> tuple[Ciphertext, Facts]:
    """A ciphertext of the expected kind under the expected keys.  Errors: CiphertextError, EnvironmentFault.

    ``context``: the file of its context, for a ciphertext from someone else: it is loaded in a child process first.
    """
    facts, payload = _split(path)
    if facts.kind != kind:
        raise CiphertextError(f"{path} holds {_name(facts.kind)}, not {_name(kind)}")
    if facts.keys != keys:
        raise CiphertextError(f"{path} was encrypted under other keys", "use the key folder it was made with")
    if context is not None:
        check_ciphertext(path, context)
    return _load(path, payload), facts


def load_payload(path: Path) -> Ciphertext:
    """A ciphertext of any kind and keys."""
    return _load(path, _split(path)[1])


def _load(path: Path, payload: bytes) -> Ciphertext:
    try:
        return openfhe.DeserializeCiphertextString(payload, BINARY)
    except RuntimeError as error:
        raise CiphertextError(f"{path} cannot be read: {on_one_line(error)}") from error


def _split(path: Path) -> tuple[Facts, bytes]:
    try:
        with open(path, "rb") as file:
            magic, line = file.read(len(MAGIC)), file.readline(LONGEST_FACTS)
            if magic != MAGIC:
                raise CiphertextError(f"{path} is not a ciphertext of this program")
            payload = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise CiphertextError(f"there is no ciphertext {path}") from None
    except OSError as error:
        raise os_fault(error, "read", path) from error
    if len(payload) > LARGEST_BYTES:
        raise CiphertextError(f"{path} is too large for a ciphertext")
    facts, digest = _parse(path, line)
    if hashlib.sha256(payload).hexdigest() != digest:
        raise CiphertextError(f"{path} is truncated or altered", "make it again")
    return facts, payload


def _parse(path: Path, line: bytes) -> tuple[Facts, str]:
    try:
        fields = json.loads(line)
        digest = fields.pop("sha256")
        facts = Facts(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CiphertextError(f"{path} is not a ciphertext of this program") from None
    if not all(isinstance(value, str) for value in (digest, *asdict(facts).values())):
        raise CiphertextError(f"{path} is not a ciphertext of this program")
    return facts, digest


def _name(kind: str) -> str:
    return {
        PICTURE: "an encrypted picture",
        LOGITS: "encrypted logits",
        CHECKPOINT: "a checkpoint",
        STATE: "a state",
    }.get(kind, kind)
