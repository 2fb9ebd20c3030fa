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
#: Of a set that evaluates groups: fewer pictures take less time one by one.
FEWEST_FOR_A_GROUP = 3
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

    groups = _grouped(request, printer, items, set_)
    outputs = _outputs(request.output, _numbered(len(groups)), each.several)
    _check_outputs(request, outputs, [item.path for item in items])
    client.check_encryption(folder, set_)
    for group, output in zip(groups, outputs, strict=True):
        for item in group.items:
            with each.trying(item.path):
                item.pixels = _pixels(request, item.path)
                _foresee(printer, item, set_, weights)
        if not group.readable:
            continue
        with each.trying(*group.paths):
            group.encrypt(folder, set_, weights, output)
            for item in group.readable:
                facts: dict[str, Any] = {"input": str(item.path)} if each.several else {}
                facts |= {"place": group.items.index(item) + 1} if set_.pictures > 1 else {}
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
    several = len(request.ciphertexts) > 1 or request.ciphertexts[0].is_dir() or set_.pictures > 1
    each = _Each(request, printer, several)
    ciphertexts = _ciphertexts(request)
    given = _pictures(request, each) if request.inputs else []
    from . import client
    from .fhe.group import group_and_place

    plain = _plain_model(weights) if request.plain else None
    decrypted: dict[Path, np.ndarray] = {}
    for item, ciphertext in _pair(request, each, ciphertexts, given, client.encryptions(folder, set_), set_.pictures):
        with each.trying(ciphertext):
            if item.pixels is not None:
                item.plain = Classification.of(plain.logits(item.pixels)) if plain else None
                _foresee(printer, item, set_, weights)
            group, place = group_and_place(item.id, set_.pictures)
            if ciphertext not in decrypted:
                decrypted = {ciphertext: client.decrypt_group(folder, set_, ciphertext, weights, group)}
            item.logits = decrypted[ciphertext][place]
            client.check_logits(ciphertext, weights, item.logits)
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
    id: of its encryption; seconds: by step of the protocol, of a group's its share."""

    path: Path
    pixels: np.ndarray | None = None
    plain: Classification | None = None
    foreseen: Foreseen | None = None
    warnings: list[str] = field(default_factory=list)
    id: str = ""
    logits: np.ndarray | None = None
    reported: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def checked(self) -> dict[str, Any]:
        """For programs: how far into its range the picture's largest value comes, where, and what was said of it."""
        if self.foreseen is None:
            return {}
        reached = {"layer": self.foreseen.layer, "reached": self.foreseen.reached}
        return {"range": reached, "warnings": self.warnings}


@dataclass
class _Group:
    """Pictures that are evaluated together, by place; of most sets one alone.  job: in the server's request; seconds: by
    step of the protocol, of all of them."""

    items: list[_Item]
    job: Job | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def readable(self) -> list[_Item]:
        """Those that could be read; the places of others stay empty."""
        return [item for item in self.items if item.foreseen]

    @property
    def paths(self) -> list[Path]:
        return [item.path for item in self.readable]

    def encrypt(self, folder: Path, set_: ParameterSet, weights: Weights, output: Path) -> None:
        from . import client

        named = [
            None if not i.foreseen or i.pixels is None else client.Named(i.pixels, str(i.path)) for i in self.items
        ]
        with self.timed("encrypt"):
            ids = client.encrypt_group(folder, set_, named, weights, output)
        for item, identity in zip(self.items, ids, strict=True):
            item.id = identity

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """A step that they take together, and in equal shares."""
        with _timed(self.seconds, step):
            yield
        self.share(step)

    def share(self, step: str) -> None:
        for item in self.readable:
            item.seconds[step] = self.seconds[step] / len(self.readable)


class _Each:
    """Of several pictures, one that fails is reported and the others go on; of one, its error is the command's."""

    def __init__(self, request: Request, printer: Printer, several: bool) -> None:
        self.request, self.printer, self.several = request, printer, several
        self.code = ExitCode.OK

    @contextmanager
    def trying(self, *paths: Path) -> Iterator[None]:
        """What concerns the pictures of ``paths`` together: an error is told once, to programs of each."""
        try:
            yield
        except (PictureError, CiphertextError, EnvironmentFault) as error:
            for path in paths if self.request.json else ():
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
        self.groups = _grouped(request, printer, self.items, self.set)
        self.plain = _plain_model(self.weights) if request.plain or request.verbose >= 2 else None
        self.server: ServerRun | None = None

    def encrypt(self, temporary: Path) -> None:
        """Pictures into numbered files: the server learns no names.  What decrypting needs is looked at first."""
        from . import client

        client.check_decryption(self.folder, self.set)
        names = _numbered(len(self.groups))
        pictures, results = (_outputs(temporary / folder, names, True) for folder in ("pictures", "results"))
        checkpoints = self.request.checkpoints or (temporary / "checkpoints" if self.request.verbose >= 2 else None)
        for group, picture, result in zip(self.groups, pictures, results, strict=True):
            for item in group.items:
                with self.each.trying(item.path):
                    self._look_at(item)
            if group.readable:
                with self.each.trying(*group.paths):
                    group.encrypt(self.folder, self.set, self.weights, picture)
                    group.job = Job(picture, result, _checkpoints(checkpoints, result, self.each.several))
        _check_outputs(self.request, _checkpoint_files(self.request, self.jobs), [item.path for item in self.items])

    def _look_at(self, item: _Item) -> None:
        item.pixels = _pixels(self.request, item.path)
        if self.plain and self.request.plain:
            item.plain = Classification.of(self.plain.logits(item.pixels))
        _foresee(self.printer, item, self.set, self.weights)

    @property
    def encrypted(self) -> list[_Group]:
        return [group for group in self.groups if group.job]

    @property
    def jobs(self) -> list[Job]:
        return [group.job for group in self.groups if group.job]

    def evaluate(self, temporary: Path) -> None:
        from .serverprocess import run_server

        if not self.encrypted:
            raise Reported(self.each.code)
        self.server = run_server(_evaluation(self.request, self.jobs), self.printer.stderr)
        alone = len(self.jobs) == 1 and (self.set.pictures > 1 or not self.each.several)
        for group, line in zip(self.encrypted, self.server.pictures, strict=True):
            group.seconds["evaluate"] = self.server.seconds if alone else line["seconds"]
            group.share("evaluate")
            with self.each.trying(*group.paths):
                _raise_error(line, group)

    def decrypt(self) -> None:
        """Each result is printed as soon as it is known, whatever becomes of what follows it."""
        from . import client
        from .fhe.group import group_and_place

        for group in self.encrypted:
            if group.job is None or not group.job.output.exists():
                continue
            output, numbers = group.job.output, None
            identity, _ = group_and_place(group.readable[0].id, self.set.pictures)
            with self.each.trying(*group.paths), group.timed("decrypt"):
                numbers = client.decrypt_group(self.folder, self.set, output, self.weights, identity)
            for item in group.readable if numbers is not None else ():
                with self.each.trying(item.path):
                    _, place = group_and_place(item.id, self.set.pictures)
                    item.logits = numbers[place]
                    client.check_logits(output, self.weights, item.logits)
                    self._tell(item, group)

    def _tell(self, item: _Item, group: _Group) -> None:
        assert self.server is not None and group.job is not None and item.logits is not None
        _compare(self.printer, item, self.weights)
        peaks = {"server": self.server.peak_bytes, "client": peak_resident_bytes()}
        extra: dict[str, Any] = {"seconds": item.seconds, "peak_bytes": peaks}
        if self.set.pictures > 1:
            extra["group"] = {"pictures": len(group.readable), "place": group.items.index(item) + 1}
            extra["group"] |= {"seconds": group.seconds}
        result = Classification.of(item.logits)
        _print_classification(self.request, self.printer, item, result, extra, self.each.several)
        item.reported = True
        if self.request.verbose >= 2 and group.job.checkpoints:
            if self.each.several:
                self.printer.say(one_line(str(item.path)))
            _print_precision(self.printer, self.folder, self.set, group.job.checkpoints, self.weights, item)

    def report(self) -> None:
        """What all of it took; and the exit code of the first failure."""
        assert self.server is not None
        peaks = {"server": self.server.peak_bytes, "client": peak_resident_bytes()}
        if self.request.verbose >= 0:
            seconds = {s: sum(i.seconds.get(s, 0.0) for i in self.items) for s in ("encrypt", "evaluate", "decrypt")}
            own = [line["seconds"] for line in self.server.pictures if "error" not in line]
            _report_cost(self.printer, seconds | {"evaluate": self.server.seconds}, peaks, own, self._amortised())
        self.each.end()

    def _amortised(self) -> float | None:
        """Seconds of the server a picture, where it evaluates several at once."""
        assert self.server is not None
        done = sum(item.reported for item in self.items)
        return self.server.seconds / done if self.set.pictures > 1 and done else None

    def keep_unreported(self) -> None:
        """Minutes went into a result: where it could not be decrypted or told, it stays, encrypted as it is."""
        unreported = [group for group in self.encrypted if not all(item.reported for item in group.readable)]
        lost = [group.job.output for group in unreported if group.job and group.job.output.exists()]
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


def _grouped(request: Request, printer: Printer, items: list[_Item], set_: ParameterSet) -> list[_Group]:
    """The pictures in groups that are evaluated together."""
    if set_.pictures > 1 and len(items) < FEWEST_FOR_A_GROUP and request.verbose >= 0:
        worth = f"set {set_.number} takes as long for one picture as for {set_.pictures}"
        printer.say(f"{worth}: for fewer than {FEWEST_FOR_A_GROUP}, set 6 is the better choice")
    return [_Group(items[first : first + set_.pictures]) for first in range(0, len(items), set_.pictures)]


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
    request: Request,
    each: _Each,
    ciphertexts: Sequence[Path],
    given: Sequence[_Item],
    encryptions: dict[str, Entry],
    pictures: int,
) -> Iterator[tuple[_Item, Path]]:
    """Each result with each picture it answers, found by the id of its encryption: the order of files says nothing.

    Without ``given`` pictures a result is named as the client's list of encryptions has it, or by its own file.
    pictures: of a group.
    """
    from .registry import pixel_digest

    for item in given:
        with each.trying(item.path):
            item.pixels = _pixels(request, item.path)
            item.id = pixel_digest(item.pixels)
    answered = set()
    for ciphertext in ciphertexts:
        for identity, name in _answered(each, ciphertext, encryptions, pictures).items():
            with each.trying(ciphertext):
                if not given:
                    yield _Item(Path(name), id=identity), ciphertext
                    continue
                item = _given(ciphertext, given, encryptions.get(identity))
                answered.add(item.path)
                yield _Item(item.path, item.pixels, id=identity), ciphertext
    for item in given:
        if item.pixels is not None and item.path not in answered:
            with each.trying(item.path):
                raise CiphertextError(f"no result that was given answers {item.path}")


def _answered(each: _Each, ciphertext: Path, encryptions: dict[str, Entry], pictures: int) -> dict[str, str]:
    """Names by id of the pictures that a result answers: of a group those in the client's list, for other places are
    empty; or, where the list knows none, every place."""
    from .fhe.envelope import read_envelope
    from .fhe.group import picture_id

    with each.trying(ciphertext):
        group = read_envelope(ciphertext).facts.picture
        ids = [picture_id(group, place, pictures) for place in range(pictures)]
        known = {identity: encryptions[identity].name for identity in ids if identity in encryptions}
        unknown = [str(ciphertext)] if pictures == 1 else [f"{ciphertext}, place {i + 1}" for i in range(pictures)]
        return known or dict(zip(ids, unknown, strict=True))
    return {}


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


def _raise_error(line: dict[str, Any], group: _Group | None = None) -> None:
    """The error of a job that the server tells of, if it does; ``group`` says what the user calls its pictures."""
    if "error" in line:
        kinds = {kind.exit_code: kind for kind in (EnvironmentFault, CiphertextError)}
        message = line["error"]
        if group and group.job:
            named = ", ".join(map(str, group.paths))
            message = message.replace(str(group.job.ciphertext), f"the encryption of {named}")
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
    if not folders:
        return []
    from .network.resnet20 import plan

    return [folder / f"{name}.ct" for folder in folders for name in plan(_parameter_set(request)).values]


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
    printer: Printer,
    seconds: dict[str, float],
    peak_bytes: dict[str, int],
    evaluations: list[float],
    amortised: float | None,
) -> None:
    """evaluations: seconds that the server spent on each job alone; amortised: on a picture, where jobs are groups."""
    times = ", ".join(f"{step} {format_seconds(value)}" for step, value in seconds.items())
    if len(evaluations) > 1:
        what = "picture" if amortised is None else "group"
        times += f"; a {what} after the first {format_seconds(statistics.mean(evaluations[1:]))}"
    if amortised is not None:
        times += f"; {format_seconds(amortised)} of evaluation a picture"
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
