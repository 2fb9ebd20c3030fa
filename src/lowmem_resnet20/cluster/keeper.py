"""A process on each machine of the cluster that sees to its keys: it finds them there, or receives them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import KeyFolderError, LowmemError, told
from ..files.keystore import MANIFEST, open_folder
from ..machine.files import new_folder, os_errors
from ..network.parameters import ParameterSet
from .keycache import KeyCache, cache_folder, remove_unless_held


class Keeper:
    """Finds or receives one folder of keys.

    set_: that the keys are of;
    manifest: the content of their manifest, which names every file by its digest.

    What it answers is JSON: ``{"folder": path}`` once there are keys, ``{}``, or an error.
    """

    def __init__(self, set_: ParameterSet, manifest: bytes) -> None:
        self.set, self.manifest = set_, manifest
        self._receiving = ExitStack()
        self._cache: KeyCache | None = None
        self._part = Path()

    def find(self, shared: str) -> dict[str, Any]:
        """Find a folder of this machine with these keys, every byte checked: ``shared``, which has them where the run
        was started, if it is here too; or one that was sent earlier."""
        if self._is_whole(Path(shared)):
            return {"folder": shared}
        try:
            self._cache = KeyCache(cache_folder())
        except LowmemError as error:
            return told(error)
        kept = self._cache.folder(self.manifest)
        if self._cache.hold(kept) and self._is_whole(kept):
            return {"folder": str(kept)}
        self._cache.release()
        return {}

    def begin(self, total_bytes: int) -> dict[str, Any]:
        """Make room for keys that will be sent."""
        assert self._cache is not None
        target = self._cache.folder(self.manifest)
        try:
            remove_unless_held(target)  # it is damaged, or it would have been found
            self._cache.make_room(total_bytes)
            self._part = self._receiving.enter_context(new_folder(target))
        except LowmemError as error:
            return told(error)
        return {}

    def receive(self, name: str, data: bytes) -> dict[str, Any]:
        """Write the next bytes of a file of the manifest."""
        try:
            with os_errors("write", self._part / name), open(self._part / name, "ab") as file:
                file.write(data)
        except LowmemError as error:
            return self._give_up(error)
        return {}

    def finish(self) -> dict[str, Any]:
        """Check every byte of what was sent; the folder is then where others find it."""
        assert self._cache is not None
        target = self._cache.folder(self.manifest)
        try:
            with os_errors("write", self._part):
                (self._part / MANIFEST).write_bytes(self.manifest)
            open_folder(self._part, self.set)
            try:
                self._receiving.close()
            except KeyFolderError:  # another run has sent them meanwhile
                open_folder(target, self.set)
        except LowmemError as error:
            return self._give_up(error)
        self._cache.hold(target)
        return {"folder": str(target)}

    def _is_whole(self, folder: Path) -> bool:
        """Return whether it holds the very keys that the manifest names."""
        try:
            with os_errors("read", folder), open(folder / MANIFEST, "rb") as file:
                if file.read(len(self.manifest) + 1) != self.manifest:
                    return False
            open_folder(folder, self.set)
        except LowmemError:
            return False
        return True

    def _give_up(self, error: LowmemError) -> dict[str, Any]:
        """Remove what was received."""
        self._receiving.__exit__(type(error), error, error.__traceback__)
        return told(error)
