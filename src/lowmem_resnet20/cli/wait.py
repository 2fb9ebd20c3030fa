"""What goes on until Ctrl-C: the words ``serve`` and ``page``."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..progress.display import make_progress
from .client import check, open_client
from .evaluate import started
from .output import Printer
from .words import Request


def serve(request: Request, printer: Printer) -> None:
    """Evaluate for clients elsewhere."""
    from ..service.command import Serving, serve

    def told(where: dict[str, Any]) -> None:
        if request.json:
            printer.json(where)
        else:
            others = "for other clients: token add NAME"
            printer.say(f"listening on {where['url']}\nthe token is in {where['token_file']}; {others}")

    serve(
        Serving(
            number=request.set_number,
            listen=request.listen,
            store=request.store,
            weights=request.weights,
            ray=request.ray,
            verbose=request.verbose,
            stderr=printer.stderr,
            told=told,
            warn=printer.warning,
        )
    )


def page(request: Request, printer: Printer) -> None:
    """Classify what is dropped on a page of this machine's browser."""
    from ..page.command import Settings, page

    client = open_client(request, printer)
    client.unlock()
    check(request, client, printer)
    progress = make_progress(max(request.verbose, 0) or -1, printer.stderr)
    page(Settings(client, partial(started, request, printer), request.server, request.listen, progress, printer.say))
