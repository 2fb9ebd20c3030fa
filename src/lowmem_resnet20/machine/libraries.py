"""OpenFHE's version, and why it may not load: another Python, too old a glibc, another that the system finds first."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import EnvironmentFault

#: The Pythons that OpenFHE's wheels are for, and the oldest glibc of each.
_GLIBC = {"3.10": "2.35", "3.12": "2.38"}
_WHEELS = " or ".join(f"{python} (glibc {glibc} or newer)" for python, glibc in _GLIBC.items())
_ALONE = f"CPython {' and '.join(_GLIBC)} on x86-64 alone"


def openfhe_fault(error: ImportError) -> EnvironmentFault:
    """Return what a user is told where OpenFHE is not there or does not load: which Python to take, or what else to
    do."""
    python, machine = ".".join(platform.python_version_tuple()[:2]), platform.machine()
    if python not in _GLIBC or machine != "x86_64":
        return EnvironmentFault(
            f"this needs OpenFHE, which has wheels for {_ALONE}, and this is {python} on {machine}",
            f"take CPython {_WHEELS}; a server of native keys (evaluate, serve) does without OpenFHE",
        )
    return EnvironmentFault(f"OpenFHE cannot be loaded: {error}", loading_hint(os.environ))


def loading_hint(environment: Mapping[str, str]) -> str:
    """Return what to do about OpenFHE's failure to load."""
    for variable in ("LD_PRELOAD", "LD_LIBRARY_PATH"):
        for named in environment.get(variable, "").replace(" ", ":").split(":"):
            if named and _holds_openfhe(Path(named)):
                return f"{variable} names another OpenFHE, {named}, which is loaded instead: unset {variable}"
    return f"its wheels are for CPython {_WHEELS}: use one of them"


def _holds_openfhe(named: Path) -> bool:
    if named.is_dir():
        return os.access(named, os.R_OK) and any(named.glob("libOPENFHE*"))
    return named.name.startswith("libOPENFHE")


def openfhe_version() -> str:
    """Return OpenFHE's version, without loading it and without the part that says for which Python its wheel is.

    Errors: EnvironmentFault where it is not installed.
    """
    try:
        return ".".join(version("openfhe").split(".")[:3])
    except PackageNotFoundError as error:
        raise openfhe_fault(error) from error
