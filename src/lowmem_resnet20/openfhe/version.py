"""The version of OpenFHE that is installed, without loading it."""

from __future__ import annotations

from importlib.metadata import version


def openfhe_version() -> str:
    """The library's version, without the part that tells for which Python the wheel was built."""
    return ".".join(version("openfhe").split(".")[:3])
