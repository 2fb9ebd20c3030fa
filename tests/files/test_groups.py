"""Groups of pictures, client to server to client on a small ring, by either engine: each picture its own logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import parties
from lowmem_resnet20.client.client import Client, Named
from lowmem_resnet20.client.encryptions import read_entries
from lowmem_resnet20.errors import CiphertextError
from lowmem_resnet20.files.envelope import LOGITS, Facts, read_envelope, write_envelope
from lowmem_resnet20.files.group import group_and_place, join, picture_id, split
from lowmem_resnet20.files.keystore import PUBLIC_KEY
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.resnet20 import Network, NoObserver, group_logits, pack_group
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.openfhe.ciphertexts import payload_of
from lowmem_resnet20.openfhe.context import read_public_key
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server.request import Job
from miniature import (
    ARCHITECTURE,
    INSECURE_FUNCTIONAL_SET,
    INSECURE_NATIVE_SET,
    NATIVE_NOISE,
    random_picture,
    random_weights,
)

WEIGHTS = random_weights(ARCHITECTURE)
PICTURES = [random_picture(ARCHITECTURE, np.random.default_rng(seed)) for seed in range(8)]
ENGINES = {"openfhe": INSECURE_FUNCTIONAL_SET, "native": INSECURE_NATIVE_SET}
#: The worst a logit may be off by the noise of encryption.
NOISE = {"openfhe": 1e-2, "native": NATIVE_NOISE}


@dataclass(frozen=True)
class Keyed:
    """A set and the folder of its keys.  evaluated: with those pictures, or empty places; returns its result's path."""

    set: ParameterSet
    keys: Path

    def encrypted(self, pictures, path: Path) -> list[str]:
        group = [Named(pixels, f"{i}") if pixels is not None else None for i, pixels in enumerate(pictures)]
        return parties.encrypt_group(self.keys, self.set, group, WEIGHTS, path)

    def evaluated(self, ciphertext: Path, *, resume: bool = False, progress=None, checkpoints=None) -> Path:
        output = ciphertext.with_name("r.ct")
        progress = progress or SilentProgress()
        job = Job(ciphertext, output, checkpoints)
        [outcome] = parties.evaluate(self.keys, self.set, [job], WEIGHTS, progress, resume=resume)
        if outcome.error:
            raise outcome.error
        return output

    def decrypted(self, result: Path) -> np.ndarray:
        return parties.decrypt_group(self.keys, self.set, result, WEIGHTS)


def keyed(set_: ParameterSet, folder: Path) -> Keyed:
    parties.generate_keys(set_, folder / "exp")
    return Keyed(set_, folder / "exp")


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> Keyed:
    """A group of eight, whose ciphertexts are four, two and one, by set 7's refresh; the ring is full throughout."""
    set_ = replace(INSECURE_NATIVE_SET, refresh=parameter_set(7).refresh, pictures=8, most_copies=1)
    return keyed(set_, tmp_path_factory.mktemp("native"))


def in_the_clear(set_: ParameterSet, pictures) -> np.ndarray:
    """(pictures, classes) of the same group without encryption."""
    slots = pack_group(set_, [None if pixels is None else WEIGHTS.normalise(pixels) for pixels in pictures])
    network = Network(set_, scale(WEIGHTS, set_.refresh), ClearEvaluator(set_), NoObserver())
    return group_logits(set_, network.run(*(Clear(part, 1) for part in slots)).values)


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


@pytest.mark.parametrize("engine, pictures", [("openfhe", 4), ("native", 2)])
def test_every_picture_of_a_group(engine, pictures, tmp_path):
    """Of one ciphertext and of two that become one, full and not.  Where each picture of groups of any size lies is
    tested in the clear."""
    party = keyed(replace(ENGINES[engine], pictures=pictures), tmp_path)
    group = PICTURES[:pictures]
    party.encrypted(group, tmp_path / "p.ct")
    logits = party.decrypted(party.evaluated(tmp_path / "p.ct"))
    assert worst(logits, in_the_clear(party.set, group)) < NOISE[party.set.engine]


def test_a_group_of_eight_with_an_empty_place(eight, tmp_path):
    """Also beside an empty place; its logits are the network's, and its checkpoints its own values."""
    group = [*PICTURES[:3], None, *PICTURES[4:]]
    ids = eight.encrypted(group, tmp_path / "p.ct")
    result = eight.evaluated(tmp_path / "p.ct", checkpoints=tmp_path / "c")
    logits = eight.decrypted(result)
    assert worst(logits, in_the_clear(eight.set, group)) < NOISE[eight.set.engine]
    filled = [place for place, pixels in enumerate(group) if pixels is not None]
    assert worst(logits[filled], np.stack([forward(WEIGHTS, group[place])["fc"] for place in filled])) < 0.3
    assert worst(parties.decrypt_logits(eight.keys, eight.set, result, WEIGHTS, ids[5]), logits[5]) < 1e-2
    listed = read_entries(eight.keys / "client")
    assert [listed[ids[place]].name for place in filled] == [f"{place}" for place in filled]
    assert ids[3] not in listed
    precision = parties.inspect_checkpoints(eight.keys, eight.set, tmp_path / "c", WEIGHTS, group[6], ids[6])
    # By keys the worst slot of a refresh has 7.5 to 9.5 bits, by its design 5.4; values of another picture have 1.
    assert all(p.bits > 5 for p in precision if p.bootstrap) and all(p.bits > 4 for p in precision)


def test_a_picture_alone_and_among_others_is_the_same_within_noise(eight, tmp_path):
    """In every place: the same one eight times, and once beside seven empty places."""
    eight.encrypted([PICTURES[0]] * 8, tmp_path / "p.ct")
    among = eight.decrypted(eight.evaluated(tmp_path / "p.ct"))
    eight.encrypted([PICTURES[0]], tmp_path / "alone.ct")
    alone = eight.decrypted(eight.evaluated(tmp_path / "alone.ct"))
    assert worst(among, alone[:1]) < 2 * NOISE[eight.set.engine]


class Killed(SilentProgress):
    """Ends the evaluation at a step."""

    def __init__(self, at: tuple[str, str]) -> None:
        super().__init__()
        self.at = at

    def step(self, stage, name):
        if (stage, name) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "at",
    [
        ("layer1, pictures 5-6", "layer1.0.conv2"),
        ("layer2, pictures 5-8", "layer2.0.conv1 refresh"),
        ("head", "pool and fc"),
    ],
)
def test_a_killed_group_goes_on_where_it_was(eight, tmp_path, at):
    """With four ciphertexts, with main branches and shortcuts of two, and with one."""
    eight.encrypted(PICTURES, tmp_path / "p.ct")
    with pytest.raises(KeyboardInterrupt):
        eight.evaluated(tmp_path / "p.ct", progress=Killed(at))
    steps = SilentProgress()
    logits = eight.decrypted(eight.evaluated(tmp_path / "p.ct", resume=True, progress=steps))
    assert worst(logits, in_the_clear(eight.set, PICTURES)) < NOISE[eight.set.engine]
    assert ("input", "conv1") not in {(step.stage, step.name) for step in steps.times}


def test_a_group_in_pieces_is_refused(eight, tmp_path):
    """A ciphertext less, one more, and one that is another length than it says."""
    eight.encrypted(PICTURES, tmp_path / "p.ct")
    sent = read_envelope(tmp_path / "p.ct")
    four = split(sent.payload, 4, sent.path)
    for payload in (join(four[:3]), join([*four, four[0]]), sent.payload[:-1], b""):
        write_envelope(tmp_path / "q.ct", payload, replace(sent.facts, picture=""))
        with pytest.raises(CiphertextError, match="does not hold a group of 4 ciphertexts"):
            eight.evaluated(tmp_path / "q.ct")


def test_a_result_of_too_few_numbers_is_refused(eight, tmp_path):
    """As anyone with the public key can make it."""
    client = Client(eight.keys, WEIGHTS, set_=eight.set)
    plaintext = client.context.MakeCKKSPackedPlaintext([1.0] * 64, 1, eight.set.multiplicative_depth - 1, None, 64)
    encrypted = client.context.Encrypt(read_public_key(eight.keys / "client" / PUBLIC_KEY), plaintext)
    facts = Facts.of(client.belonging, LOGITS)
    write_envelope(tmp_path / "r.ct", payload_of(encrypted), facts)
    with pytest.raises(CiphertextError, match="holds 64 numbers, too few for logits"):
        eight.decrypted(tmp_path / "r.ct")


def test_ids_of_places():
    assert picture_id("abc", 0, 1) == "abc" and group_and_place("abc", 1) == ("abc", 0)
    ids = [picture_id("a.c", place, 8) for place in range(8)]
    assert [group_and_place(identity, 8) for identity in ids] == [("a.c", place) for place in range(8)]


@pytest.mark.parametrize(
    "pictures, text", [(1, "abc.2"), (1, "a.b"), (8, "abc"), (8, "abc.9"), (8, "abc.0"), (8, "abc.x")]
)
def test_an_id_that_a_stranger_made_up_is_no_place(pictures, text):
    """A result names the picture it answers, and whoever wrote it may name anything."""
    assert group_and_place(text, pictures) == (text, 0)
