"""The card's file: what a client needs of a network, and no weight, as a line of JSON, all of it checked.

Its fields are ``format``, ``network`` (the architecture), ``classes``, ``name``, ``mean``, ``std``, ``largest_logit``
and ``fingerprint``, of the weights.  It comes from whoever has the weights, who may be a stranger.  That it tells the
truth cannot be seen: the fingerprint too is what it claims.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from ..errors import ArchitectureError, WeightsError
from ..machine.files import atomic_write, read_bounded
from .card import Card, check_described, described

FORMAT = "lowmem-resnet20 card 1"
#: Of as many names as a network can have, each as long as it can be, with an escape for every letter.
LONGEST_CARD = 1 << 17
_FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.ASCII)


def card_text(card: Card) -> bytes:
    """Return a card as its file has it."""
    facts = asdict(card)
    line = {"format": FORMAT, "network": facts.pop("architecture")} | facts
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def save_card(path: str | Path, card: Card, *, private: bool = False) -> None:
    """Write whole or not at all; 0600 if ``private``.  Errors: WeightsError for one that could not be read again;
    EnvironmentFault."""
    parse_card(card_text(card), str(path))
    atomic_write(path, card_text(card), private=private)


def load_card(path: str | Path) -> Card:
    """Read and check a card.  Errors: WeightsError naming the first thing that is wrong; EnvironmentFault."""
    path = Path(path)
    missing, too_large = WeightsError(f"there is no card {path}"), WeightsError(f"{path} is too large for a card")
    return parse_card(read_bounded(path, LONGEST_CARD, missing, too_large), str(path))


def parse_card(text: bytes, source: str) -> Card:
    """Return the card that a file's content is.  Errors: WeightsError, in which it is called ``source``."""
    try:
        facts = json.loads(text)
        found = facts["format"]
        if found != FORMAT:
            raise WeightsError(f"{source} has format {str(found)[:40]!r}, and this program reads {FORMAT!r}")
        card = Card(**described(facts), fingerprint=facts["fingerprint"])
        if not _FINGERPRINT.fullmatch(card.fingerprint):
            raise ValueError("no fingerprint")
    except ArchitectureError as error:
        raise WeightsError(f"{source}: {error.message[:200]}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        hint = "one is made by: export_card FILE CARD"
        raise WeightsError(f"{source} is not a card of this program", hint) from None
    check_described(card, source)
    return card
