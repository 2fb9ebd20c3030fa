"""A card's file: what is written is read, it holds no weight, and what strangers put into one is refused in a line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowmem_resnet20.errors import WeightsError
from lowmem_resnet20.network.architecture import MOST_CLASSES, Architecture
from lowmem_resnet20.network.card import LONGEST_NAME, numbered_classes
from lowmem_resnet20.network.cardfile import LONGEST_CARD, card_text, load_card, parse_card, save_card
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from miniature import random_weights

ARCHITECTURE = Architecture(width=16, channels=(4, 8), blocks_per_stage=2, input_channels=1, classes=3)
CARD = replace(random_weights(ARCHITECTURE), classes=("Halt", "Straße", "止まれ"), name="signs").card
FACTS = json.loads(card_text(CARD))


def test_round_trip(tmp_path):
    save_card(tmp_path / "card", CARD)
    assert load_card(tmp_path / "card") == CARD
    assert (tmp_path / "card").read_bytes().count(b"\n") == 1
    own = load_weights(default_weights_path()).card
    assert parse_card(card_text(own), "it") == own


def test_no_weight_is_in_it():
    """The same of the network whose every weight is another, but for the fingerprint and the largest logit."""
    other = json.loads(card_text(random_weights(ARCHITECTURE, 1).card))
    assert {name for name in FACTS if FACTS[name] != other[name]} == {"classes", "name", "fingerprint", "largest_logit"}
    assert len(card_text(CARD)) < 500


def test_the_longest_can_be_read(tmp_path):
    names = tuple(f"{number:03d}" + "\N{GRINNING FACE}" * (LONGEST_NAME - 3) for number in range(MOST_CLASSES))
    largest = replace(CARD, architecture=replace(ARCHITECTURE, classes=MOST_CLASSES), classes=names)
    save_card(tmp_path / "card", largest)
    assert load_card(tmp_path / "card") == largest
    escaped = json.dumps(json.loads(card_text(largest)))
    assert len(escaped) < LONGEST_CARD and parse_card(escaped.encode(), "it") == largest


NETWORK = FACTS["network"]
NO_CARD = "is not a card of this program"


@pytest.mark.parametrize(
    "facts, message",
    [
        ({"format": "lowmem-resnet20 3"}, "has format 'lowmem-resnet20 3', and this program reads"),
        ({"format": ["x" * 1000]}, "has format"),
        ({"format": None}, "has format"),
        ({"network": NETWORK | {"width": 24}}, "width and channels must be powers of two"),
        ({"network": NETWORK | {"width": True}}, NO_CARD),
        ({"network": NETWORK | {"channels": "48"}}, NO_CARD),
        ({"network": NETWORK | {"channels": [2**i for i in range(2, 900)]}}, "do not fit in the 0 slots"),
        ({"network": NETWORK | {"blocks_per_stage": 10**4000}}, "a stage has 1 to 18 blocks"),
        ({"network": NETWORK | {"depth": 8}}, NO_CARD),
        ({"network": []}, NO_CARD),
        ({"classes": "abc"}, NO_CARD),
        ({"classes": {"a": 1, "b": 2, "c": 3}}, NO_CARD),
        ({"classes": ["a", "b"]}, "names 2 classes, and its network has 3"),
        ({"classes": ["a", "b", "a"]}, "has the class a twice"),
        ({"classes": ["a", "a"] * 9}, "names 18 classes, and its network has 3"),
        ({"classes": ["a", "b", "c" * 65]}, "cannot be a name"),
        ({"classes": ["a", "b", "\x1b[31mc"]}, "cannot be a name"),
        ({"classes": ["a", "b", "\u202ec"]}, "cannot be a name"),
        ({"classes": ["a", "b", "\ud800"]}, "cannot be a name"),
        ({"classes": ["a", "b", ""]}, "cannot be a name"),
        ({"classes": ["a", "b", ["c"]]}, "cannot be a name"),
        ({"name": None}, "cannot be a name"),
        ({"name": 0}, "cannot be a name"),
        ({"name": "two\nlines"}, "cannot be a name"),
        ({"mean": "0"}, NO_CARD),
        ({"mean": ["0.5"]}, NO_CARD),
        ({"mean": [True]}, NO_CARD),
        ({"mean": [0.5, 0.5, 0.5]}, "mean is not 1 finite numbers"),
        ({"mean": [float("nan")]}, "mean is not 1 finite numbers"),
        ({"mean": [10**400]}, NO_CARD),
        ({"mean": [1e300]}, "exceed 10000"),
        ({"std": [0.0]}, "std is not positive"),
        ({"std": [-0.25]}, "std is not positive"),
        ({"std": [1e-320]}, "exceed 10000"),
        ({"largest_logit": 0}, "largest_logit is not a positive number"),
        ({"largest_logit": float("inf")}, "largest_logit is not a positive number"),
        ({"largest_logit": "9"}, NO_CARD),
        ({"fingerprint": "w"}, NO_CARD),
        ({"fingerprint": "0123456789ABCDEF"}, NO_CARD),
        ({"fingerprint": 16}, NO_CARD),
    ],
)
def test_what_is_refused(facts, message):
    with pytest.raises(WeightsError) as caught:
        parse_card(json.dumps(FACTS | facts).encode(), "it")
    assert message in caught.value.message
    assert caught.value.message.isprintable() and len(caught.value.message) < 400


@pytest.mark.parametrize("name", FACTS)
def test_every_field_is_needed(name):
    with pytest.raises(WeightsError, match=NO_CARD):
        parse_card(json.dumps({key: fact for key, fact in FACTS.items() if key != name}).encode(), "it")


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"7", b'"card"', b"\xff", b"[" * 100_000])
def test_what_is_no_card_at_all(tmp_path, text):
    (tmp_path / "card").write_bytes(text)
    with pytest.raises(WeightsError, match=f"card {NO_CARD}$") as caught:
        load_card(tmp_path / "card")
    assert caught.value.hint == "one is made by: export_card FILE CARD"


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists),
    st.sampled_from([*FACTS]),
)
def test_any_value_is_taken_or_refused(value, name):
    try:
        card = parse_card(json.dumps(FACTS | {name: value}).encode(), "it")
    except WeightsError as error:
        assert error.message.isprintable() or name == "format"
    else:
        assert parse_card(card_text(card), "it") == card


def test_one_that_is_missing_or_too_large(tmp_path):
    with pytest.raises(WeightsError, match=r"^there is no card "):
        load_card(tmp_path / "none")
    (tmp_path / "large").write_bytes(card_text(CARD) + b" " * LONGEST_CARD)
    with pytest.raises(WeightsError, match=r"is too large for a card$"):
        load_card(tmp_path / "large")


def test_one_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(WeightsError, match="names 4 classes"):
        save_card(tmp_path / "card", replace(CARD, classes=numbered_classes(4)))
    assert list(tmp_path.iterdir()) == []


def test_it_normalises_as_the_weights_do():
    pixels = np.random.default_rng(0).uniform(0, 1, (1, 16, 16))
    assert (CARD.normalise(pixels) == random_weights(ARCHITECTURE).normalise(pixels)).all()
