"""What may be written to: a file of its own, never a device, and never what it is made of."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import UsageError
from .files import os_errors, written_file


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check, before any work, that each output can be written, and that none is an input under whatever name.

    Errors: UsageError for a device, a pipe, an input, and an output named twice; EnvironmentFault if one cannot be
    written.
    """
    read: dict[tuple[int, int] | None, Path] = {identity: path for path in inputs if (identity := _identity(path))}
    targets: dict[Path, Path] = {}
    for output in outputs:
        target = written_file(output)
        overwritten = read.get(_identity(target))
        if overwritten is not None:
            raise UsageError(f"output {output} would overwrite {overwritten}, which is read", "name another output")
        other = targets.setdefault(target.parent.resolve() / target.name, output)
        if other is not output:
            raise UsageError(f"{other} and {output} are the same output", "name another output")
        with os_errors("write", output):
            _check_folder(target.parent)


def files_in(*paths: Path) -> Iterator[Path]:
    """Return the files among ``paths``, and those in the folders among them, however deep."""
    for path in paths:
        if path.is_dir():
            yield from (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        else:
            yield path


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the same for every name of a file; None if it cannot be found."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _check_folder(folder: Path) -> None:
    os.stat(folder)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "", str(folder))
