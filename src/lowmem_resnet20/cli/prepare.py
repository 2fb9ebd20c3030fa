"""What is done once: the words ``generate_keys``, ``import_weights``, ``export_card`` and ``test``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..machine.coredumps import forbid_core_dumps
from ..machine.files import exists_already
from ..progress.display import format_seconds, make_progress, timed
from .client import shown
from .named import check_request_outputs, key_folder
from .output import Printer, print_written
from .passphrase import new_passphrase
from .words import Request

if TYPE_CHECKING:
    from ..model.importing import ImportReport

_PICTURES_HINT = "give hundreds of pictures, of all classes"
_COMPARE_HINT = "give logits FILE, or pictures in folders named by class"
_RIGHT_HINT = "are mean, std, eps and the order of the classes the source's?"


def generate_keys(request: Request, printer: Printer) -> None:
    """Make keys, for the engine that is named."""
    print_written(request, printer, "keys", key_folder(request), make_keys(request, printer))


def make_keys(request: Request, printer: Printer) -> float:
    """Make keys, and return the seconds that it took.  This process leaves no core dump from here on."""
    from ..client import generate_keys
    from ..native.keys.keyplan import key_size
    from ..network.cardfile import load_card
    from ..network.parameters import parameter_set
    from ..network.weights import load_weights

    card = load_card(request.card) if request.card else load_weights(request.weights).card if request.weights else None
    architecture = card.architecture if card else None
    set_, folder = parameter_set(request.set_number, request.engine, architecture), key_folder(request)
    if os.path.lexists(folder):  # before anyone is asked for a passphrase
        raise exists_already(folder)
    if request.verbose >= 0:
        printer.say(set_.summary(key_size(set_)))
    forbid_core_dumps()
    passphrase = new_passphrase() if request.passphrase else None
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "generate"):
        generate_keys(set_, folder, passphrase, progress)
    return seconds["generate"]


def import_weights(request: Request, printer: Printer) -> None:
    """Make a file of weights, and say what was read and what it was compared with."""
    from ..model.importing import import_weights
    from ..model.labelled import picture_files
    from ..native.kernels.threads import available_processors

    read = [request.source, *picture_files(request.pictures), *filter(None, (request.classes, request.logits))]
    check_request_outputs(request, [request.destination], read)
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "import"):
        report = import_weights(
            request.source,
            request.destination,
            request.pictures,
            request.mean,
            request.std,
            epsilon=request.epsilon,
            classes=request.classes,
            logits=request.logits,
            name=request.name,
            side=request.side,
            progress=progress,
            processes=available_processors(),
        )
    facts = {
        "network": str(report.architecture),
        "classes": report.classes,
        "normalisation": report.normalisation,
        "parameters": report.parameters,
        "pictures": report.pictures,
        "largest bound": round(report.largest_bound, 4),
        "batch norm eps": report.epsilon,
        "difference": None if report.difference is None else float(f"{report.difference:.2g}"),
    }
    shown = {f"right, {by}": f"{right} of {of}" for by, (right, of) in report.right.items()}
    facts |= {"right": {by: list(counts) for by, counts in report.right.items()}} if request.json else shown
    warnings = list(_doubts(report))
    for message, hint in warnings:
        printer.warning(message, hint)
    if request.json and warnings:
        facts["warnings"] = [message for message, _ in warnings]
    print_written(request, printer, "weights", request.destination, seconds["import"], facts)


def _doubts(report: ImportReport) -> Iterator[tuple[str, str]]:
    """Yield what may be wrong with imported weights, and what to do."""
    if report.too_few:
        message = f"only {report.useful_pictures} of the pictures differ and have more than one colour"
        yield f"{message}: the values of others may leave the ranges found", _PICTURES_HINT
    if not report.compared:
        taken = "" if report.epsilon is None else f" (batch norm eps taken: {report.epsilon:g})"
        yield f"nothing was compared with the source's own answers{taken}", _COMPARE_HINT
    if report.rarely_right:
        right, of = report.right["plain"]
        yield f"it is right on only {right} of {of} labelled pictures", _RIGHT_HINT


def export_card(request: Request, printer: Printer) -> None:
    """Make a card of a weight file, and say what it tells."""
    from ..network.cardfile import save_card
    from ..network.weights import load_weights

    seconds: dict[str, float] = {}
    check_request_outputs(request, [request.destination], [request.source])
    with timed(seconds, "export"):
        card = load_weights(request.source).card
        save_card(request.destination, card)
    print_written(request, printer, "card", request.destination, seconds["export"], shown(card))


def test(request: Request, printer: Printer) -> None:
    """Check this machine."""
    from ..client.selftest import self_test

    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "test"):
        self_test(progress)
    if request.json:
        printer.json({"test": "passed", "seconds": seconds["test"]})
    else:
        printer.fields({"test": "passed", "seconds": format_seconds(seconds["test"])})
