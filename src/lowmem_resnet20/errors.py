"""Every error this program raises on purpose, with the exit code the command line gives it.

An error's message fits on one line; ``hint`` says what to do about it.  The command line prints
``lowmem-resnet20: error: MESSAGE`` and ``hint: HINT`` on stderr and exits with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

PROGRAM = "lowmem-resnet20"


class ExitCode(IntEnum):
    """Documented in USAGE.md; never renumbered."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PICTURE = 3
    KEYS = 4
    WEIGHTS = 5
    CIPHERTEXT = 6
    ENVIRONMENT = 7
    SERVER = 8
    INTERRUPTED = 130


def on_one_line(error: Exception) -> str:
    """A library's message, however many lines it has."""
    return " ".join(str(error).split())


class LowmemError(Exception):
    """Root of the tree: ``message`` for the user, ``hint`` for the way out (may be empty)."""

    exit_code = ExitCode.FAILURE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message  # which may have been altered since, by with_names


class UsageError(LowmemError):
    """The words on the command line do not fit together."""

    exit_code = ExitCode.USAGE


class PictureError(LowmemError):
    """The picture cannot be read, or is not what the network takes."""

    exit_code = ExitCode.PICTURE


class KeyFolderError(LowmemError):
    """A key folder is missing, incomplete, altered, of another set or of another OpenFHE version."""

    exit_code = ExitCode.KEYS


class WeightsError(LowmemError):
    """A weight file is missing, or does not hold this network's parameters."""

    exit_code = ExitCode.WEIGHTS


class CiphertextError(LowmemError):
    """A ciphertext file is missing, unreadable, or does not belong to the keys at hand."""

    exit_code = ExitCode.CIPHERTEXT


class EnvironmentFault(LowmemError):
    """The machine lacks something: a package, the right Python, disk space, permission, memory."""

    exit_code = ExitCode.ENVIRONMENT


class ServerError(LowmemError):
    """The server process ended without a result."""

    exit_code = ExitCode.SERVER


class ArchitectureError(LowmemError):
    """A network description that cannot be packed."""


class PlanError(LowmemError):
    """Parameters that cannot evaluate the network: too few levels, or a missing rotation key."""


class Reported(LowmemError):
    """What went wrong has been said on stderr; only the exit code is passed on."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(f"ended with exit code {code.value} ({code.name.lower()})")
        self.exit_code = code


def told(error: LowmemError) -> dict[str, Any]:
    """An error for another process, as JSON: :func:`error_of` makes it again."""
    return {"error": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}


def error_of(line: Mapping[str, Any]) -> LowmemError:
    """Return the error that :func:`told` told of: of the kind that its exit code stands for."""
    code, message, hint = line["exit_code"], line["error"], line["hint"]
    kinds = (UsageError, PictureError, KeyFolderError, WeightsError, CiphertextError, EnvironmentFault, ServerError)
    kind = next((kind for kind in kinds if kind.exit_code == code), LowmemError)
    return kind(message, hint)


def raise_told(line: Mapping[str, Any]) -> None:
    """Raise the error that a line tells of, if it does."""
    if "error" in line:
        raise error_of(line)


def with_names(error: LowmemError, names: Mapping[Path, str]) -> LowmemError:
    """The error, in which files are called from now on as its reader knows them."""
    for path, name in names.items():
        error.message, error.hint = error.message.replace(str(path), name), error.hint.replace(str(path), name)
    return error


@contextmanager
def naming(names: Mapping[Path, str]) -> Iterator[None]:
    """Errors inside this context call files as their reader knows them (see :func:`with_names`)."""
    try:
        yield
    except LowmemError as error:
        with_names(error, names)
        raise
