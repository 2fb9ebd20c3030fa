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
from ..network.card import Card
from ..network.parameters import ParameterSet
from ..network.resnet20 import computation as computation_of
from ..network.weights import Weights

MAGIC = b"lowmem-resnet20 ciphertext 2\n"
PICTURE, LOGITS, CHECKPOINT, STATE = "picture", "logits", "checkpoint", "state"
#: No facts are longer; no ciphertext of a shipped set is.
LONGEST_FACTS = 4096
LARGEST_BYTES = 1 << 28


@dataclass(frozen=True)
class Belonging:
    """The evaluation that a ciphertext belongs to, and outside which nothing may be computed with it.

    set: number of the parameter set;
    keys: id of the keys;
    weights: their fingerprint;
    computation: fingerprint of all that the evaluation computes (:func:`..network.resnet20.computation`).
    """

    set: str
    keys: str
    weights: str
    computation: str


def belonging(set_: ParameterSet, keys: str, network: Weights | Card) -> Belonging:
    """Return what ciphertexts of an evaluation with these belong to; keys: their id."""
    return Belonging(str(set_.number), keys, network.fingerprint, computation_of(set_))


@dataclass(frozen=True)
class Facts(Belonging):
    """The description of a ciphertext.

    kind: PICTURE, LOGITS, CHECKPOINT (a layer's values) or STATE (all there is between two parts of the network);
    picture: id of the encrypted picture it was computed from;
    layer: of a checkpoint or state.

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
    """The content of a :class:`Ciphertext`, checked.

    path: what errors call it;
    facts: what it is;
    payload: OpenFHE's bytes of the ciphertext, or of a group's;
    digest: their SHA-256.
    """

    path: Path
    facts: Facts
    payload: bytes
    digest: str

    def expect(self, kind: str, ours: Belonging) -> None:
        """Raise CiphertextError unless it is of the kind, and belongs to what is at hand."""
        if self.facts.kind != kind:
            raise CiphertextError(f"{self.path} holds {_name(self.facts.kind)}, not {_name(kind)}")
        _check_belonging(self.path, self.facts, ours)


class Ciphertext(bytes):
    """An encrypted picture, an encrypted result, or a group of either: bytes that travel between client and server.

    path: the file it was loaded from or saved to, or else what errors call it.
    """

    path = Path("the ciphertext")

    @classmethod
    def load(cls, path: str | Path) -> Ciphertext:
        """Read a file.  Errors: CiphertextError if it is missing or no ciphertext's; EnvironmentFault."""
        path = Path(path)
        try:
            with open(path, "rb") as file:
                magic = file.read(len(MAGIC))
                if magic != MAGIC:
                    raise CiphertextError(f"{path} is not a ciphertext of this program")
                loaded = cls(magic + file.read(LONGEST_FACTS + LARGEST_BYTES + 1))
        except FileNotFoundError:
            raise CiphertextError(f"there is no ciphertext {path}") from None
        except OSError as error:
            raise os_fault(error, "read", path) from error
        loaded.path = path
        return loaded

    def save(self, path: str | Path) -> None:
        """Write the file ``path``, whole or not at all; one that is there is replaced.  Errors: EnvironmentFault."""
        atomic_write(Path(path), self)
        self.path = Path(path)

    def opened(self) -> Envelope:
        """Check what it is.  Errors: CiphertextError if it is not a ciphertext's, truncated, altered or too large."""
        magic, line_end = self[: len(MAGIC)], self.find(b"\n", len(MAGIC), len(MAGIC) + LONGEST_FACTS) + 1
        if magic != MAGIC or not line_end:
            raise CiphertextError(f"{self.path} is not a ciphertext of this program")
        payload = self[line_end:]
        if len(payload) > LARGEST_BYTES:
            raise CiphertextError(f"{self.path} is too large for a ciphertext")
        facts, digest = _parse(self.path, self[len(MAGIC) : line_end])
        if digest_of(payload) != digest:
            raise CiphertextError(f"{self.path} is truncated or altered", "make it again")
        if facts.kind == PICTURE:
            facts = replace(facts, picture=digest)
        return Envelope(self.path, facts, payload, digest)


def sealed(payload: bytes, facts: Facts) -> Ciphertext:
    """Return a payload with its facts and their check before it."""
    line = json.dumps(asdict(facts) | {"sha256": digest_of(payload)})
    return Ciphertext(MAGIC + line.encode() + b"\n" + payload)


def digest_of(payload: bytes) -> str:
    """Return the SHA-256 of a payload."""
    return hashlib.sha256(payload).hexdigest()


def write_envelope(path: Path, payload: bytes, facts: Facts) -> str:
    """Write a payload's file whole or not at all; returns the digest of the payload."""
    sealed(payload, facts).save(path)
    return digest_of(payload)


def read_envelope(path: Path) -> Envelope:
    """Read and check a file.  Errors: as of :meth:`Ciphertext.load` and :meth:`Ciphertext.opened`."""
    return Ciphertext.load(path).opened()


def _check_belonging(path: Path, facts: Facts, ours: Belonging) -> None:
    if facts.set != ours.set:
        raise CiphertextError(f"{path} is of parameter set {facts.set}, not {ours.set}", "name the set it was made for")
    if facts.keys != ours.keys:
        raise CiphertextError(f"{path} was encrypted under other keys", "use the key folder it was made with")
    if facts.weights != ours.weights:
        raise CiphertextError(f"{path} is of other weights", "name those it was made for: weights FILE, or card CARD")
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
