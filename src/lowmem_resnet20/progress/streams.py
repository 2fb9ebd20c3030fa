"""The standard streams, which may be closed, full, or of an encoding that lacks a letter: none of it fails a run.

Reports (stderr) may get lost.  A result (stdout) may not: one that cannot be written goes to stderr, and the exit code
says so at the end.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TextIO, cast

from ..errors import EnvironmentFault
from ..machine.files import os_fault


def occupy_closed_descriptors() -> None:
    """Have nothing that is opened later become standard input, output or error, where one of them is closed.

    OpenFHE's complaints would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def shows_more_than_text(stream: TextIO) -> bool:
    """Return whether a stream takes colour and lines that change: a terminal, and not one without such abilities."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def reports(stream: TextIO | None) -> TextIO:
    """Return what writes to ``stream`` as long as that can be written to, and never fails.  None: it is closed."""
    return cast(TextIO, stream if isinstance(stream, _Reports) else _Reports(stream))


class Results:
    """Writes results to ``stream`` at once; from the first failure on to ``instead``.

    A reader that went away raises BrokenPipeError: nobody needs the rest.
    """

    def __init__(self, stream: TextIO | None, instead: TextIO) -> None:
        self._stream, self._instead = stream, instead
        self._fault: EnvironmentFault | None = None

    def write(self, text: str) -> None:
        if self._fault is None:
            self._try(text)
        if self._fault is not None:
            self._instead.write(text)

    def shows_more_than_text(self) -> bool:
        return self._stream is not None and shows_more_than_text(self._stream)

    def finish(self) -> None:
        """Raise EnvironmentFault if a result could not be written."""
        if self._fault is not None:
            raise self._fault

    def let_go(self) -> None:
        """Write nothing any more, at the interpreter's end neither."""
        _let_go(self._stream)

    def _try(self, text: str) -> None:
        try:
            if self._stream is None:
                raise ValueError("standard output is closed")
            self._stream.write(_encodable(text, self._stream))
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._fault = os_fault(error, "write", "the result")
            self.let_go()
        except ValueError as error:  # closed
            self._fault = EnvironmentFault(f"cannot write the result: {error}", "send it to a file, or to /dev/null")


class _Reports(io.TextIOBase):
    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(_encodable(text, self._stream))
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: it has been closed
                _let_go(self._stream)
                self._stream = None
        return len(text)

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        with suppress(AttributeError, ValueError):
            if self._stream is not None:
                return self._stream.fileno()
        raise io.UnsupportedOperation("fileno")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"


def _encodable(text: str, stream: TextIO) -> str:
    """Write ``text`` with an escape for each letter that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None)
    return text.encode(encoding, "backslashreplace").decode(encoding) if encoding else text


def _let_go(stream: TextIO | None) -> None:
    """Send what is still buffered nowhere, or the interpreter would fail on it again as it exits."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
