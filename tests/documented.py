"""The lines of a program that the package's own docstring shows, and the commands that a text shows."""

from __future__ import annotations

import re
from textwrap import dedent

import lowmem_resnet20


def documented() -> str:
    lines = (lowmem_resnet20.__doc__ or "").splitlines()
    return dedent("\n".join(line for line in lines if line.startswith("    ")))


def code_lines(text: str) -> list[str]:
    """Lines of code blocks: those set in by four columns after an empty line, or between fences; comments left out."""
    lines, inside, before = [], False, ""
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside or (line.startswith("    ") and (not before.strip() or before.startswith("    "))):
            lines.append(re.sub(r"\s+# .*", "", re.sub(r"^\s*(\w*\$ )?", "", line)))
        before = line
    return lines
