"""The cards of services' networks that a client keeps beside its keys, each by the service's address.

A service gives its network's card to whoever uses it first, and that card is kept in ``cards`` in the client's key
folder.  From then on the service must have that network: another card is not taken.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ..errors import WeightsError
from ..files.keystore import CLIENT
from ..machine.files import beside, make_folder, os_errors
from ..network.card import Card
from ..network.cardfile import load_card, save_card

_FOLDER = "cards"


def card_path(folder: Path, url: str) -> Path:
    """Return where the card of the service at ``url`` is kept among the keys of ``folder`` (keys/expN)."""
    return beside(folder / CLIENT / _FOLDER / quote(url, safe=""), ".json")


def kept_card(path: Path) -> Card | None:
    """Return the card that is kept there, if one is.  Errors: WeightsError, EnvironmentFault."""
    with os_errors("read", path):
        there = path.exists()
    return load_card(path) if there else None


def keep_card(path: Path, card: Card) -> None:
    """Keep a service's card there, in the place of a former one.  Errors: EnvironmentFault."""
    make_folder(path.parent, parents=False)
    save_card(path, card, private=True)


def card_with(folder: Path, fingerprint: str) -> Card | None:
    """Return the card that is kept of the network whose weights have this fingerprint, if one is.

    Errors: WeightsError where services' cards of it say different things; EnvironmentFault.
    """
    cards = {path: load_card(path) for path in sorted((folder / CLIENT / _FOLDER).glob("*.json"))}
    paths = [path for path, card in cards.items() if card.fingerprint == fingerprint]
    for path in paths[1:]:
        if cards[path] != cards[paths[0]]:
            raise WeightsError(f"{paths[0]} and {path} are different cards of the same weights", "name one: card FILE")
    return cards[paths[0]] if paths else None
