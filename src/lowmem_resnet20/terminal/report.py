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
from .words import PROGRAM

_GREEN, _RED, _YELLOW, _NORMAL = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"


@dataclass(frozen=True)
class Classification:
    """Logits, the index of the greatest, and its class."""

    logits: tuple[float, ...]
    index: int
    label: str

    @classmethod
    def of(cls, logits: Iterable[float]) -> Classification:
        """Errors: CiphertextError if a logit is not a finite number."""
        values = tuple(float(value) for value in logits)
        if not all(map(math.isfinite, values)):
            raise CiphertextError("the decrypted logits are not finite numbers", "was it made with other keys?")
        index = max(range(len(values)), key=values.__getitem__)
        return cls(values, index, CIFAR10_CLASSES[index])

    def as_json(self) -> dict[str, Any]:
        return {"class": self.label, "index": self.index, "logits": list(self.logits)}

    def worst_difference(self, other: Classification) -> float:
        """The greatest difference of two logits of the same class."""
        return max(abs(a - b) for a, b in zip(self.logits, other.logits, strict=True))


class Printer:
    """Writes to the two streams.  Colour only where a stream is a terminal and NO_COLOR is not set."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self.stdout = stdout
        self.stderr = stderr

    def say(self, text: str) -> None:
        """A line or more for the user, on stderr."""
        self.stderr.write(text + "\n")
        self.stderr.flush()

    def error(self, error: LowmemError) -> None:
        """The ``error:`` line on stderr, and the ``hint:`` line where there is one."""
        self._say_with_hint(self._coloured("error:", _RED, self.stderr), error.message, error.hint)

    def warning(self, message: str, hint: str) -> None:
        """The ``warning:`` line on stderr, and the ``hint:`` line: of a result that is given all the same."""
        self._say_with_hint(self._coloured("warning:", _YELLOW, self.stderr), message, hint)

    def _say_with_hint(self, kind: str, message: str, hint: str) -> None:
        self.say(f"{PROGRAM}: {kind} {one_line(message)}")
        if hint:
            self.say(f"hint: {one_line(hint)}")

    def json(self, result: Mapping[str, Any]) -> None:
        self.stdout.write(json.dumps(result, allow_nan=False) + "\n")

    def fields(self, rows: Mapping[str, str]) -> None:
        """Name and value, a line each, on stdout."""
        width = max(map(len, rows))
        for name, value in rows.items():
            self.stdout.write(f"{name:<{width}}  {one_line(value)}\n")

    def classification(self, result: Classification, plain: Classification | None) -> None:
        """The vector, the class, the index of the maximum; and how the plain model's compare."""
        width = len("plain logits" if plain else "logits")
        write = self.stdout.write
        write(f"{'logits':<{width}}  {vector(result.logits)}\n")
        if plain:
            write(f"plain logits  {vector(plain.logits)}\n")
            write(f"plain class   {plain.label}\n")
            write(f"difference    {result.worst_difference(plain):.3f} at worst\n")
        write(f"{'class':<{width}}  {self._coloured(result.label, _GREEN, self.stdout)}\n")
        write(f"{'index':<{width}}  {result.index}\n")

    @staticmethod
    def _coloured(text: str, colour: str, stream: TextIO) -> str:
        wanted = stream.isatty() and not os.environ.get("NO_COLOR")
        return f"{colour}{text}{_NORMAL}" if wanted else text


def vector(values: Sequence[float]) -> str:
    """Numbers in brackets, three digits after the point."""
    return "[" + " ".join(f"{value:.3f}" for value in values) + "]"


def one_line(text: str) -> str:
    """``text`` with whatever is not printable (line ends, terminal codes, undecodable bytes) written as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
