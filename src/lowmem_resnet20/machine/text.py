"""Text for people and for JSON: on one line, and without bytes that are no letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import PROGRAM

#: Letters of an error that are shown: what a stranger's file calls its parts is in it, and may be as long as the file.
LONGEST_MESSAGE = 10_000


def labelled(label: str, message: str, hint: str) -> str:
    """Return what stderr has of an error or a warning: its line, and that of the hint where there is one."""
    message = message if len(message) <= LONGEST_MESSAGE else message[:LONGEST_MESSAGE] + " .."
    return f"{PROGRAM}: {label} {one_line(message)}" + (f"\nhint: {one_line(hint)}" if hint else "")


def one_line(text: str) -> str:
    """Write ``text`` with escapes for what is not printable: line ends, terminal codes, bytes of no letter."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in decoded(text))


def decoded(value: Any) -> Any:
    """Write the bytes of names in ``value`` that are not UTF-8 as ``\\xe9``: JSON has no other form for them that
    every reader takes."""
    if isinstance(value, str):
        text = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in value)
        return text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: decoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [decoded(item) for item in value]
    return value
