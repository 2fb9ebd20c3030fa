"""Sees to it that every machine of the cluster has the keys: they are sent to all that have not, together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault, LowmemError, on_one_line, raise_told
from ..files.keystore import MANIFEST, Manifest, check_coverage, read_manifest
from ..machine.files import os_errors
from ..network.parameters import ParameterSet
from ..progress.display import Progress
from .keeper import Keeper
from .nodes import Node

_PIECE_BYTES = 16 << 20
#: Pieces that are on their way while the next is read.
_PIECES_AHEAD = 3


@dataclass
class Keys:
    """A server's key folder here, and the processes that keep a copy on other machines."""

    folder: Path
    set: ParameterSet
    manifest: Manifest
    text: bytes
    _keepers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, set_: ParameterSet) -> Keys:
        """Read the manifest.  Errors: KeyFolderError for keys of another set, or too few; EnvironmentFault."""
        manifest = read_manifest(folder, set_)
        check_coverage(folder, manifest, set_)
        with os_errors("read", folder / MANIFEST):
            return cls(folder, set_, manifest, (folder / MANIFEST).read_bytes())

    @property
    def shared(self) -> str:
        """Return where the machines have them too, if the folder is one that they share."""
        return str(self.folder.absolute())

    def see_to(self, nodes: Sequence[Node], progress: Progress) -> dict[str, str]:
        """Return the folder with the keys on each machine, by its id; one that cannot have any is told of, left out.

        Errors: of the last machine that is left out, if it leaves none.
        """
        import ray

        keeper = ray.remote(num_cpus=0, max_restarts=0)(Keeper)
        self._keepers = {n.id: keeper.options(**n.options()).remote(self.set, self.text) for n in nodes}
        progress.step("keys", "checking")
        asking = _Asking({node.id: node.name for node in nodes}, progress)
        found = asking.all({id_: k.find.remote(self.shared) for id_, k in self._keepers.items()})
        folders = {id_: answer["folder"] for id_, answer in found.items() if answer}
        if lacking := [id_ for id_, answer in found.items() if not answer]:
            progress.step("keys", f"sending to {len(lacking)} of {len(nodes)} machines")
            folders |= {id_: answer["folder"] for id_, answer in self._send(lacking, asking).items()}
        if not folders:
            raise asking.failure
        return folders

    def let_go(self) -> None:
        """End what keeps the keys; the folders stay."""
        import ray

        for keeper in self._keepers.values():
            ray.kill(keeper)

    def _send(self, lacking: Sequence[str], asking: _Asking) -> dict[str, dict[str, Any]]:
        """Send every file of the manifest, the same pieces to all; machines that fail on the way drop out."""
        import ray

        total_bytes = sum(record.bytes for record in self.manifest.files.values())
        left = asking.all({id_: self._keepers[id_].begin.remote(total_bytes) for id_ in lacking})
        under_way: deque[dict[str, Any]] = deque()
        for name, data in self._pieces():
            if not left:
                break
            piece = ray.put(data)
            under_way.append({id_: self._keepers[id_].receive.remote(name, piece) for id_ in left})
            if len(under_way) > _PIECES_AHEAD:
                arrived = asking.all(under_way.popleft())
                left = {id_: answer for id_, answer in left.items() if id_ in arrived}
        while under_way:
            arrived = asking.all(under_way.popleft())
            left = {id_: answer for id_, answer in left.items() if id_ in arrived}
        return asking.all({id_: self._keepers[id_].finish.remote() for id_ in left})

    def _pieces(self) -> Iterator[tuple[str, bytes]]:
        for name in self.manifest.files:
            with os_errors("read", self.folder / name), open(self.folder / name, "rb") as file:
                data = file.read(_PIECE_BYTES)
                while True:  # an empty file is a piece too
                    yield name, data
                    data = file.read(_PIECE_BYTES)
                    if not data:
                        break


@dataclass
class _Asking:
    """Hears machines out; what one says in error is told, and it is not heard of again.

    names: of the machines, by id.
    """

    names: dict[str, str]
    progress: Progress
    failure: LowmemError = field(default_factory=lambda: EnvironmentFault("no machine of the cluster has the keys"))

    def all(self, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the answers of those that did not fail, by id."""
        import ray

        answers = {}
        for id_, ref in asked.items():
            try:
                answers[id_] = ray.get(ref)
                raise_told(answers[id_])
            except (ray.exceptions.RayError, LowmemError) as error:
                answers.pop(id_, None)
                self._tell(id_, error)
        return answers

    def _tell(self, id_: str, error: Exception) -> None:
        if id_ in self.names:
            known = error if isinstance(error, LowmemError) else EnvironmentFault(on_one_line(error))
            name = self.names.pop(id_)
            self.failure = type(known)(f"{name} of the cluster: {known.message}", known.hint)
            self.progress.message(self.failure.message)
