"""Why OpenFHE may not load: another Python, too old a glibc, or another OpenFHE that the system finds first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

_WHEELS = "its wheels are for CPython 3.10 (glibc 2.35 or newer) and 3.12 (glibc 2.38 or newer): use one of them"


def loading_hint(environment: Mapping[str, str]) -> str:
    """Return what to do about OpenFHE's failure to load."""
    for variable in ("LD_PRELOAD", "LD_LIBRARY_PATH"):
        for named in environment.get(variable, "").replace(" ", ":").split(":"):
            if named and _holds_openfhe(Path(named)):
                return f"{variable} names another OpenFHE, {named}, which is loaded instead: unset {variable}"
    return _WHEELS


def _holds_openfhe(named: Path) -> bool:
    if named.is_dir():
        return os.access(named, os.R_OK) and any(named.glob("libOPENFHE*"))
    return named.name.startswith("libOPENFHE")


def openfhe_version() -> str:
    """Return OpenFHE's version, without loading it and without the part that says for which Python its wheel is."""
    return ".".join(version("openfhe").split(".")[:3])
