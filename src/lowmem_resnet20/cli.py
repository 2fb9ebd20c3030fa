"""The command line: words to a Request, and the command for it.

Nothing heavy is imported until a command needs it, and ``evaluate`` never imports the client.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from . import __version__
from .errors import CiphertextError, EnvironmentFault, ExitCode, PictureError, Reported, UsageError
from .job import Evaluation, Job
from .machine.files import make_folder, os_fault
from .machine.interrupt import on_interrupt
from .machine.memory import peak_resident_bytes
from .machine.outputs import check_outputs, files_in
from .terminal import endings, words
from .terminal.progress import format_bytes, format_seconds, make_progress
from .terminal.report import Classification, Printer, one_line
from .terminal.streams import occupy_closed_descriptors
from .terminal.words import DEFAULT_PICTURE, PROGRAM, Request

if TYPE_CHECKING:
    import numpy as np

    from .model.plain import PlainNetwork
    from .network.parameters import ParameterSet
    from .network.ranges import Foreseen
    from .network.weights import Weights
    from .registry import Entry
    from .serverprocess import ServerRun

#: What a key folder holds.
_SIDES = ("client", "server")
_RANGE_HINT = "give import_weights pictures like this one to calibrate on"
_DIFFERENCE_HINT = "a value left its range, or the server computed something else"
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
    from .network.parameters import parameter_set

    set_, folder = parameter_set(request.set_number, request.engine), _key_folder(request)
    from . import client

    if request.verbose >= 0:
        printer.say(set_.summary())
    seal: Callable[[bytes], bytes] = _sealer() if request.passphrase else bytes
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, _timed(seconds, "generate"):
        client.generate_keys(set_, folder, progress, seal)
    _print_written(request, printer, "keys", folder, seconds["generate"])


def _load_keys(request: Request, printer: Printer) -> None:
    """The whole protocol: the client encrypts, a server of its own process evaluates, the client decrypts."""
    whole = _Protocol(request, printer)
    with _private_folder() as temporary:
        try:
            whole.encrypt(temporary)
            whole.evaluate(temporary)
            whole.decrypt()
            whole.report()
        finally:
            whole.keep_unreported()


def _encrypt(request: Request, printer: Printer) -> None:
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    each = _Each(request, printer, _several_inputs(request) or request.into_folder or request.output.is_dir())
    items = _pictures(request, each)
    if not items:
        each.end()
    from . import client

    outputs = _outputs(request.output, _numbered(len(items)), each.several)
    _check_outputs(request, outputs, [item.path for item in items])
    client.check_encryption(folder, set_)
    for item, output in zip(items, outputs, strict=True):
        with each.trying(item.path):
            item.pixels = _pixels(request, item.path)
            _foresee(printer, item, set_, weights)
            with _timed(item.seconds, "encrypt"):
                client.encrypt_picture(folder, set_, item.pixels, weights, output, str(item.path))
            facts = {"input": str(item.path)} if each.several else {}
            facts |= item.checked() if request.json else {}
            _print_written(request, printer, "ciphertext", output, item.seconds["encrypt"], facts)
    each.end()


def _evaluate(request: Request, printer: Printer) -> None:
    """The server, in a process of its own: what OpenFHE does to it is told in a line."""
    ciphertexts = _ciphertexts(request)
    several = len(ciphertexts) > 1 or request.into_folder or request.output.is_dir() or request.ciphertexts[0].is_dir()
    outputs = _outputs(request.output, [path.name for path in ciphertexts], several)
    jobs = [
        Job(ciphertext, output, _checkpoints(request.checkpoints, output, several))
        for ciphertext, output in zip(ciphertexts, outputs, strict=True)
    ]
    _check_outputs(request, [*outputs, *_checkpoint_files(request, jobs)], ciphertexts)
    from .serverprocess import run_server

    server = run_server(_evaluation(request, jobs), printer.stderr)
    each = _Each(request, printer, several)
    for job, line in zip(jobs, server.pictures, strict=True):
        with each.trying(job.ciphertext):
            _raise_error(line)
            seconds = line["seconds"] if several else server.seconds
            _print_written(request, printer, "ciphertext", job.output, seconds, peak_bytes=server.peak_bytes)
    each.end()


def _decrypt(request: Request, printer: Printer) -> None:
    set_, folder, weights = _parameter_set(request), _key_folder(request), _weights(request)
    each = _Each(request, printer, len(request.ciphertexts) > 1 or request.ciphertexts[0].is_dir())
    ciphertexts = _ciphertexts(request)
    given = _pictures(request, each) if request.inputs else []
    from . import client

    plain = _plain_model(weights) if request.plain else None
    for item, ciphertext in _pair(request, each, ciphertexts, given, client.encryptions(folder, set_)):
        with each.trying(ciphertext):
            if item.pixels is not None:
                item.plain = Classification.of(plain.logits(item.pixels)) if plain else None
                _foresee(printer, item, set_, weights)
            item.logits = client.decrypt_logits(folder, set_, ciphertext, weights, item.id)
            _compare(printer, item, weights)
            _print_classification(request, printer, item, Classification.of(item.logits), {}, each.several)
            left = _checkpoints(request.checkpoints, ciphertext, each.several)
            if left and item.pixels is not None:
                _print_precision(printer, folder, set_, left, weights, item)
    each.end()


def _import_weights(request: Request, printer: Printer) -> None:
    from .model.importing import import_weights
    from .model.picture import pictures_in

    _check_outputs(request, [request.destination], [request.source, *pictures_in(request.pictures)])
    seconds: dict[str, float] = {}
    with _timed(seconds, "import"):
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


def _sealer() -> Callable[[bytes], bytes]:
    """Asks for the passphrase before any key is made."""
    from .sealing import sealer
    from .terminal.passphrase import new_passphrase

    return sealer(new_passphrase())


def _parameter_set(request: Request) -> ParameterSet:
    """The set that the client's keys are of."""
    from .fhe.keystore import CLIENT, keys_set

    return keys_set(_key_folder(request) / CLIENT, request.set_number)


def _key_folder(request: Request) -> Path:
    """``keys`` names the folder in which expN lies; or, as one may think, expN itself."""
    name = f"exp{request.set_number}"
    within = request.keys / name
    if not within.exists() and (request.keys.name == name or any((request.keys / side).is_dir() for side in _SIDES)):
        return request.keys
    return within


def _weights(request: Request) -> Weights:
    from .network.weights import default_weights_path, load_weights

    return load_weights(request.weights or default_weights_path())


@dataclass
class _Item:
    """A picture on its way: what is known of it so far.  foreseen: in the plain network; warnings: what was said of it;
    id: of its encryption; job: its place in the server's request; seconds: by step of the protocol."""

    path: Path
    pixels: np.ndarray | None = None
    plain: Classification | None = None
    foreseen: Foreseen | None = None
    warnings: list[str] = field(default_factory=list)
    id: str = ""
    job: Job | None = None
    logits: np.ndarray | None = None
    reported: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def checked(self) -> dict[str, Any]:
        """For programs: how far into its range the picture's largest value comes, where, and what was said of it."""
        if self.foreseen is None:
            return {}
        reached = {"layer": self.foreseen.layer, "reached": self.foreseen.reached}
        return {"range": reached, "warnings": self.warnings}


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
            if self.request.json:
                line = {"set": self.request.set_number, "input": str(path)}
                self.printer.json(line | {"error": error.message, "exit_code": int(error.exit_code)})
            if not self.several:
                raise
            self.code = self.code or error.exit_code
            self.printer.error(error)

    def end(self) -> None:
        """Exit with the code of the first failure."""
        if self.code:
            raise Reported(self.code)


class _Protocol:
    """The three steps of load_keys for all pictures of a request; each picture's failure is its own."""

    def __init__(self, request: Request, printer: Printer) -> None:
        self.request, self.printer = request, printer
        self.set, self.folder, self.weights = _parameter_set(request), _key_folder(request), _weights(request)
        self.each = _Each(request, printer, _several_inputs(request))
        self.items = _pictures(request, self.each)
        self.plain = _plain_model(self.weights) if request.plain or request.verbose >= 2 else None
        self.server: ServerRun | None = None

    def encrypt(self, temporary: Path) -> None:
        """Pictures into numbered files: the server learns no names.  What decrypting needs is looked at first."""
        from . import client

        client.check_decryption(self.folder, self.set)
        names = _numbered(len(self.items))
        pictures, results = (_outputs(temporary / folder, names, True) for folder in ("pictures", "results"))
        checkpoints = self.request.checkpoints or (temporary / "checkpoints" if self.request.verbose >= 2 else None)
        for item, picture, result in zip(self.items, pictures, results, strict=True):
            with self.each.trying(item.path):
                item.pixels = _pixels(self.request, item.path)
                if self.plain and self.request.plain:
                    item.plain = Classification.of(self.plain.logits(item.pixels))
                _foresee(self.printer, item, self.set, self.weights)
                with _timed(item.seconds, "encrypt"):
                    item.id = client.encrypt_picture(
                        self.folder, self.set, item.pixels, self.weights, picture, str(item.path)
                    )
                item.job = Job(picture, result, _checkpoints(checkpoints, result, self.each.several))
        jobs = [item.job for item in self.encrypted if item.job]
        _check_outputs(self.request, _checkpoint_files(self.request, jobs), [item.path for item in self.items])

    @property
    def encrypted(self) -> list[_Item]:
        return [item for item in self.items if item.job]

    def evaluate(self, temporary: Path) -> None:
        from .serverprocess import run_server

        if not self.encrypted:
            raise Reported(self.each.code)
        jobs = [item.job for item in self.encrypted if item.job]
        self.server = run_server(_evaluation(self.request, jobs), self.printer.stderr)
        for item, line in zip(self.encrypted, self.server.pictures, strict=True):
            item.seconds["evaluate"] = line["seconds"] if self.each.several else self.server.seconds
            with self.each.trying(item.path):
                _raise_error(line, item)

    def decrypt(self) -> None:
        """Each result is printed as soon as it is known, whatever becomes of what follows it."""
        from . import client

        assert self.server is not None
        for item in self.encrypted:
            if item.job is None or not item.job.output.exists():
                continue
            with self.each.trying(item.path):
                with _timed(item.seconds, "decrypt"):
                    item.logits = client.decrypt_logits(self.folder, self.set, item.job.output, self.weights, item.id)
                _compare(self.printer, item, self.weights)
                peaks = {"server": self.server.peak_bytes, "client": peak_resident_bytes()}
                extra = {"seconds": item.seconds, "peak_bytes": peaks}
                result = Classification.of(item.logits)
                _print_classification(self.request, self.printer, item, result, extra, self.each.several)
                item.reported = True
                if self.request.verbose >= 2 and item.job.checkpoints:
                    if self.each.several:
                        self.printer.say(one_line(str(item.path)))
                    _print_precision(self.printer, self.folder, self.set, item.job.checkpoints, self.weights, item)

    def report(self) -> None:
        """What all of it took; and the exit code of the first failure."""
        assert self.server is not None
        peaks = {"server": self.server.peak_bytes, "client": peak_resident_bytes()}
        if self.request.verbose >= 0:
            seconds = {s: sum(i.seconds.get(s, 0.0) for i in self.items) for s in ("encrypt", "evaluate", "decrypt")}
            own = [line["seconds"] for line in self.server.pictures if "error" not in line]
            _report_cost(self.printer, seconds | {"evaluate": self.server.seconds}, peaks, own)
        self.each.end()

    def keep_unreported(self) -> None:
        """Minutes went into a result: where it could not be decrypted or told, it stays, encrypted as it is."""
        lost = [i.job.output for i in self.encrypted if i.job and i.job.output.exists() and not i.reported]
        if lost:
            kept = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-results-"))
            for path in lost:
                shutil.move(path, kept)
            named = [str(self.request.set_number), str(kept), "keys", str(self.folder)]
            named += ["weights", str(self.request.weights)] if self.request.weights else []
            self.printer.say(f"the encrypted result is kept: {PROGRAM} decrypt {shlex.join(named)}")


def _several_inputs(request: Request) -> bool:
    """Whether there may be several pictures, so that each is told by its name: a folder counts, of one too."""
    return len(request.inputs) > 1 or any(path.is_dir() for path in request.inputs)


def _pictures(request: Request, each: _Each) -> list[_Item]:
    """The pictures named, folders opened; a folder that cannot be is reported, and the others go on."""
    from .model.picture import pictures_in

    items = []
    for named in request.inputs or (DEFAULT_PICTURE,):
        with each.trying(named):
            items += [_Item(path) for path in pictures_in(named)]
    return items


def _ciphertexts(request: Request) -> list[Path]:
    """The ciphertexts named, folders opened."""
    paths = [p for path in request.ciphertexts for p in (sorted(path.glob("*.ct")) if path.is_dir() else [path])]
    if not paths:
        raise CiphertextError(f"{request.ciphertexts[0]} has no ciphertext in it", "of a name that ends in .ct")
    return paths


def _numbered(count: int) -> list[str]:
    """Names of ciphertexts, which say nothing of the pictures; as many digits as the last needs, so that they sort."""
    return [f"{number:0{len(str(count))}d}.ct" for number in range(1, count + 1)]


def _pair(
    request: Request, each: _Each, ciphertexts: Sequence[Path], given: Sequence[_Item], encryptions: dict[str, Entry]
) -> Iterator[tuple[_Item, Path]]:
    """Each result with the picture it answers, found by the id of its encryption: the order of files says nothing.

    Without ``given`` pictures a result is named as the client's list of encryptions has it, or by its own file.
    """
    from .fhe.envelope import read_envelope
    from .registry import pixel_digest

    for item in given:
        with each.trying(item.path):
            item.pixels = _pixels(request, item.path)
            item.id = pixel_digest(item.pixels)
    answered = set()
    for ciphertext in ciphertexts:
        with each.trying(ciphertext):
            identity = read_envelope(ciphertext).facts.picture
            entry = encryptions.get(identity)
            if not given:
                yield _Item(Path(entry.name) if entry else ciphertext, id=identity), ciphertext
                continue
            item = _given(ciphertext, given, entry)
            answered.add(item.path)
            yield _Item(item.path, item.pixels, id=identity), ciphertext
    for item in given:
        if item.pixels is not None and item.path not in answered:
            with each.trying(item.path):
                raise CiphertextError(f"no result that was given answers {item.path}")


def _given(ciphertext: Path, given: Sequence[_Item], entry: Entry | None) -> _Item:
    """The one of the given pictures that an encryption is of; of equal ones, the one it was made from."""
    if entry is None:
        raise CiphertextError(
            f"{ciphertext} answers a picture that is not in this client's list of encryptions",
            "decrypt it with the key folder that encrypted it, or leave out input",
        )
    same = [item for item in given if item.pixels is not None and item.id == entry.pixels]
    if not same:
        raise CiphertextError(f"{ciphertext} answers {entry.name}, which is not among the pictures given")
    return next((item for item in same if str(item.path) == entry.name), same[0])


def _raise_error(line: dict[str, Any], item: _Item | None = None) -> None:
    """The error of a picture that the server tells of, if it does; ``item`` says what the user calls it."""
    if "error" in line:
        kinds = {kind.exit_code: kind for kind in (EnvironmentFault, CiphertextError)}
        message = line["error"]
        if item and item.job:
            message = message.replace(str(item.job.ciphertext), f"the encryption of {item.path}")
        raise kinds.get(line["exit_code"], CiphertextError)(message, line["hint"])


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


def _checkpoint_files(request: Request, jobs: Sequence[Job]) -> list[Path]:
    """The files that will be written where checkpoints are to be kept, into folders that are made if need be."""
    folders = [job.checkpoints for job in jobs if job.checkpoints] if request.checkpoints else []
    for folder in folders:
        make_folder(folder)
    relus = _parameter_set(request).architecture.relu_channels()
    names = [f"{relu}{value}.ct" for relu in relus for value in ("", ".refresh", ".relu")]
    return [folder / name for folder in folders for name in names]


def _check_outputs(request: Request, outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Before any work: outputs that would replace what is read, the keys included, or that cannot be written."""
    weights = [request.weights] if request.weights else []
    keys = [_key_folder(request)] if request.set_number else []
    check_outputs(outputs, files_in(*inputs, *weights, *keys))


def _evaluation(request: Request, jobs: Sequence[Job]) -> Evaluation:
    """What the server's process is asked to do."""
    return Evaluation(
        set_number=request.set_number,
        folder=_key_folder(request),
        jobs=tuple(jobs),
        weights=request.weights,
        verbose=request.verbose,
        resume=request.resume,
        anyway=request.anyway,
    )


def _pixels(request: Request, path: Path) -> np.ndarray:
    from .model.picture import find_picture, read_picture

    return read_picture(find_picture(path), resize=request.resize)


def _foresee(printer: Printer, item: _Item, set_: ParameterSet, weights: Weights) -> None:
    """Look at the picture in the clear; a warning where encryption cannot follow, at every verbosity."""
    from .network.ranges import foresee

    assert item.pixels is not None
    item.foreseen = foresee(weights, set_.refresh, item.pixels)
    if not item.foreseen.in_range:
        reached = f"{item.foreseen.reached:.2f} times what set {set_.number} can take, at {item.foreseen.layer}"
        _warn(printer, item, f"{item.path} comes to {reached}: the result may be wrong", _RANGE_HINT)


def _compare(printer: Printer, item: _Item, weights: Weights) -> None:
    """Warn where the decrypted logits are not the picture's, if it is known; at every verbosity."""
    from .network.ranges import alike

    if item.foreseen and item.logits is not None and not alike(weights, item.logits, item.foreseen):
        difference = float(abs(item.logits - item.foreseen.logits).max())
        message = f"{item.path}: a logit is {difference:.2f} from the plain network's: the result may be wrong"
        _warn(printer, item, message, _DIFFERENCE_HINT)


def _warn(printer: Printer, item: _Item, message: str, hint: str) -> None:
    item.warnings.append(message)
    printer.warning(message, hint)


def _plain_model(weights: Weights) -> PlainNetwork:
    from .model.plain import PlainNetwork

    return PlainNetwork(weights)


def _print_written(
    request: Request,
    printer: Printer,
    what: str,
    path: Path,
    seconds: float,
    facts: dict[str, Any] | None = None,
    peak_bytes: int = 0,
) -> None:
    """Say what a command has written; at verbose 0 and above, what there is to know of it and at what cost.

    peak_bytes: of the process that did it, by default this one.
    """
    peak, facts = peak_bytes or peak_resident_bytes(), facts or {}
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
    line |= result.as_json() | item.checked()
    if plain:
        line["plain"] = plain.as_json() | {"worst_difference": result.worst_difference(plain)}
    printer.json(line | extra)


def _print_precision(
    printer: Printer, folder: Path, set_: ParameterSet, checkpoints: Path, weights: Weights, item: _Item
) -> None:
    from . import inspection

    assert item.pixels is not None
    layers = inspection.inspect_checkpoints(folder, set_, checkpoints, weights, item.pixels, item.id)
    printer.say(inspection.table(layers))


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
        raise os_fault(error, "make", error.filename or "a temporary folder; TMPDIR names where") from error
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    with on_interrupt(remove):
        try:
            yield folder
        finally:
            remove()
