"""The command line: words to a Request, and the command for it.

Nothing heavy is imported until a command needs it, and ``evaluate`` never imports the client.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from .. import __version__
from ..cli import endings, words
from ..errors import UsageError
from ..machine.files import exists_already, private_folder
from ..progress.display import format_seconds, make_progress, timed
from ..progress.streams import occupy_closed_descriptors
from ..server.request import Job
from .answers import print_classification, print_precision, print_written
from .evaluate import raise_error, run
from .named import (
    check_request_outputs,
    checkpoint_files,
    checkpoints_left,
    checkpoints_of,
    ciphertexts_named,
    evaluation,
    into_folder,
    key_folder,
    numbered,
    output_files,
    parameter_set_of_keys,
    several_ciphertexts,
    weights_named,
)
from .output import Classification, Printer
from .pictures import Each, compare, foresee_range, grouped, pictures_named, plain_model, read_pixels, several_inputs
from .words import PROGRAM, Request

if TYPE_CHECKING:
    import numpy as np

_PICTURES_HINT = "give hundreds of pictures, of all classes"


def main(argv: Sequence[str] | None = None, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run one command; returns its exit code (``errors.ExitCode``).  argv: the words, sys.argv's by default."""
    occupy_closed_descriptors()
    printer = Printer(stdout or sys.stdout, stderr or sys.stderr)
    return endings.run(lambda: _run(sys.argv[1:] if argv is None else argv, printer), printer)


_FLAGS = ("-h", "--help", "--version")


class _Parser(argparse.ArgumentParser):
    """argparse, with errors in this program's form."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see: {PROGRAM} --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [WORD ...]",
        description="Classify a picture that the server never sees: ResNet20 under CKKS.  Words come in any order.",
        epilog=words.epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help=argparse.SUPPRESS)
    flags = parser.add_argument_group("flags")
    flags.add_argument("-h", "--help", action="store_true", help="print this and exit")
    flags.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


def _run(argv: Sequence[str], printer: Printer) -> None:
    parser = _parser()
    end = argv.index("--") if "--" in argv else len(argv)
    unknown = [word for word in argv[:end] if word not in _FLAGS and re.match(r"-(?![0-9]+$)", word)]
    given = parser.parse_intermixed_args([*(word for word in argv[:end] if word not in unknown), *argv[end:]])
    if given.help or given.words[:1] == ["help"]:
        printer.text(parser.format_help())
    elif given.version:
        printer.text(f"{PROGRAM} {__version__}\n")
    elif unknown:
        raise words.unknown(unknown[0])
    else:
        request = words.parse(given.words)
        _COMMANDS[request.command](request, printer)


# --- commands ---------------------------------------------------------------------------------------------


def _generate_keys(request: Request, printer: Printer) -> None:
    from ..network.parameters import parameter_set

    set_, folder = parameter_set(request.set_number, request.engine), key_folder(request)
    from ..client import client
    from ..native.keyplan import key_size

    if os.path.lexists(folder):  # before anyone is asked for a passphrase
        raise exists_already(folder)
    if request.verbose >= 0:
        printer.say(set_.summary(key_size(set_)))
    seal: Callable[[bytes], bytes] = _sealer() if request.passphrase else bytes
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "generate"):
        client.generate_keys(set_, folder, progress, seal)
    print_written(request, printer, "keys", folder, seconds["generate"])


def _load_keys(request: Request, printer: Printer) -> None:
    """The whole protocol: the client encrypts, a server of its own process evaluates, the client decrypts."""
    from .classify import Protocol

    whole = Protocol(request, printer)
    with private_folder(f"{PROGRAM}-") as temporary:
        try:
            whole.encrypt(temporary)
            whole.evaluate(temporary)
            whole.decrypt()
            whole.report()
        finally:
            whole.keep_unreported()


def _encrypt(request: Request, printer: Printer) -> None:
    set_, folder, weights = parameter_set_of_keys(request), key_folder(request), weights_named(request)
    each = Each(request, printer, several_inputs(request) or into_folder(request))
    items = pictures_named(request, each)
    if not items:
        each.end()
    from ..client import client

    groups = grouped(request, printer, items, set_)
    outputs = output_files(request.output, numbered(len(groups)), each.several)
    check_request_outputs(request, outputs, [item.path for item in items])
    client.check_encryption(folder, set_)
    for group, output in zip(groups, outputs, strict=True):
        for item in group.items:
            with each.trying(item.path):
                item.pixels = read_pixels(request, item.path)
                foresee_range(printer, item, set_, weights)
        if not group.readable:
            continue
        with each.trying(*group.paths):
            group.encrypt(folder, set_, weights, output)
            for item in group.readable:
                facts: dict[str, Any] = {"input": str(item.path)} if each.several else {}
                facts |= {"place": group.items.index(item) + 1} if set_.pictures > 1 else {}
                facts |= item.checked() if request.json else {}
                print_written(request, printer, "ciphertext", output, item.seconds["encrypt"], facts)
    each.end()


def _evaluate(request: Request, printer: Printer) -> None:
    """The server, in a process of its own: what OpenFHE does to it is told in a line."""
    ciphertexts = ciphertexts_named(request)
    several = several_ciphertexts(request) or into_folder(request)
    outputs = output_files(request.output, [path.name for path in ciphertexts], several)
    jobs = [
        Job(ciphertext, output, checkpoints_of(request.checkpoints, output, several))
        for ciphertext, output in zip(ciphertexts, outputs, strict=True)
    ]
    check_request_outputs(request, [*outputs, *checkpoint_files(request, jobs)], ciphertexts)
    server = run(request, evaluation(request, jobs), printer)
    each = Each(request, printer, several)
    for job, line in zip(jobs, server.pictures, strict=True):
        with each.trying(job.ciphertext, of_job=True):
            raise_error(line)
            seconds = line["seconds"] if several else server.seconds
            print_written(request, printer, "ciphertext", job.output, seconds, peak_bytes=server.peak_bytes)
    each.end()


def _decrypt(request: Request, printer: Printer, several: bool = False) -> None:
    """several: whether each is told by its name, though only one may be left."""
    set_, folder, weights = parameter_set_of_keys(request), key_folder(request), weights_named(request)
    several = several or several_ciphertexts(request) or set_.pictures > 1
    each = Each(request, printer, several)
    ciphertexts = ciphertexts_named(request)
    given = pictures_named(request, each) if request.inputs else []
    from ..client import client
    from ..files.group import group_and_place
    from .pairing import pair

    plain = plain_model(weights) if request.plain else None
    decrypted: dict[Path, np.ndarray] = {}
    for item, ciphertext in pair(request, each, ciphertexts, given, client.encryptions(folder, set_), set_.pictures):
        with each.trying(ciphertext):
            if item.pixels is not None:
                item.plain = Classification.of(plain.logits(item.pixels)) if plain else None
                foresee_range(printer, item, set_, weights)
            group, place = group_and_place(item.id, set_.pictures)
            if ciphertext not in decrypted:
                decrypted = {ciphertext: client.decrypt_group(folder, set_, ciphertext, weights, group)}
            item.logits = decrypted[ciphertext][place]
            client.check_logits(ciphertext, weights, item.logits)
            compare(printer, item, weights)
            print_classification(request, printer, item, Classification.of(item.logits), {}, each.several)
            left = checkpoints_left(request.checkpoints, ciphertext)
            if left and item.pixels is not None:
                print_precision(printer, folder, set_, left, weights, item)
    each.end()


def _import_weights(request: Request, printer: Printer) -> None:
    from ..model.importing import import_weights
    from ..model.picture import pictures_in

    check_request_outputs(request, [request.destination], [request.source, *pictures_in(request.pictures)])
    seconds: dict[str, float] = {}
    with timed(seconds, "import"):
        report = import_weights(request.source, request.destination, request.pictures, request.mean, request.std)
    facts = {
        "parameters": report.parameters,
        "pictures": report.pictures,
        "largest bound": round(report.largest_bound, 4),
        "difference": report.difference,
    }
    if report.too_few:
        message = f"only {report.useful_pictures} of the pictures differ and have more than one colour"
        printer.warning(f"{message}: the values of others may leave the ranges found", _PICTURES_HINT)
    print_written(request, printer, "weights", request.destination, seconds["import"], facts)


def _test(request: Request, printer: Printer) -> None:
    from ..client import client

    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "test"):
        client.self_test(progress)
    if request.json:
        printer.json({"test": "passed", "seconds": seconds["test"]})
    else:
        printer.fields({"test": "passed", "seconds": format_seconds(seconds["test"])})


def _fetch(request: Request, printer: Printer) -> None:
    """What a service has evaluated, decrypted here; what decrypting needs is looked at first."""
    from ..client import client
    from ..remote.fetching import fetch

    set_, each = parameter_set_of_keys(request), Each(request, printer, len(request.jobs) > 1)
    client.check_decryption(key_folder(request), set_)
    results = []
    with private_folder(f"{PROGRAM}-") as temporary:
        with make_progress(request.verbose, printer.stderr) as progress:
            fetched = fetch(request, set_, temporary, progress, printer)
        for line in fetched:
            with each.trying(Path(line["job"]), of_job=True):
                raise_error(line)
                results.append(line["output"])
        if results:
            _decrypt(replace(request, ciphertexts=tuple(results)), printer, each.several)
    each.end()


def _cancel(request: Request, printer: Printer) -> None:
    from ..network.parameters import parameter_set
    from ..remote.cancelling import cancel

    each = Each(request, printer, len(request.jobs) > 1)
    for line in cancel(request, parameter_set(request.set_number), list(request.jobs), printer):
        with each.trying(Path(line["job"]), of_job=True):
            raise_error(line)
            if request.json:
                printer.json({"set": request.set_number} | line)
            else:
                printer.fields({line["job"]: line["state"]})
    each.end()


def _forget_keys(request: Request, printer: Printer) -> None:
    from ..files.keystore import SERVER, keys_set
    from ..progress.display import SilentProgress
    from ..remote.connecting import connect
    from ..remote.upload import forget_keys

    folder = key_folder(request) / SERVER
    keys_set(folder, request.set_number)
    with connect(request, SilentProgress(), printer) as connection:
        removed = forget_keys(connection, folder)
    if request.json:
        printer.json({"set": request.set_number, "keys": str(folder), "removed": removed})
    else:
        printer.fields({str(folder): "removed from the service" if removed else "not at the service"})


def _serve(request: Request, printer: Printer) -> None:
    from ..service.command import serve

    serve(request, printer)


def _page(request: Request, printer: Printer) -> None:
    from ..page.command import page

    page(request, printer)


_COMMANDS: dict[str, Callable[[Request, Printer], None]] = {
    "generate_keys": _generate_keys,
    "load_keys": _load_keys,
    "encrypt": _encrypt,
    "evaluate": _evaluate,
    "decrypt": _decrypt,
    "fetch": _fetch,
    "cancel": _cancel,
    "forget_keys": _forget_keys,
    "serve": _serve,
    "page": _page,
    "import_weights": _import_weights,
    "test": _test,
}


# --- their parts ------------------------------------------------------------------------------------------


def _sealer() -> Callable[[bytes], bytes]:
    """Asks for the passphrase before any key is made."""
    from ..client.sealing import sealer
    from .passphrase import new_passphrase

    return sealer(new_passphrase())
