"""The lines of a program that the package's own docstring shows."""

from __future__ import annotations

from textwrap import dedent

import lowmem_resnet20


def documented() -> str:
    lines = (lowmem_resnet20.__doc__ or "").splitlines()
    return dedent("\n".join(line for line in lines if line.startswith("    ")))
