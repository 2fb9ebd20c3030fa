"""Cards that are kept beside keys: by service, and found by the weights that a result names."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from lowmem_resnet20.client.cards import card_path, card_with, keep_card, kept_card
from lowmem_resnet20.errors import EnvironmentFault, WeightsError
from miniature import random_weights

CARD, OTHER = random_weights().card, random_weights(seed=1).card
URLS = (
    "http://127.0.0.1:8642",
    "https://127.0.0.1:8642",
    "https://example.org/a/b",
    "https://example.org/a",
    "http://[::1]:8642",
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "exp6" / "client").mkdir(parents=True)
    return tmp_path / "exp6"


def test_each_service_has_its_own(folder):
    for number, url in enumerate(URLS):
        assert kept_card(card_path(folder, url)) is None
        keep_card(card_path(folder, url), replace(CARD, name=str(number)))
    for number, url in enumerate(URLS):
        assert kept_card(card_path(folder, url)) == replace(CARD, name=str(number))
    paths = list((folder / "client" / "cards").iterdir())
    assert len(paths) == len(URLS) and {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_a_long_address_has_a_name_too(folder):
    path = card_path(folder, "https://example.org/" + "a" * 1000)
    keep_card(path, CARD)
    assert kept_card(path) == CARD and path != card_path(folder, "https://example.org/" + "a" * 1001)


def test_another_takes_its_place_whole(folder):
    path = card_path(folder, URLS[0])
    for card in (CARD, OTHER):
        keep_card(path, card)
    assert kept_card(path) == OTHER and os.listdir(path.parent) == [path.name]


def test_it_is_found_by_the_weights(folder):
    assert card_with(folder, CARD.fingerprint) is None
    keep_card(card_path(folder, URLS[0]), CARD)
    keep_card(card_path(folder, URLS[1]), OTHER)
    keep_card(card_path(folder, URLS[2]), OTHER)
    assert (card_with(folder, CARD.fingerprint), card_with(folder, OTHER.fingerprint)) == (CARD, OTHER)
    assert card_with(folder, "0" * 16) is None
    keep_card(card_path(folder, URLS[3]), replace(OTHER, classes=tuple("abcdefghij")))
    with pytest.raises(WeightsError, match=r" are different cards of the same weights$"):
        card_with(folder, OTHER.fingerprint)


def test_one_that_was_damaged_or_cannot_be_kept(folder):
    path = card_path(folder, URLS[0])
    keep_card(path, CARD)
    path.write_text("{}")
    with pytest.raises(WeightsError, match="is not a card of this program"):
        kept_card(path)
    with pytest.raises(EnvironmentFault):
        keep_card(card_path(folder / "none", URLS[0]), CARD)
