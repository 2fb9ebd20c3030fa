"""What the commands print: results on stdout, as words or as one line of JSON; all else on stderr."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ..errors import CiphertextError, LowmemError
from ..network.architecture import CIFAR10_CLASSES
from ..progress.streams import Results, reports, shows_more_than_text
from .words import PROGRAM

_GREEN, _RED, _YELLOW, _NORMAL = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"


@dataclass(frozen=True)
class Classification:
    """Logits, the index of the greatest, and its class.  by: the library that computed them in the clear."""

    logits: tuple[float, ...]
    index: int
    label: str
    by: str = ""

    @classmethod
    def of(cls, logits: Iterable[float], by: str = "") -> Classification:
        """Errors: CiphertextError if a logit is not a finite number."""
        values = tuple(float(value) for value in logits)
        if not all(map(math.isfinite, values)):
            raise CiphertextError("the decrypted logits are not finite numbers", "was it made with other keys?")
        index = max(range(len(values)), key=values.__getitem__)
        return cls(values, index, CIFAR10_CLASSES[index], by)

    def as_json(self) -> dict[str, Any]:
        by = {"by": self.by} if self.by else {}
        return {"class": self.label, "index": self.index, "logits": list(self.logits)} | by

    def worst_difference(self, other: Classification) -> float:
        """The greatest difference of two logits of the same class."""
        return max(abs(a - b) for a, b in zip(self.logits, other.logits, strict=True))


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
        self.say(f"{PROGRAM}: {word} {one_line(message)}" + (f"\nhint: {one_line(hint)}" if hint else ""))

    def text(self, text: str) -> None:
        """Text that was asked for, as it is."""
        self.results.write(text)

    def json(self, result: Mapping[str, Any]) -> None:
        self.results.write(json.dumps(_decoded(result), allow_nan=False) + "\n")

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


def one_line(text: str) -> str:
    """``text`` with whatever is not printable (line ends, terminal codes, bytes of no letter) written as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in _decoded(text))


def _decoded(value: Any) -> Any:
    """``value`` with the bytes of names that are not UTF-8 written as ``\\xe9``: JSON has no other form for them that
    every reader takes."""
    if isinstance(value, str):
        text = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in value)
        return text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: _decoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_decoded(item) for item in value]
    return value
