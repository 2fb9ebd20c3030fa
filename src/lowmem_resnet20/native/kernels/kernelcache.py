"""Compiled code on disk, a file for each function and types of arguments.

A file is run when it is loaded: so its folder is this user's alone.  It holds the digest of its content, and one that a
power cut or a full disk has left damaged counts as missing.  Files are renamed into place, so that processes may write
at once.  numba's own cache has none of this, and keeps what it cannot write elsewhere in the package's folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ...machine.cachehome import cache_home, make_private_folder

_DIGEST_BYTES = hashlib.sha256().digest_size


class KernelFolder:
    """The folder of this name in the user's cache.

    path: where it is, or would be; trouble: why what is compiled is not kept, or not all of it; empty while all is.
    """

    def __init__(self, name: str) -> None:
        self.path, self.trouble, self._descriptor = Path(name), "", -1
        try:
            self.path = cache_home() / name
            self._descriptor = make_private_folder(self.path)
        except OSError as error:
            self.trouble = f"compiled code cannot be kept in {error.filename}: {error.strerror}"

    def read(self, name: str) -> bytes | None:
        """A file's content; None if it is missing or damaged."""
        if self._descriptor < 0:
            return None
        try:
            with open(name, "rb", opener=self._open) as file:
                content = file.read()
        except OSError:
            return None
        payload = content[_DIGEST_BYTES:]
        return payload if content[:_DIGEST_BYTES] == hashlib.sha256(payload).digest() else None

    def write(self, name: str, payload: bytes) -> None:
        """Keep a file, if it can be."""
        if self._descriptor < 0:
            return
        temporary = f"{name}.{secrets.token_hex(6)}.partial"
        try:
            try:
                with open(temporary, "xb", opener=self._open) as file:
                    file.write(hashlib.sha256(payload).digest() + payload)
                os.replace(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=self._descriptor)
                raise
        except OSError as error:
            self.trouble = f"compiled code cannot be kept in {self.path}: {error.strerror}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process at a time; where there is no folder, or its file system knows no locks, any."""
        if self._descriptor < 0:
            yield
            return
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=self._descriptor)


class KeptKernel(_Cache):
    """What numba asks of the cache of one function."""

    def __init__(self, function: Any, folder: KernelFolder) -> None:
        self._function, self._folder = function, folder

    @property
    def cache_path(self) -> None:
        """None that numba should know of."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for these types of arguments; None if it is not kept, or cannot be used."""
        target_context.refresh()
        payload = self._folder.read(self._name(sig, target_context.codegen()))
        if payload is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # noqa: BLE001 - of another build of the same versions, such as of numpy: it is compiled anew
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not data.lifted and not data.library.has_dynamic_globals:  # which would hold addresses of this process
            self._folder.write(self._name(sig, data.codegen), dumps(data._reduce()))

    def enable(self) -> None:
        """It always is."""

    def disable(self) -> None:
        """It never is."""

    def flush(self) -> None:
        """Whoever compiles anew overwrites."""

    def _name(self, sig: Any, codegen: Any) -> str:
        function = self._function
        inside = tuple(cell.cell_contents for cell in function.__closure__ or ())
        given = (function.__module__, function.__qualname__, repr(sig), codegen.magic_tuple())
        digest = hashlib.sha256(repr(given).encode() + function.__code__.co_code + dumps(inside)).hexdigest()
        return f"{function.__module__.rpartition('.')[2]}.{function.__name__}-{digest[:32]}"
