"""The command line: words to a Request, and the command for it.

Nothing heavy is imported until a command needs it, and ``evaluate`` never imports the client.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn, TextIO

from .. import __version__
from ..errors import PROGRAM, UsageError
from ..machine.files import private_folder
from ..progress.streams import occupy_closed_descriptors
from . import endings, words
from .classify import load_keys
from .decrypt import decrypt
from .encrypt import encrypt
from .estimate import estimate
from .evaluate import evaluate
from .fetch import cancel, fetch, forget_keys
from .named import key_folder
from .output import Printer
from .prepare import export_card, generate_keys, import_weights, make_keys, test
from .simulate import simulate
from .token import add_token, list_tokens, remove_token
from .wait import page, serve
from .words import DEFAULT_PICTURE, Request

#: What the program does without a word, and how long it takes on two cores with AVX-512 (see README).
_FIRST, _KEY_SECONDS, _PICTURE_SECONDS = "load_keys 6", 20, 30


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
        description="Classify a picture that the server never sees: a ResNet under CKKS.  Words come in any order.",
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
        raise words.unknown(unknown[0], words.beside(given.words))
    elif not given.words:
        _without_a_word(printer)
    else:
        request = words.parse(given.words)
        _COMMANDS[request.command](request, printer)


def _without_a_word(printer: Printer) -> None:
    """Classify the first of the program's pictures in set 6: with the keys in keys/exp6, or with some for this run."""
    from ..files.sizes import native_folder_bytes
    from ..network.parameters import parameter_set

    request = words.parse(_FIRST.split())
    there = key_folder(request).exists()
    with private_folder(f"{PROGRAM}-") as temporary:
        if not there:
            count = native_folder_bytes(parameter_set(request.set_number))
            made = f"making some for this run alone: {count / 1e9:.1f} GB in {temporary}, some {_KEY_SECONDS} s"
            printer.say(f"there are no keys in {key_folder(request)}: {made}")
            request = replace(request, keys=temporary)
            make_keys(request, printer)
        printer.say(f"classifying {DEFAULT_PICTURE}, some {_PICTURE_SECONDS} s")
        load_keys(request, printer)
    first, second, third = (f"{PROGRAM} {words.EXAMPLES[i]}" for i in range(3))
    printer.say("next:  " + "\n       ".join((second, third) if there else (first, second)))


_COMMANDS: dict[str, Callable[[Request, Printer], None]] = {
    "generate_keys": generate_keys,
    "load_keys": load_keys,
    "encrypt": encrypt,
    "evaluate": evaluate,
    "decrypt": decrypt,
    "fetch": fetch,
    "cancel": cancel,
    "forget_keys": forget_keys,
    "serve": serve,
    "token add": add_token,
    "token list": list_tokens,
    "token remove": remove_token,
    "page": page,
    "import_weights": import_weights,
    "export_card": export_card,
    "simulate": simulate,
    "estimate": estimate,
    "test": test,
}
