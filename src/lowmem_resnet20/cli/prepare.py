"""What is done once: the words ``generate_keys``, ``import_weights`` and ``test``."""

from __future__ import annotations

import os

from ..machine.coredumps import forbid_core_dumps
from ..machine.files import exists_already
from ..progress.display import format_seconds, make_progress, timed
from .named import check_request_outputs, key_folder
from .output import Printer, print_written
from .passphrase import new_passphrase
from .words import Request

_PICTURES_HINT = "give hundreds of pictures, of all classes"


def generate_keys(request: Request, printer: Printer) -> None:
    """Make keys, for the engine that is named."""
    print_written(request, printer, "keys", key_folder(request), make_keys(request, printer))


def make_keys(request: Request, printer: Printer) -> float:
    """Make keys, and return the seconds that it took.  This process leaves no core dump from here on."""
    from ..client import generate_keys
    from ..native.keys.keyplan import key_size
    from ..network.parameters import parameter_set
    from ..network.weights import load_weights

    architecture = load_weights(request.weights).architecture if request.weights else None
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
    """Make a file of weights, and say what was read."""
    from ..model.importing import import_weights
    from ..model.picture import pictures_in

    check_request_outputs(request, [request.destination], [request.source, *pictures_in(request.pictures)])
    seconds: dict[str, float] = {}
    with timed(seconds, "import"):
        named = request.source, request.destination, request.pictures, request.mean, request.std
        report = import_weights(*named, epsilon=request.epsilon)
    facts = {
        "parameters": report.parameters,
        "pictures": report.pictures,
        "largest bound": round(report.largest_bound, 4),
        "batch norm eps": report.epsilon,
        "difference": report.difference,
    }
    if report.too_few:
        message = f"only {report.useful_pictures} of the pictures differ and have more than one colour"
        printer.warning(f"{message}: the values of others may leave the ranges found", _PICTURES_HINT)
    print_written(request, printer, "weights", request.destination, seconds["import"], facts)


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
