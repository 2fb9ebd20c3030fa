"""The command line: words to a Request, the command for it, and every failure to one line and an exit code.

Nothing heavy is imported until a command needs it, and ``evaluate`` never imports the client.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from . import __version__, words
from .errors import EnvironmentFault, ExitCode, LowmemError, UsageError
from .files import os_fault
from .interrupt import ends_at_once, on_interrupt, wait_if_ending
from .progress import format_bytes, format_seconds, make_progress, peak_resident_bytes
from .report import Classification, Printer
from .words import PROGRAM, Request

if TYPE_CHECKING:
    import numpy as np

    from .parameters import ParameterSet
    from .weights import Weights

#: Set in the environment to see where an unexpected error came from.
DEBUG_VARIABLE = "LOWMEM_RESNET20_DEBUG"
_OPENFHE_HINT = (
    "OpenFHE has wheels for CPython 3.10 (glibc 2.35 or newer) and 3.12 (glibc 2.38 or newer): use one of them"
)


def main(argv: Sequence[str] | None = None, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run one command; returns its exit code (``errors.ExitCode``).  argv: the words, sys.argv's by default."""
    printer = Printer(stdout or sys.stdout, stderr or sys.stderr)
    with ends_at_once():
        try:
            _run(sys.argv[1:] if argv is None else argv, printer)
            _flush(printer.stdout)
        except BrokenPipeError:  # nobody reads the result any more, and nobody needs to hear it
            _let_go(printer.stdout)
            return ExitCode.FAILURE
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for the user
            return _fail(error, printer)
    return ExitCode.OK


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
    given, unknown = parser.parse_known_intermixed_args(argv)
    if given.help or given.words[:1] == ["help"]:
        printer.stdout.write(parser.format_help())
    elif given.version:
        printer.stdout.write(f"{PROGRAM} {__version__}\n")
    elif unknown:
        raise words.unknown(unknown[0])
    else:
        request = words.parse(given.words)
        _COMMANDS[request.command](request, printer)


# --- commands ---------------------------------------------------------------------------------------------


def _generate_keys(request: Request, printer: Printer) -> None:
    set_, folder = _parameter_set(request), _key_folder(request)
    from . import client

    if request.verbose >= 0:
        printer.say(set_.summary())
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, _timed(seconds, "generate"):
        client.generate_keys(set_, folder, progress)
    _print_written(request, printer, "keys", folder, seconds["generate"])


def _load_keys(request: Request, printer: Printer) -> None:
    """The whole protocol: the client encrypts, a server of its own process evaluates, the client decrypts."""
    set_, folder = _parameter_set(request), _key_folder(request)
    weights, pixels = _weights(request), _pixels(request)
    from . import client
    from .serverprocess import run_server

    plain = _plain(weights, pixels) if request.plain else None
    if request.verbose >= 2:
        _require_plain_model()
    seconds: dict[str, float] = {}
    with _private_folder() as temporary:
        picture, result = temporary / "picture.ct", temporary / "result.ct"
        checkpoints = request.checkpoints or (temporary / "checkpoints" if request.verbose >= 2 else None)
        with _timed(seconds, "encrypt"):
            client.encrypt_picture(folder, set_, pixels, weights.mean, weights.std, picture)
        server = run_server(_evaluate_words(request, picture, result, checkpoints), result, printer.stderr)
        seconds["evaluate"] = server.seconds
        with _timed(seconds, "decrypt"):
            logits = client.decrypt_logits(folder, set_, result, weights)
        if request.verbose >= 2:
            printer.precision(client.inspect_checkpoints(folder, set_, checkpoints, weights, pixels))
    peaks = {"server": server.peak_bytes, "client": peak_resident_bytes()}
    if request.verbose >= 0:
        _report_cost(printer, seconds, peaks)
    extra = {"seconds": seconds, "peak_bytes": peaks}
    _print_classification(request, printer, Classification.of(logits), plain, extra)


def _encrypt(request: Request, printer: Printer) -> None:
    set_, folder = _parameter_set(request), _key_folder(request)
    weights, pixels = _weights(request), _pixels(request)
    from . import client

    seconds: dict[str, float] = {}
    with _timed(seconds, "encrypt"):
        client.encrypt_picture(folder, set_, pixels, weights.mean, weights.std, request.output)
    _print_written(request, printer, "ciphertext", request.output, seconds["encrypt"])


def _evaluate(request: Request, printer: Printer) -> None:
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    from . import server

    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, _timed(seconds, "evaluate"):
        server.evaluate(folder, set_, request.ciphertext, request.output, weights, progress, request.checkpoints)
    _print_written(request, printer, "ciphertext", request.output, seconds["evaluate"])


def _decrypt(request: Request, printer: Printer) -> None:
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    from . import client

    plain = None
    if request.input is not None:
        pixels = _pixels(request)
        plain = _plain(weights, pixels) if request.plain else None
        if request.checkpoints:
            printer.precision(client.inspect_checkpoints(folder, set_, request.checkpoints, weights, pixels))
    logits = client.decrypt_logits(folder, set_, request.ciphertext, weights)
    _print_classification(request, printer, Classification.of(logits), plain, {})


def _import_weights(request: Request, printer: Printer) -> None:
    from .importing import import_weights

    seconds: dict[str, float] = {}
    with _timed(seconds, "import"):
        report = import_weights(request.source, request.destination, request.pictures, request.mean, request.std)
    facts = {
        "parameters": report.parameters,
        "pictures": report.pictures,
        "largest bound": round(report.largest_bound, 4),
        "difference": report.difference,
    }
    _print_written(request, printer, "weights", request.destination, seconds["import"], facts)


def _test(request: Request, printer: Printer) -> None:
    from . import client

    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, _timed(seconds, "test"):
        client.self_test(progress)
    if request.json:
        printer.json({"test": "passed", "seconds": seconds["test"]})
    else:
        printer.fields({"test": "passed", "seconds": format_seconds(seconds["test"])})


_COMMANDS: dict[str, Callable[[Request, Printer], None]] = {
    "generate_keys": _generate_keys,
    "load_keys": _load_keys,
    "encrypt": _encrypt,
    "evaluate": _evaluate,
    "decrypt": _decrypt,
    "import_weights": _import_weights,
    "test": _test,
}


# --- their parts ------------------------------------------------------------------------------------------


def _parameter_set(request: Request) -> ParameterSet:
    from .parameters import parameter_set

    return parameter_set(request.set_number)


def _key_folder(request: Request) -> Path:
    return request.keys / f"exp{request.set_number}"


def _weights(request: Request) -> Weights:
    from .weights import default_weights_path, load_weights

    return load_weights(request.weights or default_weights_path())


def _pixels(request: Request) -> np.ndarray:
    from .picture import find_picture, read_picture

    return read_picture(find_picture(request.picture), resize=request.resize)


def _plain(weights: Weights, pixels: np.ndarray) -> Classification:
    from .plain import PlainNetwork

    return Classification.of(PlainNetwork(weights).logits(pixels))


def _require_plain_model() -> None:
    """Fail now, and not after the evaluation, if the plain model's packages are missing."""
    from . import plain  # noqa: F401


def _evaluate_words(request: Request, picture: Path, result: Path, checkpoints: Path | None) -> list[str]:
    """The server's command line."""
    command = ["evaluate", str(request.set_number), _as_value(picture), "output", _as_value(result)]
    command += ["keys", _as_value(request.keys), "verbose", str(request.verbose)]
    if request.weights:
        command += ["weights", _as_value(request.weights)]
    if checkpoints:
        command += ["checkpoints", _as_value(checkpoints)]
    return command


def _as_value(path: Path) -> str:
    """A path that cannot be taken for a word."""
    return str(path.absolute())


def _print_written(
    request: Request, printer: Printer, what: str, path: Path, seconds: float, facts: dict[str, Any] | None = None
) -> None:
    """Say what a command has written; at verbose 0 and above, what there is to know of it and at what cost."""
    peak, facts = peak_resident_bytes(), facts or {}
    if request.json:
        line = {what: str(path)} | {name.replace(" ", "_"): fact for name, fact in facts.items()}
        printer.json(line | {"seconds": seconds, "peak_bytes": peak})
        return
    rows = {what: str(path)}
    if request.verbose >= 0:
        rows |= {name: str(fact) for name, fact in facts.items() if fact is not None}
        rows |= {"time": format_seconds(seconds), "peak memory": format_bytes(peak)}
    printer.fields(rows)


def _print_classification(
    request: Request, printer: Printer, result: Classification, plain: Classification | None, extra: dict[str, Any]
) -> None:
    if not request.json:
        printer.classification(result, plain)
        return
    line: dict[str, Any] = {"set": request.set_number}
    if request.command == "load_keys" or request.input:
        line["input"] = str(request.picture)
    line |= result.as_json()
    if plain:
        line["plain"] = plain.as_json() | {"worst_difference": result.worst_difference(plain)}
    printer.json(line | extra)


def _report_cost(printer: Printer, seconds: dict[str, float], peak_bytes: dict[str, int]) -> None:
    times = ", ".join(f"{step} {format_seconds(value)}" for step, value in seconds.items())
    peaks = ", ".join(f"{who} {format_bytes(value)}" for who, value in peak_bytes.items())
    printer.say(f"time: {times}\npeak memory: {peaks}")


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[step] = time.monotonic() - started


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A temporary folder that only its owner can read, removed at the end however it comes."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-"))
    except OSError as error:
        raise os_fault(error, "make a folder in", tempfile.gettempdir()) from error
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    with on_interrupt(remove):
        try:
            yield folder
        finally:
            remove()


# --- endings ----------------------------------------------------------------------------------------------


def _fail(error: Exception, printer: Printer) -> ExitCode:
    """Print an error and return its exit code."""
    from .serverprocess import ReportedByServer

    wait_if_ending()
    if os.environ.get(DEBUG_VARIABLE):
        printer.say("".join(traceback.format_exception(error)).rstrip())
    known = _explain(error)
    if not isinstance(known, ReportedByServer):
        printer.error(known)
    return known.exit_code


def _explain(error: Exception) -> LowmemError:
    """The error for the user that an exception of any kind amounts to."""
    if isinstance(error, LowmemError):
        return error
    if isinstance(error, MemoryError):
        return EnvironmentFault("there is not enough memory", "close other programs, or use a machine with more")
    if isinstance(error, ImportError):
        return _explain_import(error)
    if isinstance(error, OSError) and error.errno is not None:
        return os_fault(error, *(("use", error.filename) if error.filename else ("write", "the result")))
    return LowmemError(
        f"unexpected {type(error).__name__}: {error}", f"set {DEBUG_VARIABLE}=1 to see where it comes from"
    )


def _explain_import(error: ImportError) -> LowmemError:
    package = (error.name or "").partition(".")[0]
    if package in ("torch", "torchvision"):
        return EnvironmentFault(
            "the plain model needs PyTorch, which is not installed", "pip install torch torchvision"
        )
    if package == "openfhe":
        return EnvironmentFault(f"OpenFHE cannot be loaded: {error}", _OPENFHE_HINT)
    return EnvironmentFault(f"a package cannot be loaded: {error}", "install this program again")


def _flush(stdout: TextIO) -> None:
    try:
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go(stdout)
        raise os_fault(error, "write", "the result") from error


def _let_go(stdout: TextIO) -> None:
    """Send what is still buffered nowhere, or the interpreter would fail on it again as it exits."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stdout.fileno())
        os.close(nowhere)
