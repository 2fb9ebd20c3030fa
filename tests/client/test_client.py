"""The client as programs use it: what it takes, refuses, returns and lets go of.

Its results are encrypted here: nothing is evaluated.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography")

import parties
from lowmem_resnet20.client import Client, Result
from lowmem_resnet20.client.precision import inspect_checkpoints
from lowmem_resnet20.errors import CiphertextError, KeyFolderError, PictureError, UsageError, WeightsError
from lowmem_resnet20.files.envelope import LOGITS, Ciphertext, Facts, sealed
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.openfhe.ciphertexts import payload_of
from miniature import INSECURE_SHORT_SET as SET
from miniature import random_picture, random_weights

WEIGHTS = random_weights(SET.architecture)
PIXELS = random_picture(SET.architecture, np.random.default_rng(3))
OTHERS = random_picture(SET.architecture, np.random.default_rng(4))
PASSPHRASE = "open sésame"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("client") / "exp6"
    parties.generate_keys(SET, folder, PASSPHRASE)
    return folder


@pytest.fixture
def client(keys):
    with Client(keys, WEIGHTS, PASSPHRASE, SET) as client:
        yield client


def answer(client: Client, sent: Ciphertext, logits: np.ndarray) -> Ciphertext:
    """Return what a server would, with these logits."""
    slots = np.zeros(SET.architecture.final_width**2)
    slots[: len(logits)] = logits
    plaintext = client.context.MakeCKKSPackedPlaintext(slots, 1, SET.multiplicative_depth - 1, None, len(slots))
    payload = payload_of(client.context.Encrypt(client._public_key, plaintext))
    return sealed(payload, Facts.of(client.belonging, LOGITS, sent.opened().facts.picture))


def test_results_come_by_the_names_that_were_given(client):
    sent = client.encrypt(PIXELS, OTHERS, names=["one", "other"])
    plain = [forward(WEIGHTS, pixels)["fc"] for pixels in (PIXELS, OTHERS)]
    answers = [answer(client, *pair) for pair in zip(sent, plain, strict=True)]
    other, one = client.decrypt(reversed(answers))
    assert (one.name, other.name) == ("one", "other")
    assert (one.picture, other.picture) == tuple(ciphertext.opened().digest for ciphertext in sent)
    for result, logits in ((one, plain[0]), (other, plain[1])):
        assert isinstance(result, Result) and result.warnings == ()
        assert np.abs(np.subtract(result.logits, logits)).max() < 1e-3 * WEIGHTS.largest_logit
        assert result.index == int(np.argmax(logits))
    [alone] = client.decrypt(answers[0])  # one ciphertext will do as well as a list
    assert (alone.name, alone.picture, alone.index) == (one.name, one.picture, one.index)


def test_names_are_for_every_picture_or_none(client):
    before = client.encryptions()
    with pytest.raises(ValueError, match="zip"):
        client.encrypt(PIXELS, OTHERS, names=["one"])
    assert client.encryptions() == before
    assert client.encrypt() == []


def test_another_process_knows_the_names_and_warns_of_nothing(client, keys):
    """The list of encryptions is the folder's; the pictures themselves are kept nowhere."""
    [sent] = client.encrypt(PIXELS, names=["a name"])
    answered = answer(client, sent, forward(WEIGHTS, PIXELS)["fc"] + WEIGHTS.largest_logit / 2)
    [result] = Client(keys, WEIGHTS, PASSPHRASE, SET).decrypt(answered)
    assert (result.name, result.picture, result.warnings) == ("a name", sent.opened().digest, ())


@pytest.mark.parametrize(
    "pixels, message",
    [
        (np.zeros((16, 16)), r"picture 2 has shape \(16, 16\) instead of \(3, 16, 16\)"),
        (np.zeros((16, 16, 3)), r"picture 2 has shape \(16, 16, 3\) instead of \(3, 16, 16\)"),
        (np.zeros((3, 32, 32)), r"picture 2 has shape \(3, 32, 32\) instead of \(3, 16, 16\)"),
        (np.zeros((3, 16, 16), np.uint8), "the pixels of picture 2 are uint8, not floating"),
        (np.zeros((3, 16, 16), complex), "the pixels of picture 2 are complex128, not floating"),
        (np.full((3, 16, 16), "a"), "the pixels of picture 2 are <U1, not floating"),
        (np.full((3, 16, 16), 255.0), "picture 2 has pixels that are not from 0 to 1"),
        (np.full((3, 16, 16), -1e-9), "picture 2 has pixels that are not from 0 to 1"),
        (np.full((3, 16, 16), np.nan), "picture 2 has pixels that are not from 0 to 1"),
        (np.full((3, 16, 16), np.inf), "picture 2 has pixels that are not from 0 to 1"),
        (np.zeros((3, 16, 16)).tolist(), "picture 2 is a list, and no array of pixels"),
        ("dog.png", "picture 2 is a str, and no array of pixels"),
        (None, "picture 2 is a NoneType, and no array of pixels"),
    ],
)
def test_what_are_no_pixels_is_refused_before_anything_is_encrypted(client, pixels, message):
    before = client.encryptions()
    with pytest.raises(PictureError, match=message) as caught:
        client.encrypt(PIXELS, pixels)
    assert caught.value.hint
    assert client.encryptions() == before


def test_pixels_of_any_floating_kind_will_do(client):
    assert len(client.encrypt(PIXELS.astype(np.float32), np.asfortranarray(PIXELS), PIXELS[:, ::-1])) == 3


def test_a_picture_out_of_range_is_warned_of(keys):
    """As its ranges are those of gentler pictures."""
    narrow = replace(WEIGHTS, bounds={name: bounds / 100 for name, bounds in WEIGHTS.bounds.items()})
    with Client(keys, narrow, PASSPHRASE, SET) as client:
        [sent] = client.encrypt(PIXELS, names=["loud"])
        [result] = client.decrypt(answer(client, sent, forward(narrow, PIXELS)["fc"]))
    [caution] = result.warnings
    assert str(caution).startswith("loud comes to ") and "times what set 6 can take" in str(caution)
    assert caution.hint


def test_a_result_of_other_logits_is_warned_of(client):
    [sent] = client.encrypt(PIXELS, names=["dog"])
    wrong = forward(WEIGHTS, PIXELS)["fc"]
    wrong[0] += WEIGHTS.largest_logit / 2
    [result] = client.decrypt(answer(client, sent, wrong))
    [caution] = result.warnings
    assert str(caution).startswith("dog: a logit is ") and "the result may be wrong" in str(caution)


def test_what_are_no_logits_is_an_error(client):
    [sent] = client.encrypt(PIXELS)
    noise = answer(client, sent, np.full(10, 100 * WEIGHTS.largest_logit))
    with pytest.raises(CiphertextError, match="the ciphertext holds numbers that are no logits"):
        client.decrypt(noise)
    with pytest.raises(CiphertextError, match="the ciphertext holds an encrypted picture, not encrypted logits"):
        client.decrypt(sent)
    with pytest.raises(CiphertextError, match="the ciphertext is truncated or altered"):
        client.decrypt(Ciphertext(noise[:-1]))


def test_a_ciphertext_is_bytes_with_a_file(client, tmp_path):
    [sent] = client.encrypt(PIXELS)
    sent.save(tmp_path / "p.ct")
    assert (tmp_path / "p.ct").read_bytes() == sent == Ciphertext.load(tmp_path / "p.ct")
    with pytest.raises(CiphertextError, match=r"p\.ct holds an encrypted picture"):
        client.decrypt(Ciphertext.load(tmp_path / "p.ct"))


@pytest.mark.parametrize("passphrase", [PASSPHRASE, PASSPHRASE.encode(), lambda path: PASSPHRASE.encode()])
def test_a_passphrase_may_be_text_bytes_or_asked_for(keys, passphrase):
    Client(keys, WEIGHTS, passphrase, SET).unlock()


def test_it_is_asked_for_once_and_told_the_file(keys):
    asked = []
    client = Client(keys, WEIGHTS, lambda path: (asked.append(path), PASSPHRASE.encode())[1], SET)
    assert asked == []
    client.unlock()
    client.unlock()
    assert asked == [keys / "client" / "secret.key"]


@pytest.mark.parametrize(
    "passphrase, message",
    [
        (None, "secret.key is under a passphrase, and none was given"),
        ("open sesame", "the passphrase is not the one"),
        (b"open sesame", "the passphrase is not the one"),
        (lambda path: b"open sesame", "the passphrase is not the one"),
        ("", "an empty passphrase protects nothing"),
    ],
)
def test_without_the_right_passphrase_there_is_no_result(keys, passphrase, message):
    """But encrypting needs none."""
    client = Client(keys, WEIGHTS, passphrase, SET)
    [sent] = client.encrypt(PIXELS)
    with pytest.raises(KeyFolderError, match=message):
        client.decrypt(answer(client, sent, forward(WEIGHTS, PIXELS)["fc"]))


def test_a_closed_client_holds_no_secret(keys):
    asked = []
    client = Client(keys, WEIGHTS, lambda path: (asked.append(path), PASSPHRASE.encode())[1], SET)
    with client:
        client.unlock()
        held = weakref.ref(client._secret_key)
    gc.collect()
    assert held() is None and "_secret_key" not in vars(client) and "context" not in vars(client)
    client.unlock()
    assert len(asked) == 2  # it is read anew


def test_keys_and_weights_are_looked_at_once_when_it_is_made(keys, tmp_path):
    for wrong, error, message in (
        ((tmp_path / "absent", WEIGHTS, None, SET), KeyFolderError, "there is no key folder .*absent"),
        ((keys, WEIGHTS, None, 1), KeyFolderError, "holds keys of set 6, not 1"),
        ((keys, tmp_path / "absent", None, SET), WeightsError, "absent"),
    ):
        with pytest.raises(error, match=message):
            Client(*wrong)


# --- without weights --------------------------------------------------------------------------------------

NAMES = ("Halt", "Straße", "止まれ", *"defghij")
CARD = replace(WEIGHTS, classes=NAMES).card


@pytest.fixture
def without_weights(keys):
    with Client(keys, CARD, PASSPHRASE, SET) as client:
        yield client


def test_a_card_is_enough_to_encrypt_and_to_name_the_class(client, without_weights):
    """What is sent is of the same network; who has the weights could answer it, and read the answer."""
    assert (without_weights.weights, without_weights.card, client.card) == (None, CARD, WEIGHTS.card)
    assert without_weights.belonging == client.belonging
    [sent] = without_weights.encrypt(PIXELS, names=["a sign"])
    logits = forward(WEIGHTS, PIXELS)["fc"]
    [result] = without_weights.decrypt(answer(without_weights, sent, logits))
    assert (result.name, result.label, result.warnings) == ("a sign", NAMES[int(np.argmax(logits))], ())
    [same] = client.decrypt(answer(client, sent, logits))
    assert same.index == result.index


def test_what_a_card_cannot_foresee(without_weights):
    """Logits unlike the plain network's are not noticed; those that no picture has are."""
    assert without_weights.foresee(PIXELS, "a sign") == (None, ())
    [sent] = without_weights.encrypt(PIXELS)
    wrong = forward(WEIGHTS, PIXELS)["fc"]
    wrong[0] += WEIGHTS.largest_logit / 2
    [result] = without_weights.decrypt(answer(without_weights, sent, wrong))
    assert result.warnings == ()
    with pytest.raises(CiphertextError, match="holds numbers that are no logits"):
        without_weights.decrypt(answer(without_weights, sent, np.full(10, 2.1 * WEIGHTS.largest_logit)))


def test_what_needs_weights_says_so(without_weights, tmp_path):
    for work in (
        lambda: without_weights.weights_for("checkpoints"),
        lambda: inspect_checkpoints(without_weights, tmp_path, PIXELS, "0" * 64),
    ):
        with pytest.raises(UsageError, match=r"^checkpoints needs the network's weights, and here is its card alone$"):
            work()
