"""What a stranger sends is parsed here, and OpenFHE reads what was written anew: pictures, results and checkpoints of
sets that OpenFHE evaluates and of native ones, on the miniature."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openfhe
import pytest

import parties
from lowmem_resnet20.client import Client
from lowmem_resnet20.errors import CiphertextError
from lowmem_resnet20.files.envelope import CHECKPOINT, LOGITS, Facts, sealed
from lowmem_resnet20.files.keystore import open_folder
from lowmem_resnet20.native.keys.openfhe_files import FileCiphertext, read_chain, read_ciphertext
from lowmem_resnet20.native.ring.chain import Chain
from lowmem_resnet20.openfhe.ciphertexts import payload_of
from lowmem_resnet20.openfhe.context import context_bytes
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server.server import open_engine
from miniature import ARCHITECTURE, INSECURE_NATIVE_SET, INSECURE_SET, random_picture, random_weights

WEIGHTS = random_weights(ARCHITECTURE)
SETS = {"openfhe": INSECURE_SET, "native": INSECURE_NATIVE_SET}
NAME = Path("p.ct")
#: What reads a stranger's bytes of each set: the server a picture, the client a result and a checkpoint.
READERS = [(engine, kind) for engine in SETS for kind in ("picture", LOGITS, CHECKPOINT)]


@dataclass(frozen=True)
class Sent:
    """A ciphertext's bytes, what they hold, and what reads such bytes."""

    payload: bytes
    found: FileCiphertext
    chain: Chain
    read: Callable[[bytes], Any]

    @property
    def residues_at(self) -> int:
        """Where those of the first polynomial modulo the first prime begin; their number stands before them."""
        return self.payload.index(self.found.residues[0, 0].tobytes())

    @property
    def facts_at(self) -> int:
        """Where slots, level, hops, noise degree, scale, integer scale and encoding stand."""
        found = self.found
        return self.payload.rindex(
            struct.pack("<4IdQI", found.slots, found.level, 0, found.noise_degree, found.scale, 1, 4)
        )

    def with_bytes(self, at: int, form: str, value: Any) -> bytes:
        data = struct.pack(form, value)
        return self.payload[:at] + data + self.payload[at + len(data) :]


@pytest.fixture(scope="module", params=READERS, ids="-".join)
def sent(request, tmp_path_factory) -> Iterator[Sent]:
    engine_name, kind = request.param
    set_, folder = SETS[engine_name], tmp_path_factory.mktemp("strangers") / "exp"
    parties.generate_keys(set_, folder)
    client = Client(folder, WEIGHTS, set_=set_)
    [ciphertext] = client.encrypt(random_picture(ARCHITECTURE, np.random.default_rng(0)))
    payload = ciphertext.opened().payload
    chain = read_chain(context_bytes(set_))
    if kind == "picture":
        manifest = open_folder(folder / "server", set_)
        engine = open_engine(folder / "server", set_, manifest, SilentProgress())
        yield Sent(payload, read_ciphertext(payload, chain), chain, lambda data: engine.read(data, NAME))
        engine.close()
        return

    client.unlock()
    facts = Facts.of(client.belonging, kind, "a picture", "" if kind == LOGITS else "conv1")

    def read(data: bytes) -> Any:
        """As whoever sends it can have it: with facts and a digest that fit."""
        result = sealed(data, facts)
        result.path = NAME
        return client.decrypt_group(result) if kind == LOGITS else client.decrypt_slots(result.opened())

    yield Sent(payload, read_ciphertext(payload, chain), chain, read)
    client.close()


@pytest.fixture
def given(monkeypatch) -> list[bytes]:
    """What OpenFHE is given to read, by whichever of its functions."""
    seen: list[bytes] = []

    def watched(read: Callable[..., Any]) -> Callable[..., Any]:
        def reads(data: Any, *arguments: Any) -> Any:
            seen.append(data if isinstance(data, bytes) else b"a file")
            return read(data, *arguments)

        return reads

    for name in dir(openfhe):
        if name.startswith("Deserialize"):
            monkeypatch.setattr(openfhe, name, watched(getattr(openfhe, name)))
    return seen


def altered(sent: Sent) -> dict[str, bytes]:
    """Another value in every region of a ciphertext's file."""
    payload, n, at, facts = sent.payload, sent.chain.dimension, sent.residues_at, sent.facts_at
    prime, towers = sent.found.residues.shape[1] - 1, sent.found.residues.shape[1]
    context = payload.index(struct.pack("<Q", sent.chain.q[prime].value))
    after = at + 8 * n
    size, level, noise, scale = at - 8, facts + 4, facts + 12, facts + 16
    assert struct.unpack_from("<Q", payload, size) == (n,) and context < at
    assert struct.unpack_from("<Q", payload, after) == (sent.chain.q[0].value,)
    wrong = {
        "nothing": b"",
        "text": b"no ciphertext",
        "zeros": bytes(len(payload)),
        "another endianness": b"\x00" + payload[1:],
        "header": payload[:9] + bytes([payload[9] ^ 1]) + payload[10:],
        "a context of another prime": sent.with_bytes(context, "<Q", sent.chain.q[prime].value + 2),
        "no vectors": sent.with_bytes(size, "<Q", 0),
        "a longer vector": sent.with_bytes(size, "<Q", 2 * n),
        "an enormous vector": sent.with_bytes(size, "<Q", 1 << 60),
        "another modulus": sent.with_bytes(after, "<Q", sent.chain.q[0].value + 2),
        "a residue as large as its prime": sent.with_bytes(at, "<Q", sent.chain.q[0].value),
        "a residue of 64 bits": sent.with_bytes(after - 8, "<Q", (1 << 64) - 1),
        "level": sent.with_bytes(level, "<I", sent.found.level + 1),
        "no level": sent.with_bytes(level, "<I", (1 << 32) - 1),
        "hops": sent.with_bytes(facts + 8, "<I", 1),
        "noise degree": sent.with_bytes(noise, "<I", 3),
        "integer scale": sent.with_bytes(scale + 8, "<Q", 2),
        "encoding": sent.with_bytes(scale + 16, "<I", 2),
        "trailing bytes": payload + b"\x00",
        "twice": payload + payload,
    }
    wrong |= {f"{slots} slots": sent.with_bytes(facts, "<I", slots) for slots in (0, 3, n, 1 << 31)}
    wrong |= {f"scale {x}": sent.with_bytes(scale, "<d", x) for x in (float("nan"), float("inf"), 0.0, -1.0, 1e-300)}
    cuts = [1, 2, 8, size, at, at + 8 * n * towers // 2, facts, facts + 17, len(payload) - 1]
    return wrong | {f"the first {length} bytes": payload[:length] for length in cuts}


def test_whatever_is_altered_is_refused_before_openfhe_reads_anything(sent, given):
    for name, payload in altered(sent).items():
        with pytest.raises(CiphertextError) as caught:
            sent.read(payload)
        assert caught.value.message.startswith(f"{NAME} holds no ciphertext"), name
        assert "\n" not in caught.value.message + caught.value.hint, name
        assert given == [], name


def test_openfhe_reads_what_was_written_anew(sent, given, request):
    """A beginning that differs where anything is accepted is no more in it; and what it reads does show here."""
    beginning = len(sent.found.form.beginning)
    forged = bytearray(sent.payload)
    forged[_accepted(sent, beginning)] ^= 1
    sent.read(bytes(forged))
    if "native-picture" in request.node.callspec.id:
        assert given == []  # there is no OpenFHE in that server
        return
    [written] = given
    assert bytes(forged[:beginning]) not in written
    assert sent.payload[:beginning] == written[:beginning] and sent.found.residues.tobytes()[:1000] in written
    given.clear()
    with suppress(RuntimeError, ValueError):
        openfhe.DeserializeCiphertextString(b"a control", openfhe.BINARY)
    assert given == [b"a control"]


def _accepted(sent: Sent, end: int) -> int:
    """The first byte of the beginning with which another is accepted too."""
    for at in range(end):
        changed = bytearray(sent.payload)
        changed[at] ^= 1
        with suppress(CiphertextError):
            read_ciphertext(changed, sent.chain)
            return at
    raise AssertionError("every byte is checked")


def test_a_ciphertext_of_another_pair_of_keys_is_read_under_ones_own(sent, given):
    """The tag of its pair, which a stranger may choose, is not what OpenFHE looks keys up by."""
    set_ = SETS["openfhe"] if sent.chain.q == read_chain(context_bytes(SETS["openfhe"])).q else SETS["native"]
    from lowmem_resnet20.openfhe.context import new_context

    context = new_context(set_)
    pair = context.KeyGen()
    level, slots = sent.found.level, sent.found.slots
    plaintext = context.MakeCKKSPackedPlaintext([0.5] * slots, 1, level, None, slots)
    other = payload_of(context.Encrypt(pair.publicKey, plaintext))
    tag = pair.secretKey.GetKeyTag().encode()
    assert tag in other
    with suppress(CiphertextError):  # noise to the client, which may be refused as such
        sent.read(other)
    assert not any(tag in data for data in given)
