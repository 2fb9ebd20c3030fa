"""The client of a request: its keys, and the network that it is about, by weights, or by a card alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EnvironmentFault, LowmemError, WeightsError
from ..machine.coredumps import forbid_core_dumps
from ..machine.text import one_line
from .access import access
from .named import ciphertexts_named, key_folder
from .output import Printer
from .passphrase import passphrase_of
from .words import Request

if TYPE_CHECKING:
    from ..client import Client
    from ..network.card import Card
    from ..network.weights import Weights

#: Names of classes that are shown of a network that is met for the first time.
_MOST_SHOWN = 16


def open_client(request: Request, printer: Printer) -> Client:
    """Return the client whose keys are named.  This process leaves no core dump from here on.

    Errors: as of :class:`..client.Client`; as of the connection to a service that is named without a network.
    """
    from ..client import Client

    forbid_core_dumps()
    return Client(key_folder(request), _network(request, printer), passphrase_of, request.set_number)


def check(request: Request, client: Client, printer: Printer) -> None:
    """See, before anything is encrypted, that a service which the request names is there and computes what is asked.

    Errors: as :func:`..remote.evaluation.check_service`.
    """
    if request.server and (request.weights or request.card):  # otherwise it was asked what it has
        from ..remote.evaluation import check_service

        check_service(access(request, printer), client.set, client.card)
        if request.card:
            _keep(_card_path(request), client.card, request, printer)


def _keep(path: Path, card: Card, request: Request, printer: Printer) -> None:
    """Keep the card of a service's network beside the keys; say, at every verbosity, what network it is, where it was
    not known before."""
    from ..client.cards import keep_card, kept_card
    from ..network.weights import weights_given

    if kept_card(path) == card:
        return
    if card != weights_given(None).card:
        rows = "".join(f"\n{name:<7}  {text}" for name, text in shown(card).items())
        kept = one_line(f"the network of the service at {request.server}, by its card, which is kept in {path}:")
        printer.say(kept + rows)
    try:
        keep_card(path, card)
    except EnvironmentFault as error:
        printer.warning(f"{error.message}: next time another card would be taken unseen", error.hint)


def shown(card: Card) -> dict[str, str]:
    """Return what a user is shown of a network, by name."""
    names, more = card.classes[:_MOST_SHOWN], len(card.classes) - _MOST_SHOWN
    classes = ", ".join(names) + (f" and {more} more" if more > 0 else "")
    named = f"{card.name}, a " if card.name else ""
    rows = {"network": f"{named}{card.architecture}", "classes": classes, "weights": card.fingerprint}
    return {name: one_line(text) for name, text in rows.items()}


def _network(request: Request, printer: Printer) -> Weights | Card | Path | None:
    """Return the weights or the card that are named; otherwise those of the service that is named, or of the results;
    None: the program's own."""
    from ..network.cardfile import load_card

    if request.card:
        return load_card(request.card)
    if request.weights:
        return request.weights
    if request.server:
        return _of_service(request, printer)
    return _of_results(request) if request.command == "decrypt" else None


def _of_service(request: Request, printer: Printer) -> Weights | Card:
    """Return the program's own weights where the service has these; otherwise the service's card, which must be the one
    that is kept of it.  Results that are fetched are of what was asked for then, whatever the service has now."""
    from ..client.cards import kept_card
    from ..network.weights import weights_given
    from ..remote.evaluation import service_card, service_weights

    own, service, path = weights_given(None), access(request, printer), _card_path(request)
    kept = kept_card(path)
    if kept and request.command == "fetch":
        return own if kept == own.card else kept
    fingerprint = service_weights(service, request.set_number)
    card = own.card if fingerprint == own.fingerprint else service_card(service, fingerprint)
    if kept and kept != card:
        which = "of the same weights" if kept.fingerprint == fingerprint else f"of weights {fingerprint}"
        raise WeightsError(
            f"the service at {request.server} has another card than the one that was kept of it, {which}",
            f"ask who runs it; if that is meant, name the new one (card CARD), or remove {path}",
        )
    if path.parents[1].is_dir():  # where there are no keys, nothing can be encrypted or decrypted either
        _keep(path, card, request, printer)
    return own if card == own.card else card


def _of_results(request: Request) -> Card | None:
    """Return the card that is kept of the network of the first result that can be read; None where there is none, or
    that is the program's own."""
    from ..client.cards import card_with
    from ..files.envelope import read_envelope
    from ..network.weights import weights_given

    for path in ciphertexts_named(request):
        try:
            fingerprint = read_envelope(path).facts.weights
        except LowmemError:  # which is told when it is decrypted
            continue
        own = weights_given(None).fingerprint
        return None if fingerprint == own else card_with(key_folder(request), fingerprint)
    return None


def _card_path(request: Request) -> Path:
    """Return where the card of the service that is named is kept."""
    from ..client.cards import card_path
    from ..remote.address import address_of

    return card_path(key_folder(request), address_of(request.server, request.token).url)
