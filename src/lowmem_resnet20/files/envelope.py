"""A ciphertext's file: a line of header, a line of facts, then the ciphertext's bytes.

The facts (JSON) name what it is, what it belongs to, and the SHA-256 of the bytes, so that a truncated, altered or
foreign file is refused before anything loads the ciphertext in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import CiphertextError
from ..machine.files import atomic_write, os_fault

MAGIC = b"lowmem-resnet20 ciphertext 2\n"
PICTURE, LOGITS, CHECKPOINT, STATE = "picture", "logits", "checkpoint", "state"
#: No facts are longer; no ciphertext of a shipped set is.
LONGEST_FACTS = 4096
LARGEST_BYTES = 1 << 28


@dataclass(frozen=True)
class Belonging:
    """What a ciphertext belongs to, and so what may be computed with it.

    set: number of the parameter set; keys: id of the keys; weights: their fingerprint; computation: fingerprint of all
    that the evaluation computes (:func:`..network.resnet20.computation`).
    """

    set: str
    keys: str
    weights: str
    computation: str


@dataclass(frozen=True)
class Facts(Belonging):
    """What a ciphertext is.  kind: PICTURE, LOGITS, CHECKPOINT (a layer's values) or STATE (all there is between two
    parts of the network); picture: id of the encrypted picture it was computed from; layer: of a checkpoint or state.

    An encrypted picture's id, or a group's (see :mod:`.group`), is the SHA-256 of the payload, which no other
    encryption shares, of the same picture neither; it is not written, but found when the file is read.
    """

    kind: str
    picture: str = ""
    layer: str = ""

    @classmethod
    def of(cls, belonging: Belonging, kind: str, picture: str = "", layer: str = "") -> Facts:
        return cls(**asdict(belonging), kind=kind, picture=picture, layer=layer)


@dataclass(frozen=True)
class Envelope:
    """A file as it was read.  payload: the ciphertext's bytes; digest: their SHA-256."""

    path: Path
    facts: Facts
    payload: bytes
    digest: str

    def expect(self, kind: str, ours: Belonging) -> None:
        """Errors: CiphertextError unless it is of the kind, and belongs to what is at hand."""
        if self.facts.kind != kind:
            raise CiphertextError(f"{self.path} holds {_name(self.facts.kind)}, not {_name(kind)}")
        _check_belonging(self.path, self.facts, ours)


def digest_of(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def write_envelope(path: Path, payload: bytes, facts: Facts) -> str:
    """Write whole or not at all; returns the digest of the payload."""
    digest = digest_of(payload)
    line = json.dumps(asdict(facts) | {"sha256": digest})
    atomic_write(path, MAGIC + line.encode() + b"\n" + payload)
    return digest


def read_envelope(path: Path) -> Envelope:
    """Errors: CiphertextError if the file is missing, not a ciphertext's, truncated or altered; EnvironmentFault."""
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
    if digest_of(payload) != digest:
        raise CiphertextError(f"{path} is truncated or altered", "make it again")
    if facts.kind == PICTURE:
        facts = replace(facts, picture=digest)
    return Envelope(path, facts, payload, digest)


def _check_belonging(path: Path, facts: Facts, ours: Belonging) -> None:
    if facts.set != ours.set:
        raise CiphertextError(f"{path} is of parameter set {facts.set}, not {ours.set}", "name the set it was made for")
    if facts.keys != ours.keys:
        raise CiphertextError(f"{path} was encrypted under other keys", "use the key folder it was made with")
    if facts.weights != ours.weights:
        raise CiphertextError(
            f"{path} is of other weights", "client and server must use the same file of weights: weights FILE"
        )
    if facts.computation != ours.computation:
        raise CiphertextError(
            f"{path} is of a version of this program that computes otherwise",
            "use the same version of this program on client and server",
        )


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
