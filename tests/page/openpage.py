"""The word ``page`` with the miniature, in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import parties
from lowmem_resnet20.machine import child
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.page.layers import steps_of
from miniature import INSECURE_SHORT_NATIVE_SET, random_weights
from processes import WITHOUT_TORCH

TESTS = Path(__file__).parents[1]
ARCHITECTURE = INSECURE_SHORT_NATIVE_SET.architecture
WEIGHTS = random_weights(ARCHITECTURE)
WIDTH = ARCHITECTURE.width
#: By number, as users name them; set 7 takes two pictures together.
SETS = {6: INSECURE_SHORT_NATIVE_SET, 7: replace(INSECURE_SHORT_NATIVE_SET, number=7, pictures=2)}
#: Of the network, as the page shows them.
STEPS = len(steps_of(SETS[6]))
_WORKER = f"""
{WITHOUT_TORCH}
import openpage
from lowmem_resnet20.server.worker import main
openpage.install()
sys.exit(main())
"""
PROGRAM = f"""
{WITHOUT_TORCH}
import openpage
from lowmem_resnet20.cli.main import main
openpage.install()
openpage.install_worker()
sys.exit(main())
"""


def install() -> None:
    """Have the numbers above name the miniature's sets in this process."""
    for set_ in SETS.values():
        parameters.PARAMETER_SETS[set_.number, set_.engine] = set_


def install_worker() -> None:
    """Have server processes know them too."""
    command = child.command
    child.command = lambda module, *words: (
        [sys.executable, "-c", _WORKER] if module == "server.worker" else command(module, *words)
    )


def make_keys(folder: Path, set_: ParameterSet, passphrase: str | None = None) -> None:
    """In folder/expN, and the weights beside them."""
    parties.generate_keys(set_, folder / f"exp{set_.number}", passphrase)
    save_weights(folder / "weights", WEIGHTS)


def png_of(pixels: np.ndarray) -> bytes:
    """A file of pixels (3, width, width) in [0, 1], rounded to bytes."""
    file = BytesIO()
    Image.fromarray(np.rint(255 * pixels).astype(np.uint8).transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Program:
    """address: as it was printed; process: to be asked how it ended."""

    address: str
    process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        return self.address.partition("/#")[0]

    @property
    def ticket(self) -> str:
        return self.address.partition("#")[2]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(TESTS), str(TESTS / "page")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LOWMEM_RESNET20_THREADS": "1"}


@contextmanager
def open_page(folder: Path, number: int, *words: str, weights: bool = True) -> Iterator[Program]:
    """Started with the keys in ``folder``, and the weights there; killed at the end if it still runs."""
    given = ["page", str(number), "keys", str(folder), *words]
    given += ["weights", str(folder / "weights")] if weights else []
    command = [sys.executable, "-c", PROGRAM, *given]
    process = subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        while said.startswith(("the network", "network", "classes", "weights")):
            said = process.stderr.readline()
        found = re.fullmatch(r"page  (http://127\.0\.0\.1:\d+/#[\w-]{43})\n", said)
        assert found, said + process.stderr.read()
        yield Program(found[1], process)
    finally:
        process.kill()
        process.wait()
