"""What the commands print: results on stdout, as words or as one line of JSON; all else on stderr."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import LowmemError
from ..machine.memory import peak_resident_bytes
from ..machine.text import decoded, labelled, one_line
from ..model.classification import Classification
from ..progress.display import format_bytes, format_seconds
from ..progress.streams import Results, reports, shows_more_than_text
from .words import Request

if TYPE_CHECKING:
    import numpy as np

    from ..client import Client

_GREEN, _RED, _YELLOW, _NORMAL = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"


class Printer:
    """Writes to the two streams.  Colour only where a stream is a terminal with colours and NO_COLOR is not set.

    stdout, stderr: None where it is closed.
    """

    def __init__(self, stdout: TextIO | None, stderr: TextIO | None) -> None:
        self.stderr = reports(stderr)
        self.results = Results(stdout, self.stderr)

    def say(self, text: str) -> None:
        """Print a line or more for the user, on stderr."""
        self.stderr.write(text + "\n")

    def error(self, error: LowmemError) -> None:
        """Print the ``error:`` line on stderr, and the ``hint:`` line where there is one."""
        self._say_with_hint("error:", _RED, error.message, error.hint)

    def warning(self, message: str, hint: str) -> None:
        """Print the ``warning:`` line on stderr, and the ``hint:`` line: of a result that is given all the same."""
        self._say_with_hint("warning:", _YELLOW, message, hint)

    def _say_with_hint(self, word: str, colour: str, message: str, hint: str) -> None:
        word = _coloured(word, colour, shows_more_than_text(self.stderr))
        self.say(labelled(word, message, hint))

    def text(self, text: str) -> None:
        """Print text that was asked for, as it is."""
        self.results.write(text)

    def json(self, result: Mapping[str, Any]) -> None:
        """Print a line of JSON on stdout."""
        self.results.write(json.dumps(decoded(result), allow_nan=False) + "\n")

    def fields(self, rows: Mapping[str, str]) -> None:
        """Print name and value, a line each, on stdout."""
        width = max(map(len, rows))
        self.results.write("".join(f"{name:<{width}}  {one_line(value)}\n" for name, value in rows.items()))

    def classification(self, result: Classification, plain: Classification | None) -> None:
        """Print the vector, the class, the index of the maximum; and how the plain model's compare."""
        width = len("plain logits" if plain else "logits")
        lines = [f"{'logits':<{width}}  {vector(result.logits)}"]
        if plain:
            lines += [
                f"plain logits  {vector(plain.logits)}",
                f"plain class   {plain.label}",
                f"plain by      {plain.by}",
                f"difference    {result.worst_difference(plain):.3f} at worst",
            ]
        label = _coloured(result.label, _GREEN, self.results.shows_more_than_text())
        lines += [f"{'class':<{width}}  {label}", f"{'index':<{width}}  {result.index}"]
        self.results.write("\n".join(lines) + "\n")


def _coloured(text: str, colour: str, possible: bool) -> str:
    return f"{colour}{text}{_NORMAL}" if possible and not os.environ.get("NO_COLOR") else text


def vector(values: Sequence[float]) -> str:
    """Write numbers in brackets, three digits after the point."""
    return "[" + " ".join(f"{value:.3f}" for value in values) + "]"


def print_written(
    request: Request,
    printer: Printer,
    what: str,
    path: Path,
    seconds: float,
    facts: Mapping[str, Any] | None = None,
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


def print_classification(
    request: Request,
    printer: Printer,
    picture: Path,
    result: Classification,
    plain: Classification | None,
    extra: Mapping[str, Any],
    several: bool,
) -> None:
    """Print the class of a picture; extra: more for programs; several: whether the picture is told by its name."""
    if not request.json:
        if several:
            printer.fields({"picture": str(picture)})
        printer.classification(result, plain)
        return
    line: dict[str, Any] = {"set": request.set_number}
    if several or request.command == "load_keys" or request.inputs:
        line["input"] = str(picture)
    line |= result.as_json()
    if plain:
        line["plain"] = plain.as_json() | {"worst_difference": result.worst_difference(plain)}
    printer.json(line | dict(extra))


def print_precision(printer: Printer, client: Client, checkpoints: Path, pixels: np.ndarray, identity: str) -> None:
    """Say how precise each layer of a picture was, by the checkpoints of its encryption."""
    from ..client.precision import inspect_checkpoints, table
    from ..model.plain import PlainNetwork

    layers = inspect_checkpoints(client, checkpoints, pixels, identity)
    printer.say(f"{table(layers)}\ncompared with the plain network by {PlainNetwork.library}")


def report_cost(
    printer: Printer,
    seconds: Mapping[str, float],
    peak_bytes: Mapping[str, int],
    evaluations: Sequence[float],
    amortised: float | None,
) -> None:
    """Say what a run took.

    seconds: by step;
    peak_bytes: by process;
    evaluations: seconds that the server spent on each job alone;
    amortised: seconds of evaluation a picture, where jobs are groups.
    """
    times = ", ".join(f"{step} {format_seconds(value)}" for step, value in seconds.items())
    if len(evaluations) > 1:
        what = "picture" if amortised is None else "group"
        times += f"; a {what} after the first {format_seconds(statistics.mean(evaluations[1:]))}"
    if amortised is not None:
        times += f"; {format_seconds(amortised)} of evaluation a picture"
    peaks = ", ".join(f"{who} {format_bytes(value)}" for who, value in peak_bytes.items())
    printer.say(f"time: {times}\npeak memory: {peaks}")
