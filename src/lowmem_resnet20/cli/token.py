"""Who may use a service: the words ``token add``, ``token list`` and ``token remove``, while it runs or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import Printer
from .words import Request

if TYPE_CHECKING:
    from ..service.clients import Clients


def add_token(request: Request, printer: Printer) -> None:
    """Print the token of a new client: the one time that it is told."""
    token = _clients(request).add(request.client, request.a_day)
    if request.json:
        printer.json({"client": request.client, "a_day": request.a_day, "token": token})
        return
    if request.verbose >= 0:
        printer.say(f"this token is told once, and kept by its hash: {request.client} needs it in a file of mode 600")
    printer.text(f"{token}\n")


def list_tokens(request: Request, printer: Printer) -> None:
    """Name the clients, and what each may send; the first is whoever runs the service."""
    from ..service.clients import FIRST

    allowed = {FIRST: None} | {client.name: client.a_day for client in _clients(request).all()}
    for name, a_day in allowed.items() if request.json else ():
        printer.json({"client": name, "a_day": a_day})
    if not request.json:
        printer.fields({name: f"{a_day} pictures a day" if a_day else "any number" for name, a_day in allowed.items()})


def remove_token(request: Request, printer: Printer) -> None:
    """End a client's access, at once."""
    _clients(request).remove(request.client)
    if request.json:
        printer.json({"client": request.client, "removed": True})
    else:
        printer.fields({request.client: "removed"})


def _clients(request: Request) -> Clients:
    from ..service.clients import Clients
    from ..service.store import Store

    return Clients(Store(request.store).clients, make=False)
