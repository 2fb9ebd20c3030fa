"""The command line: words to a Request, the command for it, and every failure to one line and an exit code.

Nothing heavy is imported until a command needs it, and ``evaluate`` never imports the client.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from . import __version__
from .errors import (
    CiphertextError,
    EnvironmentFault,
    ExitCode,
    LowmemError,
    PictureError,
    Reported,
    UsageError,
)
from .machine.files import make_folder, os_fault
from .machine.interrupt import ends_at_once, on_interrupt, wait_if_ending
from .machine.libraries import loading_hint
from .machine.memory import peak_resident_bytes
from .terminal import words
from .terminal.progress import format_bytes, format_seconds, make_progress
from .terminal.report import Classification, Printer
from .terminal.words import DEFAULT_PICTURE, PROGRAM, Request

if TYPE_CHECKING:
    import numpy as np

    from .model.plain import PlainNetwork
    from .network.parameters import ParameterSet
    from .network.weights import Weights

#: Set in the environment to see where an unexpected error came from.
DEBUG_VARIABLE = "LOWMEM_RESNET20_DEBUG"


def main(
    argv: Sequence[str] | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    evaluate: Callable[[Request, Printer], None] | None = None,
) -> int:
    """Run one command; returns its exit code (``errors.ExitCode``).

    argv: the words, sys.argv's by default; evaluate: what does that command, by default in a process of its own.
    """
    printer = Printer(stdout or sys.stdout, stderr or sys.stderr)
    with ends_at_once():
        try:
            commands = _COMMANDS | ({"evaluate": evaluate} if evaluate else {})
            _run(sys.argv[1:] if argv is None else argv, printer, commands)
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


def _run(argv: Sequence[str], printer: Printer, commands: dict[str, Callable[[Request, Printer], None]]) -> None:
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
        commands[request.command](request, printer)


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
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    items = _pictures(request)
    several = len(items) > 1
    from . import client
    from .serverprocess import run_server

    plain = _plain_model(weights) if request.plain or request.verbose >= 2 else None
    each = _Each(request, printer, several)
    with _private_folder() as temporary:
        result = temporary / "result.ct"
        names = [item.file for item in items]
        pictures, results = (_outputs(path, names, several) for path in (temporary / "picture.ct", result))
        for item, picture in zip(items, pictures, strict=True):
            with each.trying(item.path):
                item.pixels = _pixels(request, item.path)
                item.plain = Classification.of(plain.logits(item.pixels)) if request.plain else None
                with _timed(item.seconds, "encrypt"):
                    client.encrypt_picture(folder, set_, item.pixels, weights.mean, weights.std, picture)
        encrypted = [picture for item, picture in zip(items, pictures, strict=True) if item.seconds]
        if not encrypted:
            raise Reported(each.code)
        checkpoints = request.checkpoints or (temporary / "checkpoints" if request.verbose >= 2 else None)
        server = run_server(_evaluate_words(request, encrypted, result, checkpoints), printer.stderr)
        own = {line["ciphertext"]: line["seconds"] for line in server.pictures if "ciphertext" in line}
        evaluated = [(i, r) for i, r in zip(items, results, strict=True) if str(r) in own]
        for item, path in evaluated:
            with each.trying(item.path):
                item.seconds["evaluate"] = own[str(path)] if several else server.seconds
                with _timed(item.seconds, "decrypt"):
                    item.logits = client.decrypt_logits(folder, set_, path, weights)
                if request.verbose >= 2:
                    if several:
                        printer.say(str(item.path))
                    left = _checkpoints(checkpoints, path, several)
                    _print_precision(printer, folder, set_, left, weights, item.pixels)
    peaks = {"server": server.peak_bytes, "client": peak_resident_bytes()}
    if request.verbose >= 0:
        seconds = {s: sum(i.seconds.get(s, 0.0) for i in items) for s in ("encrypt", "evaluate", "decrypt")}
        _report_cost(printer, seconds | {"evaluate": server.seconds}, peaks, list(own.values()))
    for item, _ in evaluated:
        if item.logits is not None:
            with each.trying(item.path):
                extra = {"seconds": item.seconds, "peak_bytes": peaks}
                _print_classification(request, printer, item, Classification.of(item.logits), extra, several)
    each.end(server.code)


def _encrypt(request: Request, printer: Printer) -> None:
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    items = _pictures(request)
    from . import client

    several = _into_folder(request, items)
    each = _Each(request, printer, several)
    for item, output in zip(items, _outputs(request.output, [i.file for i in items], several), strict=True):
        with each.trying(item.path):
            pixels = _pixels(request, item.path)
            with _timed(item.seconds, "encrypt"):
                client.encrypt_picture(folder, set_, pixels, weights.mean, weights.std, output)
            _print_written(request, printer, "ciphertext", output, item.seconds["encrypt"])
    each.end()


def _evaluate(request: Request, printer: Printer) -> None:
    """The server, in a process of its own: what OpenFHE does to it is told in a line."""
    ciphertexts = _ciphertexts(request)
    from .serverprocess import run_server

    server = run_server(_evaluate_words(request, ciphertexts, request.output, request.checkpoints), printer.stderr)
    for line in server.pictures:
        if request.json:
            printer.json(line)
        elif "ciphertext" in line:
            rows = {"ciphertext": line["ciphertext"]}
            if request.verbose >= 0:
                seconds = line["seconds"] if len(ciphertexts) > 1 else server.seconds
                rows |= {"time": format_seconds(seconds), "peak memory": format_bytes(server.peak_bytes)}
            printer.fields(rows)
    if server.code:
        raise Reported(server.code)


def evaluate_here(request: Request, printer: Printer) -> None:
    """The server, in this process; prints a line of JSON for each picture, and one for the steps all took."""
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    ciphertexts = _ciphertexts(request)
    several = _into_folder(request, ciphertexts)
    outputs = _outputs(request.output, [path.name for path in ciphertexts], several)
    from . import server

    each = _Each(request, printer, several)
    jobs = [
        server.Job(ciphertext, output, _checkpoints(request.checkpoints, output, several))
        for ciphertext, output in zip(ciphertexts, outputs, strict=True)
    ]
    with make_progress(request.verbose, printer.stderr) as progress:
        outcomes = server.evaluate(folder, set_, jobs, weights, progress, resume=request.resume)
    for outcome in outcomes:
        with each.trying(outcome.job.ciphertext):
            if outcome.error:
                raise outcome.error
            line = {"ciphertext": str(outcome.job.output), "seconds": outcome.seconds}
            printer.json(line | {"peak_bytes": peak_resident_bytes()})
    printer.json({"steps": progress.times})
    each.end()


def _decrypt(request: Request, printer: Printer) -> None:
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    ciphertexts = _ciphertexts(request)
    items = _pictures(request) if request.inputs else [_Item(path) for path in ciphertexts]
    if len(items) != len(ciphertexts):
        raise UsageError(f"{len(ciphertexts)} ciphertexts and {len(items)} pictures", "name as many of both")
    several = len(items) > 1
    from . import client

    plain = _plain_model(weights) if request.plain else None
    each = _Each(request, printer, several)
    for item, ciphertext in zip(items, ciphertexts, strict=True):
        with each.trying(ciphertext):
            if request.inputs:
                pixels = _pixels(request, item.path)
                item.plain = Classification.of(plain.logits(pixels)) if plain else None
                left = _checkpoints(request.checkpoints, ciphertext, several)
                if left:
                    _print_precision(printer, folder, set_, left, weights, pixels)
            logits = client.decrypt_logits(folder, set_, ciphertext, weights)
            _print_classification(request, printer, item, Classification.of(logits), {}, several)
    each.end()


def _import_weights(request: Request, printer: Printer) -> None:
    from .model.importing import import_weights

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
    from .network.parameters import parameter_set

    return parameter_set(request.set_number)


def _key_folder(request: Request) -> Path:
    return request.keys / f"exp{request.set_number}"


def _weights(request: Request) -> Weights:
    from .network.weights import default_weights_path, load_weights

    return load_weights(request.weights or default_weights_path())


@dataclass
class _Item:
    """A picture on its way: what is known of it so far.  seconds: by step of the protocol."""

    path: Path
    pixels: np.ndarray | None = None
    plain: Classification | None = None
    logits: np.ndarray | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of its ciphertext among those of other pictures."""
        return f"{self.path.name}.ct"


class _Each:
    """Of several pictures, one that fails is reported and the others go on; of one, its error is the command's."""

    def __init__(self, request: Request, printer: Printer, several: bool) -> None:
        self.request, self.printer, self.several = request, printer, several
        self.code = ExitCode.OK

    @contextmanager
    def trying(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (PictureError, CiphertextError, EnvironmentFault) as error:
            if not self.several:
                raise
            self.code = self.code or error.exit_code
            self.printer.error(error)
            if self.request.json:
                line = {"set": self.request.set_number, "input": str(path)}
                self.printer.json(line | {"error": error.message, "exit_code": int(error.exit_code)})

    def end(self, code: ExitCode = ExitCode.OK) -> None:
        """Exit with the code of the first failure, or else with ``code``."""
        if self.code or code:
            raise Reported(self.code or code)


def _pictures(request: Request) -> list[_Item]:
    """The pictures named, folders opened."""
    from .model.picture import pictures_in

    return [_Item(path) for named in request.inputs or (DEFAULT_PICTURE,) for path in pictures_in(named)]


def _ciphertexts(request: Request) -> list[Path]:
    """The ciphertexts named, folders opened."""
    paths = [p for path in request.ciphertexts for p in (sorted(path.glob("*.ct")) if path.is_dir() else [path])]
    if not paths:
        raise CiphertextError(f"{request.ciphertexts[0]} has no ciphertext in it", "of a name that ends in .ct")
    return paths


def _into_folder(request: Request, files: Sequence[Any]) -> bool:
    """Whether ``output`` names a folder: of several files, and where there is one of that name."""
    return len(files) > 1 or request.output.is_dir()


def _outputs(output: Path, names: list[str], several: bool) -> list[Path]:
    """Where the results go: of one to ``output`` itself, of several into it as a folder, by these names."""
    if not several:
        return [output]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise UsageError(f"two files would be named {repeated}", "rename one, or give one at a time")
    make_folder(output)
    return [output / name for name in names]


def _checkpoints(checkpoints: Path | None, ciphertext: Path, several: bool) -> Path | None:
    """Where the checkpoints of the picture with this ciphertext are."""
    return checkpoints / ciphertext.name if checkpoints and several else checkpoints


def _pixels(request: Request, path: Path) -> np.ndarray:
    from .model.picture import find_picture, read_picture

    return read_picture(find_picture(path), resize=request.resize)


def _plain_model(weights: Weights) -> PlainNetwork:
    from .model.plain import PlainNetwork

    return PlainNetwork(weights)


def _evaluate_words(request: Request, ciphertexts: Sequence[Path], output: Path, checkpoints: Path | None) -> list[str]:
    """The server's command line."""
    command = ["evaluate", str(request.set_number), *map(_as_value, ciphertexts), "output", _as_value(output)]
    command += ["keys", _as_value(request.keys), "verbose", str(request.verbose), "json"]
    if request.weights:
        command += ["weights", _as_value(request.weights)]
    if checkpoints:
        command += ["checkpoints", _as_value(checkpoints)]
    return [*command, "resume"] if request.resume else command


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
    request: Request, printer: Printer, item: _Item, result: Classification, extra: dict[str, Any], several: bool
) -> None:
    plain = item.plain
    if not request.json:
        if several:
            printer.fields({"picture": str(item.path)})
        printer.classification(result, plain)
        return
    line: dict[str, Any] = {"set": request.set_number}
    if several or request.command == "load_keys" or request.inputs:
        line["input"] = str(item.path)
    line |= result.as_json()
    if plain:
        line["plain"] = plain.as_json() | {"worst_difference": result.worst_difference(plain)}
    printer.json(line | extra)


def _print_precision(
    printer: Printer, folder: Path, set_: ParameterSet, checkpoints: Path, weights: Weights, pixels: np.ndarray
) -> None:
    from . import inspection

    printer.say(inspection.table(inspection.inspect_checkpoints(folder, set_, checkpoints, weights, pixels)))


def _report_cost(
    printer: Printer, seconds: dict[str, float], peak_bytes: dict[str, int], evaluations: list[float]
) -> None:
    """evaluations: seconds that the server spent on each picture alone."""
    times = ", ".join(f"{step} {format_seconds(value)}" for step, value in seconds.items())
    if len(evaluations) > 1:
        times += f"; a picture after the first {format_seconds(statistics.mean(evaluations[1:]))}"
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
    wait_if_ending()
    if os.environ.get(DEBUG_VARIABLE):
        printer.say("".join(traceback.format_exception(error)).rstrip())
    known = _explain(error)
    if not isinstance(known, Reported):
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
        return EnvironmentFault(f"OpenFHE cannot be loaded: {error}", loading_hint(os.environ))
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
