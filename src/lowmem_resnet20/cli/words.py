"""The command line's language: words in any order, each from one table.

``COMMANDS`` and ``OPTIONS`` below are the only list of them: parsing, the help text, the suggestions for
a misspelt word and the check of what goes with what all read it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PROGRAM, ExitCode, UsageError
from ..network.engines import ENGINES

VERBOSITIES = (-1, 0, 1, 2)
DEFAULT_PICTURE = Path("inputs/luis.png")
DEFAULT_KEYS = Path("keys")
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif")
#: What other programs call it.
_SYNONYMS = {
    **dict.fromkeys(("file", "files", "image", "images", "img", "photo", "picture", "i"), "input"),
    **dict.fromkeys(("classify", "infer", "inference", "predict", "run"), "load_keys"),
    **dict.fromkeys(("keygen", "genkeys", "gen_keys", "generate"), "generate_keys"),
    **dict.fromkeys(("quiet", "silent", "q"), "verbose -1"),
    **dict.fromkeys(("version", "about"), "--version"),
    **dict.fromkeys(("password", "passwd"), "passphrase"),
    **dict.fromkeys(("abort", "kill", "stop"), "cancel"),
    **dict.fromkeys(("delete_keys", "remove_keys"), "forget_keys"),
    **dict.fromkeys(("add_token", "new_token", "add_client"), "token add"),
    **dict.fromkeys(("tokens", "list_tokens", "clients"), "token list"),
    **dict.fromkeys(("remove_token", "delete_token", "revoke"), "token remove"),
    "selftest": "test",
    "out": "output",
    "o": "output",
}
_HELP_HINT = f"see: {PROGRAM} --help"
#: A word is taken for another that begins with so many letters of it, or is so much like it.
_FEWEST_LETTERS, _LIKENESS = 3, 0.75


@dataclass(frozen=True)
class Value:
    """What may stand after a word.

    name: in the help;
    field: of Request that it fills;
    read: makes it of the text;
    many: it is all that follows up to the next word.
    """

    name: str
    field: str
    read: Callable[[str], Any]
    many: bool = False


@dataclass(frozen=True)
class Command:
    """A command.

    name: a word, or two that stand side by side;
    values: what follows it at once;
    options: those it takes;
    required: those it cannot do without.
    """

    name: str
    help: str
    values: tuple[Value, ...] = ()
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option: a word alone, or one with a value after it."""

    name: str
    help: str
    value: Value | None = None


@dataclass(frozen=True)
class Request:
    """What the user asked for.  Fields that the command does not take keep their defaults.

    into_folder: output was written with a slash at its end.
    """

    command: str
    set_number: int = 0
    ciphertexts: tuple[Path, ...] = ()
    source: Path = Path()
    destination: Path = Path()
    inputs: tuple[Path, ...] = ()
    output: Path = Path()
    into_folder: bool = False
    keys: Path = DEFAULT_KEYS
    weights: Path | None = None
    card: Path | None = None
    checkpoints: Path | None = None
    pictures: Path = Path()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    epsilon: float | None = None
    classes: Path | None = None
    logits: Path | None = None
    name: str = ""
    side: int = 0
    verbose: int = 0
    plain: bool = False
    resize: bool = False
    json: bool = False
    resume: bool = False
    anyway: bool = False
    engine: str = ""
    passphrase: bool = False
    server: str = ""
    token: Path | None = None
    jobs: tuple[str, ...] = ()
    listen: str = ""
    client: str = ""
    a_day: int | None = None
    store: Path = Path("service")
    ray: str = ""
    clients: int = 0


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise UsageError(f"{text!r} cannot be the name of a file")
    return Path(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        folder = re.fullmatch(r"(?:.*/)?(?:exp|set)?([0-9]{1,9})/?", text)  # such as keys/exp1, where set 1's keys are
        hint = f"did you mean {folder[1]}?" if folder else "such as 1; it stands right after the command"
        raise UsageError(f"{text!r} is not the number of a parameter set", hint)
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not int(text):
        raise UsageError(f"{text!r} is not a whole number from 1 to 999999999", "such as 100")
    return int(text)


def _verbosity(text: str) -> int:
    levels = {str(level): level for level in VERBOSITIES}
    if text not in levels:
        raise UsageError(f"verbose is one of {', '.join(levels)}, not {text!r}")
    return levels[text]


def _engine(text: str) -> str:
    if text not in ENGINES:
        raise UsageError(f"engine is one of {', '.join(ENGINES)}, not {text!r}")
    return text


def _text(text: str) -> str:
    """Take an address or a name: whoever uses it says what is wrong with it."""
    if not text or not text.isprintable():
        raise UsageError(f"{text!r} cannot be an address or a name")
    return text


def _job(text: str) -> str:
    """Take a name such as 6-0123456789abcdef01234567: the number of its parameter set, then its own."""
    if not re.fullmatch(r"[0-9]{1,9}-[0-9a-f]{24}", text):
        raise UsageError(f"{text!r} is not the name of a job", "a service names it, such as 6-0123456789abcdef01234567")
    return text


def _colours(text: str) -> tuple[float, ...]:
    try:
        colours = tuple(float(part) for part in text.split(","))
    except ValueError:
        colours = ()
    if len(colours) not in (1, 3):
        raise UsageError(f"{text!r} is not one or three numbers", "such as 0.49,0.48,0.45")
    if not all(abs(part) < float("inf") for part in colours):
        raise UsageError(f"{text!r} has numbers that are not finite")
    return colours


def _positive_colours(text: str) -> tuple[float, ...]:
    colours = _colours(text)
    if min(colours) <= 0:
        raise UsageError(f"{text!r} has numbers that are not above 0")
    return colours


def _side(text: str) -> int:
    sides = [str(1 << power) for power in range(2, 10)]
    if text not in sides:
        raise UsageError(f"{text!r} is not the side of pictures", f"one of {', '.join(sides)}")
    return int(text)


def _epsilon(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1:
        raise UsageError(f"{text!r} is not a number from 0 to 1", "such as 1e-3")
    return number


_N = Value("N", "set_number", _number)
_CIPHERTEXTS = Value("CT ..", "ciphertexts", _path, many=True)
_JOBS = Value("JOB ..", "jobs", _job, many=True)
_CLIENT = Value("NAME", "client", _text)
_PLAIN_MODEL = ("plain", "input", "resize", "weights", "card")

OPTIONS = {
    o.name: o
    for o in (
        Option(
            "input",
            f"pictures, or a folder of them (default {DEFAULT_PICTURE})",
            Value("FILE ..", "inputs", _path, many=True),
        ),
        Option("output", "where to write the ciphertext; of several, the folder", Value("CT", "output", _path)),
        Option("keys", "where the key folders lie (default keys)", Value("DIR", "keys", _path)),
        Option("weights", "the network's weights (default: the program's own)", Value("FILE", "weights", _path)),
        Option("card", "what a client needs of a network whose weights are elsewhere", Value("CARD", "card", _path)),
        Option("resize", "crop and scale any photograph to the network's size"),
        Option("plain", "run the plain model as well, and compare"),
        Option(
            "verbose",
            "-1 result and warnings, 0 (default), 1 times of layers, 2 precision",
            Value("V", "verbose", _verbosity),
        ),
        Option("json", "print the result as one line of JSON"),
        Option("checkpoints", "keep the ciphertexts of every layer, to inspect", Value("DIR", "checkpoints", _path)),
        Option("resume", "go on where an evaluation to the same output was killed"),
        Option(
            "engine", "what will evaluate with the keys: native (default) or openfhe", Value("E", "engine", _engine)
        ),
        Option("passphrase", "keep the secret key encrypted: asks for the passphrase that decrypting will ask for"),
        Option("server", "have a service evaluate, such as http://127.0.0.1:8642", Value("URL", "server", _text)),
        Option(
            "token",
            "a file with the service's token (default: LOWMEM_RESNET20_TOKEN of the environment)",
            Value("FILE", "token", _path),
        ),
        Option("ray", "evaluate on a Ray cluster, such as auto", Value("ADDRESS", "ray", _text)),
        Option(
            "listen", "where to listen (default 127.0.0.1, for serve port 8642)", Value("HOST:PORT", "listen", _text)
        ),
        Option("store", "where the service keeps keys and jobs (default service)", Value("DIR", "store", _path)),
        Option("a_day", "pictures that the client may send a day (default: any number)", Value("N", "a_day", _count)),
        Option("anyway", "evaluate though there seems to be too little memory"),
        Option("clients", "what so many take, each with a picture an hour", Value("COUNT", "clients", _count)),
        Option(
            "pictures",
            "pictures, or folders of them by class, to calibrate on or to simulate",
            Value("PATH", "pictures", _path),
        ),
        Option("mean", "taken from the pixels: red,green,blue, or one number", Value("R,G,B", "mean", _colours)),
        Option("std", "the pixels are divided by: so too", Value("R,G,B", "std", _positive_colours)),
        Option(
            "eps", "what batch norm adds to a variance (default 1e-5, PyTorch's)", Value("NUMBER", "epsilon", _epsilon)
        ),
        Option("classes", "the names of the classes, one a line", Value("FILE", "classes", _path)),
        Option("logits", "the source's own answers on the pictures, to compare with", Value("FILE", "logits", _path)),
        Option("name", "a name for the network", Value("NAME", "name", _text)),
        Option("side", "the side of its pictures (default that of an npz's, or 32)", Value("PIXELS", "side", _side)),
    )
}

COMMANDS = {
    c.name: c
    for c in (
        Command(
            "generate_keys",
            "make the keys of parameter set N in keys/expN",
            (_N,),
            ("engine", "weights", "card", "passphrase", "keys", "verbose", "json"),
        ),
        Command(
            "load_keys",
            "classify pictures: encrypt, evaluate in a process of its own, decrypt",
            (_N,),
            (
                "input",
                "resize",
                "plain",
                "weights",
                "card",
                "keys",
                "server",
                "token",
                "checkpoints",
                "anyway",
                "verbose",
                "json",
            ),
        ),
        Command(
            "encrypt",
            "client: encrypt pictures",
            (_N,),
            ("input", "resize", "output", "weights", "card", "keys", "verbose", "json"),
            ("output",),
        ),
        Command(
            "evaluate",
            "server: run the network on encrypted pictures; needs keys/expN/server only",
            (_N, _CIPHERTEXTS),
            ("output", "resume", "anyway", "ray", "weights", "keys", "checkpoints", "verbose", "json"),
            ("output",),
        ),
        Command(
            "decrypt",
            "client: decrypt the results",
            (_N, _CIPHERTEXTS),
            (*_PLAIN_MODEL, "keys", "checkpoints", "verbose", "json"),
        ),
        Command(
            "serve",
            "server: a service that evaluates for clients elsewhere",
            (_N,),
            ("listen", "store", "ray", "weights", "verbose", "json"),
        ),
        Command(
            "token add",
            "server: let one more client use the service; prints its token",
            (_CLIENT,),
            ("a_day", "store", "verbose", "json"),
        ),
        Command("token list", "server: name the service's clients", (), ("store", "verbose", "json")),
        Command("token remove", "server: end a client's access", (_CLIENT,), ("store", "verbose", "json")),
        Command(
            "fetch",
            "client: take results from a service, and decrypt them",
            (_JOBS,),
            (*_PLAIN_MODEL, "keys", "server", "token", "verbose", "json"),
            ("server",),
        ),
        Command(
            "cancel",
            "client: end jobs at a service that are not over",
            (_JOBS,),
            ("server", "token", "verbose", "json"),
            ("server",),
        ),
        Command(
            "forget_keys",
            "client: have a service remove the keys that were uploaded",
            (_N,),
            ("keys", "server", "token", "verbose", "json"),
            ("server",),
        ),
        Command(
            "page",
            "client: a page for this machine's browser, to classify pictures on",
            (_N,),
            ("server", "token", "listen", "weights", "card", "keys", "verbose"),
        ),
        Command(
            "import_weights",
            "make a weight file of a PyTorch checkpoint, ONNX, a hub's folder or folded .npz",
            (Value("SOURCE", "source", _path), Value("OUT", "destination", _path)),
            ("pictures", "classes", "logits", "mean", "std", "eps", "side", "name", "verbose", "json"),
            ("pictures",),
        ),
        Command(
            "export_card",
            "make a card of a weight file: what clients need of the network, and no weight",
            (Value("FILE", "source", _path), Value("CARD", "destination", _path)),
            ("verbose", "json"),
        ),
        Command(
            "simulate",
            "compute in the clear what set N makes of pictures: accuracy, and the classes that change",
            (_N,),
            ("pictures", "engine", "weights", "verbose", "json"),
            ("pictures",),
        ),
        Command(
            "estimate",
            "what a network takes in set N on this machine: time, memory, keys; needs no keys",
            (_N,),
            ("weights", "engine", "clients", "verbose", "json"),
        ),
        Command("test", "check this machine: compute a little under every parameter set", (), ("verbose", "json")),
        Command("help", "print this"),
    )
}

_OPTION_VALUES = {name: (option.value,) if option.value else () for name, option in OPTIONS.items()}
EXAMPLES = (
    "generate_keys 6",
    "load_keys 6 input inputs/vale.jpg plain",
    "page 6",
    "encrypt 6 input inputs/vale.jpg output picture.ct",
    "evaluate 6 picture.ct output result.ct",
    "decrypt 6 result.ct",
)


def parse(words: Sequence[str]) -> Request:
    """Make a Request of the words.  Errors: UsageError, the first thing that does not fit."""
    fields: dict[str, Any] = {}
    seen: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if rest and f"{word} {rest[0]}" in COMMANDS:
            word += f" {rest.pop(0)}"
        _check_word(word, seen)
        seen.append(word)
        values = _values(word)
        if not values and word in OPTIONS:
            fields[word] = True
        for value in values:
            if value.field == "output" and rest and rest[0].endswith("/"):
                fields["into_folder"] = True
            fields[value.field] = _take(word, value, rest, beside(seen))
    command = _command(seen)
    if "server" in fields and fields.get("verbose", 0) > 1:
        raise UsageError("a service keeps no checkpoints, which verbose 2 needs", "verbose 1 shows the times of layers")
    if "jobs" in fields:
        fields["set_number"] = _set_of_jobs(fields["jobs"])
    return Request(command.name, **fields)


def usage(values: Sequence[Value]) -> str:
    """Write the names of the values, each after a space."""
    return "".join(f" {value.name}" for value in values)


def epilog() -> str:
    """Return the table of words as the help shows it."""
    commands = [(c.name + usage(c.values), c.help) for c in COMMANDS.values()]
    options = [(o.name + usage(_OPTION_VALUES[o.name]), _option_help(o)) for o in OPTIONS.values()]
    codes = [(str(code.value), code.name.lower()) for code in ExitCode]
    examples = [(f"{PROGRAM} {example}", "") for example in EXAMPLES]
    sections = {"commands": commands, "options": options, "exit codes": codes, "examples": examples}
    return "\n\n".join(f"{title}:\n{_columns(rows)}" for title, rows in sections.items())


def beside(words: Sequence[str]) -> list[str]:
    """Return the words that may stand beside those: beside a command no other, and those options that it takes."""
    command = next((COMMANDS[word] for word in words if word in COMMANDS), None)
    return [name for name in OPTIONS if name in command.options] if command else [*OPTIONS, *COMMANDS]


def unknown(word: str, among: Sequence[str], after: str = "") -> UsageError:
    """Return the error for a word that is not in the table, with the one ``among`` those that can be meant, if it can
    be told.

    after: the word before it, with all that it takes.
    """
    name, equals, value = word.partition("=")
    first, *more = word.split() or [""]
    suffix = Path(word).suffix.lower()
    if equals and _close(name, among):
        hint = f"did you mean: {_assigned(_close(name, among)[0], value)}?"
    elif more and _close(first, among):
        hint = f"without quotes around all of it: {' '.join([_close(first, among)[0], *more])}"
    elif word.startswith("-") and (suffix or os.path.lexists(word)):
        hint = f"a file of that name is written ./{word}"
    elif suffix in _PICTURE_SUFFIXES and "input" in among:
        hint = f"did you mean: input {word}?"
    elif suffix == ".ct":
        hint = "a ciphertext stands right after the command and its N, or after output"
    elif _close(word, among):
        hint = f"did you mean {_close(word, among)[0]}?"
    elif "://" in word and "server" in among:
        hint = f"did you mean: server {word}?"
    elif after and not _values(after):  # what stands there may be secret
        return UsageError(f"{after} takes no value", f"{after}: {(OPTIONS.get(after) or COMMANDS[after]).help}")
    elif after:
        hint = f"no more belongs to {after} than this: {after}{usage(_values(after))}"
    else:
        hint = _HELP_HINT
    return UsageError(f"unknown word {word!r}", hint)


def _assigned(word: str, value: str) -> str:
    """Return how ``word=value`` is written here."""
    return f"{word} {value}" if _values(word) and value else word


def _values(word: str) -> tuple[Value, ...]:
    """Return what stands after a known word."""
    return COMMANDS[word].values if word in COMMANDS else _OPTION_VALUES.get(word, ())


def _close(word: str, among: Sequence[str]) -> list[str]:
    """Return the word ``among`` those that is most like this one, or begins like it, or means the same, if any does."""
    fewest = 1 if word.startswith("-") else _FEWEST_LETTERS
    word = word.lstrip("-").replace("-", "_").lower() if word != "-V" else "version"
    meant = _SYNONYMS.get(word, "")
    if meant in among or meant.partition(" ")[0] in among or meant.startswith("-"):
        return [meant]
    begins = [known for known in among if len(word) >= fewest and known.startswith(word)]
    return begins[:1] or difflib.get_close_matches(word, among, n=1, cutoff=_LIKENESS)


def _check_word(word: str, seen: Sequence[str]) -> None:
    if word not in COMMANDS and word not in OPTIONS:
        raise unknown(word, beside(seen), *seen[-1:])
    if word in seen:
        raise UsageError(f"{word} is given twice")
    first = next((s for s in seen if s in COMMANDS), None)
    if word in COMMANDS and first:
        _, _, second = word.partition(" ")
        hint = f"; a file of that name is written ./{second}" if second else ""
        raise UsageError(f"two commands: {first} and {word}", f"give one at a time{hint}")


def _take(word: str, value: Value, rest: list[str], among: Sequence[str]) -> Any:
    """Take the value of ``word``, or its values, off the front of ``rest``, up to one of the words ``among`` those."""
    taken = [_take_one(word, value, rest)]
    while value.many and rest and rest[0] not in COMMANDS and rest[0] not in OPTIONS:
        if _mistaken(rest[0], among):
            raise unknown(rest[0], among)
        taken.append(_take_one(word, value, rest))
    return tuple(taken) if value.many else taken[0]


def _mistaken(text: str, among: Sequence[str]) -> bool:
    """Return whether ``text`` is rather a word ``among`` those, misspelt, than one more file."""
    if os.path.lexists(text):
        return False
    name, equals, _ = text.partition("=")
    return bool(_close(name, among)) if equals else not Path(text).suffix and bool(_close(text, among))


def _take_one(word: str, value: Value, rest: list[str]) -> Any:
    if not rest:
        raise UsageError(f"{word} needs {value.name} after it", _HELP_HINT)
    text = rest.pop(0)
    if text == "=":
        raise UsageError(f"{word} = is written without =", f"such as: {word}{usage([value])}")
    if text in COMMANDS or text in OPTIONS:
        hint = f"a file of that name is written ./{text}" if value.read is _path else _HELP_HINT
        raise UsageError(f"{word} needs {value.name} after it, not the word {text}", hint)
    return value.read(text)


def _command(seen: Sequence[str]) -> Command:
    """Return the command among the words, once the options are seen to go with it."""
    command = next((COMMANDS[word] for word in seen if word in COMMANDS), None)
    if command is None:
        raise UsageError("no command given", f"one of {', '.join(COMMANDS)}; {_HELP_HINT}")
    for word in seen:
        if word in OPTIONS and word not in command.options:
            raise UsageError(f"{word} does not go with {command.name}", _HELP_HINT)
    for word in command.required:
        if word not in seen:
            raise UsageError(f"{command.name} needs {word}{usage(_OPTION_VALUES[word])}", _HELP_HINT)
    if "token" in seen and "server" not in seen:
        raise UsageError("token goes with server URL", _HELP_HINT)
    if {"weights", "card"} <= set(seen):
        raise UsageError("weights and card name a network each", "card is for those who do not have the weights")
    if "card" in seen and "server" not in seen and command.name in ("load_keys", "page"):
        hint = f"without server URL, {command.name} evaluates on this machine: weights FILE"
        raise UsageError("to evaluate takes the network's weights, and a card has none", hint)
    if "server" in seen and set(seen) & {"checkpoints", "anyway"}:
        raise UsageError("a service keeps no checkpoints, and looks after its own memory", "leave the word out")
    if command.name in ("decrypt", "fetch") and "input" not in seen and set(seen) & {"plain", "checkpoints"}:
        raise UsageError(f"to compare with the plain model, {command.name} needs input FILE", _HELP_HINT)
    return command


def _set_of_jobs(jobs: Sequence[str]) -> int:
    numbers = {job.partition("-")[0] for job in jobs}
    if len(numbers) > 1:
        raise UsageError("the jobs are of more than one parameter set", "name those of one set at a time")
    return int(numbers.pop())


def _option_help(option: Option) -> str:
    commands = [c.name for c in COMMANDS.values() if option.name in c.options]
    return option.help if len(commands) > 2 else f"{option.help} ({', '.join(commands)})"


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {right}".rstrip() for left, right in rows)
