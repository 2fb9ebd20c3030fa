"""A Ray cluster of this machine alone, whose nodes stand for machines, and runs of the miniature on it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parties
from lowmem_resnet20.native.kernels.compilation import KEPT
from lowmem_resnet20.native.readiness import make_ready
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.progress.display import Progress, SilentProgress
from lowmem_resnet20.server import process as serverprocess
from lowmem_resnet20.server.request import Evaluation, Job
from miniature import INSECURE_SHORT_NATIVE_SET, random_picture, random_weights

TESTS = Path(__file__).parent
SET = INSECURE_SHORT_NATIVE_SET
WEIGHTS = random_weights(SET.architecture)

#: The server's process, but for the set, which is the miniature's here.
SERVE = """
import runpy
import miniature
from lowmem_resnet20.network import parameters
set_ = miniature.INSECURE_SHORT_NATIVE_SET
parameters.PARAMETER_SETS[set_.number, set_.engine] = set_
{more}
runpy.run_module("lowmem_resnet20.{module}", run_name="__main__")
"""


@dataclass(frozen=True)
class Kept:
    """Keys in folder/exp6, encrypted pictures 0.ct ... with their ids, and weights."""

    folder: Path
    ids: list[str]

    @property
    def keys(self) -> Path:
        return self.folder / "exp6"

    def jobs(self, folder: Path, numbers: range | list[int]) -> tuple[Job, ...]:
        return tuple(Job(self.folder / f"{i}.ct", folder / f"{i}.ct") for i in numbers)

    def logits(self, path: Path, picture: int) -> np.ndarray:
        return parties.decrypt_logits(self.keys, SET, path, WEIGHTS, self.ids[picture])


def pictures(count: int) -> list[np.ndarray]:
    return [random_picture(SET.architecture, np.random.default_rng(seed)) for seed in range(count)]


def keep(folder: Path, count: int) -> Kept:
    """Keys, weights and so many encrypted pictures."""
    kept = Kept(folder, [])
    parties.generate_keys(SET, kept.keys)
    save_weights(folder / "weights", WEIGHTS)
    for i, pixels in enumerate(pictures(count)):
        kept.ids.append(parties.encrypt_picture(kept.keys, SET, pixels, WEIGHTS, folder / f"{i}.ct", f"{i}.png"))
    return kept


def keep_compiled(cache: Path) -> None:
    """Put this machine's compiled kernels into a user's cache folder, so that they need not be compiled again."""
    make_ready(lambda: None)
    if not KEPT.trouble:
        shutil.copytree(KEPT.path, cache / "lowmem-resnet20" / KEPT.path.name, dirs_exist_ok=True)


@contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[Any]:
    """Nodes of one processor each, which keep keys in folder/0 ... .  None is left at the end."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        for number in range(nodes):
            own = {"XDG_CACHE_HOME": str(folder / str(number))}
            keep_compiled(folder / str(number))
            made.add_node(
                num_cpus=1,
                env_vars=own,
                node_ip_address=f"127.0.0.{number + 2}",
                include_dashboard=False,
                object_store_memory=80 << 20,
            )
        yield made
    finally:
        made.shutdown()


@contextmanager
def server_program(more: str = "") -> Iterator[None]:
    """Inside this context the server's process knows the miniature's sets, and runs these lines first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)

        def command(module: str) -> list[str]:
            return [sys.executable, "-c", SERVE.format(more=more, module=module)]

        patch.setattr(serverprocess.child, "command", command)
        yield


def request(kept: Kept, jobs: tuple[Job, ...], address: str, **words: Any) -> Evaluation:
    return Evaluation(SET.number, kept.keys, jobs, kept.folder / "weights", ray=address, **words)


def run(asked: Evaluation, progress: Progress | None = None, more: str = "") -> serverprocess.ServerRun:
    """As the command line runs it."""
    with server_program(more), progress or SilentProgress() as shown:
        return serverprocess.run_server(asked, shown, sys.stderr)


def processes(title: str) -> set[int]:
    """Those that call themselves so, such as ray::Worker.evaluate, and descend from this one, or have its token: one
    whose parent has ended is another's child."""
    parents, found = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(title.encode()):
                found.add(int(folder.name))
        except (OSError, ValueError):
            continue

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    def has_token(pid: int) -> bool:
        try:
            return os.environb[b"RAY_AUTH_TOKEN"] in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    return {pid for pid in found - {os.getpid()} if is_ours(pid) or has_token(pid)}


def kill_one(title: str, seconds: float = 600) -> int:
    """Wait for a process of that title, let it work for a moment, and kill it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for pid in processes(title):
            time.sleep(0.2)
            if pid in processes(title):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no process is called {title}")
