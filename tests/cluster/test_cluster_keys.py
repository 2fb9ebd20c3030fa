"""Keys on their way to the machines of a cluster: with Ray's calls replaced, and no process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lowmem_resnet20.cluster.keys import _PIECES_AHEAD, Keys
from lowmem_resnet20.cluster.nodes import Node
from lowmem_resnet20.errors import EnvironmentFault, told
from lowmem_resnet20.files.keystore import FileRecord, Manifest
from lowmem_resnet20.progress.display import SilentProgress
from miniature import INSECURE_SHORT_NATIVE_SET as SET

ray = pytest.importorskip("ray")
FULL = told(EnvironmentFault("no room"))


class Keeper:
    """Stands for a keeper on some machine: a call is its name, until it is waited for."""

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *_: name)


@pytest.mark.parametrize(
    ("answers", "sent"), [({"begin": FULL}, 0), ({"begin": {}, "receive": FULL}, _PIECES_AHEAD + 1)]
)
def test_when_every_machine_has_dropped_out_no_more_is_sent(tmp_path: Path, monkeypatch, answers, sent):
    names, pieces = [f"{number}.key" for number in range(10)], []
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    records = {name: FileRecord(5, "") for name in names}
    keys = Keys(tmp_path, SET, Manifest(SET.number, SET.keys_fingerprint, "", "", records), b"")
    started = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: Keeper()))
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: started)
    monkeypatch.setattr(ray, "get", lambda ref: {"find": {}, **answers}[ref])
    monkeypatch.setattr(ray, "put", pieces.append)
    with pytest.raises(EnvironmentFault, match=r"^node-a of the cluster: no room$"):
        keys.see_to([Node("a" * 56, "node-a", 1, 1)], SilentProgress())
    assert pieces == [name.encode() for name in names[:sent]]
