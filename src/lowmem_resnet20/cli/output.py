"""What the commands print: results on stdout, as words or as one line of JSON; all else on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from ..errors import LowmemError
from ..machine.text import decoded, labelled, one_line
from ..model.classification import Classification
from ..progress.streams import Results, reports, shows_more_than_text

_GREEN, _RED, _YELLOW, _NORMAL = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"


class Printer:
    """Writes to the two streams.  Colour only where a stream is a terminal with colours and NO_COLOR is not set.

    stdout, stderr: None where it is closed.
    """

    def __init__(self, stdout: TextIO | None, stderr: TextIO | None) -> None:
        self.stderr = reports(stderr)
        self.results = Results(stdout, self.stderr)

    def say(self, text: str) -> None:
        """A line or more for the user, on stderr."""
        self.stderr.write(text + "\n")

    def error(self, error: LowmemError) -> None:
        """The ``error:`` line on stderr, and the ``hint:`` line where there is one."""
        self._say_with_hint("error:", _RED, error.message, error.hint)

    def warning(self, message: str, hint: str) -> None:
        """The ``warning:`` line on stderr, and the ``hint:`` line: of a result that is given all the same."""
        self._say_with_hint("warning:", _YELLOW, message, hint)

    def _say_with_hint(self, word: str, colour: str, message: str, hint: str) -> None:
        word = _coloured(word, colour, shows_more_than_text(self.stderr))
        self.say(labelled(word, message, hint))

    def text(self, text: str) -> None:
        """Text that was asked for, as it is."""
        self.results.write(text)

    def json(self, result: Mapping[str, Any]) -> None:
        self.results.write(json.dumps(decoded(result), allow_nan=False) + "\n")

    def fields(self, rows: Mapping[str, str]) -> None:
        """Name and value, a line each, on stdout."""
        width = max(map(len, rows))
        self.results.write("".join(f"{name:<{width}}  {one_line(value)}\n" for name, value in rows.items()))

    def classification(self, result: Classification, plain: Classification | None) -> None:
        """The vector, the class, the index of the maximum; and how the plain model's compare."""
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
    """Numbers in brackets, three digits after the point."""
    return "[" + " ".join(f"{value:.3f}" for value in values) + "]"
