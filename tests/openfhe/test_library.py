"""OpenFHE as it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os
os.sched_getaffinity = lambda _: set(range(6))
from pathlib import Path
from lowmem_resnet20.machine import controlgroups
controlgroups._groups = lambda controller: [(2, Path(os.environ["GROUP"]))]
import lowmem_resnet20.openfhe.library
[openmp] = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
print(ctypes.CDLL(openmp).omp_get_max_threads())
"""


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({}, 3), ({"LOWMEM_RESNET20_THREADS": "2"}, 2), ({"OMP_NUM_THREADS": "4", "LOWMEM_RESNET20_THREADS": "2"}, 4)],
)
def test_openfhe_has_the_threads_that_this_process_may_use(tmp_path, environment, threads):
    """Of six processors a control group grants two and a half."""
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {
        "GROUP": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{threads}\n", done.stderr
