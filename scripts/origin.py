"""Where a figure comes from: the state of the code and of the weights, the machine, the versions of what it runs on.

Two figures may stand in one table if all four are the same.  The code is that of the two parties' computation and of
their keys; texts, the command line's words and other ways in change no figure, so they may change between two of them.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import lowmem_resnet20
from lowmem_resnet20.machine.libraries import openfhe_version
from lowmem_resnet20.native.kernels.threads import available_processors
from lowmem_resnet20.network.weights import default_weights_path
from lowmem_resnet20.progress.display import format_bytes

PACKAGE = Path(lowmem_resnet20.__file__).parent
#: Folders of the package that figures depend on: of the network in the clear, of a refresh, of an evaluation.
IN_THE_CLEAR = ("network",)
OF_A_REFRESH = (*IN_THE_CLEAR, "openfhe", "native")
OF_AN_EVALUATION = (*OF_A_REFRESH, "client", "server")
#: Of a processor's flags in /proc/cpuinfo, those that kernels are compiled for.
VECTOR_FLAGS = ("fma", "avx2", "avx512f", "avx512dq", "avx512vl", "asimd")


@dataclass(frozen=True)
class Origin:
    """code, weights: digests; machine, versions: as they are printed."""

    code: str
    weights: str
    machine: str
    versions: str

    @classmethod
    def here(cls, parts: Sequence[str]) -> Origin:
        """parts: of the package, which the figures depend on."""
        weights = hashlib.sha256(default_weights_path().read_bytes()).hexdigest()[:16]
        return cls(code_digest(PACKAGE, parts), weights, machine(), versions())


def python_files(package: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield those of the package's folders that are named, in order."""
    for name in parts:
        yield from sorted((package / name).rglob("*.py"))


def code_digest(package: Path, parts: Sequence[str]) -> str:
    """Changes with any of the files, committed or not."""
    digest = hashlib.sha256()
    for path in python_files(package, parts):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def stamp() -> dict[str, str | bool]:
    """Commit, whether code or weights differ from it, and the time, of a figure that is taken now."""
    code = (PACKAGE / name for name in OF_AN_EVALUATION)
    changed = _git("status", "--porcelain", "--", *code, default_weights_path())
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    return {"commit": _git("rev-parse", "--short=10", "HEAD") or "unknown", "changed": bool(changed), "time": now}


def _git(*words: object) -> str:
    git = ("git", "-C", str(PACKAGE), *map(str, words))
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def machine(cpuinfo: Path = Path("/proc/cpuinfo"), meminfo: Path = Path("/proc/meminfo")) -> str:
    """Processor with family, model and vector instructions; cores that this process may use; memory."""
    facts: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = facts.get("flags", facts.get("Features", "")).split()
    vectors = ", ".join(flag for flag in VECTOR_FLAGS if flag in flags)
    numbers = ", ".join(
        f"{name} {facts[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in facts
    )
    name = facts.get("model name", platform.machine()) + (f" ({numbers})" if numbers else "")
    memory = int(meminfo.read_text().partition("MemTotal:")[2].split()[0]) * 1024
    return f"{name} with {vectors}; {available_processors()} cores, {format_bytes(memory)} of memory"


def versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy"))
    return f"OpenFHE {openfhe_version()}, {packages}, {platform.python_implementation()} {platform.python_version()}"
