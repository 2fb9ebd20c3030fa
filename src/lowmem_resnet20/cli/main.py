"""The command line: words to a Request, and the command for it.

Nothing heavy is imported until a command needs it, and ``evaluate`` never imports the client.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from .. import __version__
from ..errors import PROGRAM, UsageError, naming, raise_told
from ..machine.coredumps import forbid_core_dumps
from ..machine.files import exists_already, private_folder
from ..model.classification import Classification
from ..progress.display import format_seconds, make_progress, timed
from ..progress.streams import occupy_closed_descriptors
from ..server.request import Job
from . import endings, words
from .access import access
from .answers import print_classification, print_precision, print_written
from .evaluate import run
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
    open_client,
    output_files,
    several_ciphertexts,
)
from .output import Printer
from .passphrase import new_passphrase
from .pictures import Each, compare, foresee_range, grouped, pictures_named, plain_model, read_pixels, several_inputs
from .words import DEFAULT_PICTURE, Request

if TYPE_CHECKING:
    import numpy as np

#: What the program does without a word, and how long it takes on two cores with AVX-512 (see README).
_FIRST, _KEY_SECONDS, _PICTURE_SECONDS = "load_keys 6", 20, 60
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
    elif not given.words:
        _without_a_word(printer)
    else:
        request = words.parse(given.words)
        _COMMANDS[request.command](request, printer)


# --- commands ---------------------------------------------------------------------------------------------


def _generate_keys(request: Request, printer: Printer) -> None:
    from ..network.parameters import parameter_set

    set_, folder = parameter_set(request.set_number, request.engine), key_folder(request)
    from ..client import generate_keys
    from ..native.keyplan import key_size

    if os.path.lexists(folder):  # before anyone is asked for a passphrase
        raise exists_already(folder)
    if request.verbose >= 0:
        printer.say(set_.summary(key_size(set_)))
    forbid_core_dumps()
    passphrase = new_passphrase() if request.passphrase else None
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "generate"):
        generate_keys(set_, folder, passphrase, progress)
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


def _without_a_word(printer: Printer) -> None:
    """Classify the first of the program's pictures in set 6: with the keys in keys/exp6, or with some for this run."""
    from ..native.keyplan import key_bytes, key_plan, longest
    from ..network.parameters import parameter_set

    request = words.parse(_FIRST.split())
    there = key_folder(request).exists()
    with private_folder(f"{PROGRAM}-") as temporary:
        if not there:
            set_ = parameter_set(request.set_number)
            count = sum(key_bytes(set_, towers) for towers in longest(key_plan(set_)).values())
            made = f"making some for this run alone: {count / 1e9:.1f} GB in {temporary}, some {_KEY_SECONDS} s"
            printer.say(f"there are no keys in {key_folder(request)}: {made}")
            request = replace(request, keys=temporary)
            _generate_keys(replace(request, verbose=-1), Printer(None, printer.stderr))
        printer.say(f"classifying {DEFAULT_PICTURE}, some {_PICTURE_SECONDS} s")
        _load_keys(request, printer)
    first, second, third = (f"{PROGRAM} {words.EXAMPLES[i]}" for i in range(3))
    printer.say("next:  " + "\n       ".join((second, third) if there else (first, second)))


def _encrypt(request: Request, printer: Printer) -> None:
    client = open_client(request)
    each = Each(request, printer, several_inputs(request) or into_folder(request))
    items = pictures_named(request, each)
    if not items:
        each.end()
    groups = grouped(request, printer, items, client.set)
    outputs = output_files(request.output, numbered(len(groups)), each.several)
    check_request_outputs(request, outputs, [item.path for item in items])
    for group, output in zip(groups, outputs, strict=True):
        for item in group.items:
            with each.trying(item.path):
                item.pixels = read_pixels(request, item.path)
                foresee_range(printer, item, client)
        if not group.readable:
            continue
        with each.trying(*group.paths):
            group.encrypt(client, output)
            for item in group.readable:
                facts: dict[str, Any] = {"input": str(item.path)} if each.several else {}
                facts |= {"place": group.items.index(item) + 1} if client.set.pictures > 1 else {}
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
            raise_told(line)
            seconds = line["seconds"] if several else server.seconds
            print_written(request, printer, "ciphertext", job.output, seconds, peak_bytes=server.peak_bytes)
    each.end()


def _decrypt(
    request: Request, printer: Printer, several: bool = False, names: Mapping[Path, str] | None = None
) -> None:
    """several: whether each is told by its name, though only one may be left; names: of ciphertexts that the user knows
    by another than their own."""
    from ..files.envelope import Ciphertext
    from ..files.group import group_and_place
    from .pairing import pair

    client = open_client(request)
    several = several or several_ciphertexts(request) or client.set.pictures > 1
    each = Each(request, printer, several, names)
    ciphertexts = ciphertexts_named(request)
    given = pictures_named(request, each) if request.inputs else []
    plain = plain_model(client.weights) if request.plain else None
    decrypted: dict[Path, np.ndarray | None] = {}
    for item, path in pair(request, each, client, ciphertexts, given):
        with each.trying(path):
            if item.pixels is not None:
                item.plain = Classification.of(plain.logits(item.pixels), plain.library) if plain else None
                foresee_range(printer, item, client)
            group, place = group_and_place(item.id, client.set.pictures)
            if path not in decrypted:
                decrypted = {path: None}  # what it fails of is told once, for all of its places
                decrypted[path] = client.decrypt_group(Ciphertext.load(path), group)
            numbers = decrypted[path]
            if numbers is None:
                continue
            item.logits = numbers[place]
            with naming({path: f"{each.name(path)}, place {place + 1}"} if client.set.pictures > 1 else {}):
                client.check_logits(path, item.logits)
            compare(printer, item, client)
            print_classification(request, printer, item, Classification.of(item.logits), {}, each.several)
            left = checkpoints_left(request.checkpoints, path)
            if left and item.pixels is not None:
                print_precision(printer, client, left, item)
    each.end()


def _import_weights(request: Request, printer: Printer) -> None:
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


def _test(request: Request, printer: Printer) -> None:
    from ..client.selftest import self_test

    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "test"):
        self_test(progress)
    if request.json:
        printer.json({"test": "passed", "seconds": seconds["test"]})
    else:
        printer.fields({"test": "passed", "seconds": format_seconds(seconds["test"])})


def _fetch(request: Request, printer: Printer) -> None:
    """What a service has evaluated, decrypted here; what decrypting needs is looked at first."""
    from ..remote.fetching import fetch

    client, each = open_client(request), Each(request, printer, len(request.jobs) > 1)
    client.unlock()
    results: dict[Path, str] = {}
    with private_folder(f"{PROGRAM}-") as temporary:
        with make_progress(request.verbose, printer.stderr) as progress:
            fetched = fetch(access(request, printer), client.set, request.jobs, temporary, progress)
        for line in fetched:
            with each.trying(Path(line["job"]), of_job=True):
                raise_told(line)
                results[line["output"]] = line["job"]
        if results:
            _decrypt(replace(request, ciphertexts=tuple(results)), printer, each.several, results)
    each.end()


def _cancel(request: Request, printer: Printer) -> None:
    from ..network.parameters import parameter_set
    from ..remote.cancelling import cancel

    each = Each(request, printer, len(request.jobs) > 1)
    for line in cancel(access(request, printer), parameter_set(request.set_number), request.jobs):
        with each.trying(Path(line["job"]), of_job=True):
            raise_told(line)
            if request.json:
                printer.json({"set": request.set_number} | line)
            else:
                printer.fields({line["job"]: line["state"]})
    each.end()


def _forget_keys(request: Request, printer: Printer) -> None:
    from ..files.keystore import SERVER, keys_set
    from ..progress.display import SilentProgress
    from ..remote.upload import forget_keys

    folder = key_folder(request) / SERVER
    keys_set(folder, request.set_number)
    with access(request, printer).connect(SilentProgress()) as connection:
        removed = forget_keys(connection, folder)
    if request.json:
        printer.json({"set": request.set_number, "keys": str(folder), "removed": removed})
    else:
        printer.fields({str(folder): "removed from the service" if removed else "not at the service"})


def _serve(request: Request, printer: Printer) -> None:
    from ..service.command import Serving, serve

    def told(where: dict[str, Any]) -> None:
        if request.json:
            printer.json(where)
        else:
            printer.say(f"listening on {where['url']}\nthe token that clients need is in {where['token_file']}")

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


def _page(request: Request, printer: Printer) -> None:
    from ..page.command import Settings, page
    from .evaluate import check, started

    client = open_client(request)
    client.unlock()
    check(request, client.set, client.weights, printer)
    progress = make_progress(max(request.verbose, 0) or -1, printer.stderr)
    start = partial(started, request, printer)
    page(Settings(client, start, request.server, request.listen, progress, printer.say))


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
