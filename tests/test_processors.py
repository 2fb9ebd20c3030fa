"""Client and server on different processors: processes in which numpy's OpenBLAS takes the kernels of others.

OPENBLAS_CORETYPE names the processor; any with AVX2 runs what is named here.  The library's own word for what it took
is looked at in each process.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parties
from lowmem_resnet20.client.client import Named
from lowmem_resnet20.native.refresh import exponential
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.parameters import PARAMETER_SETS, PICTURE_LEVELS, ParameterSet, parameter_set
from lowmem_resnet20.network.relu import identity_fourier, relu_fourier, relu_series
from lowmem_resnet20.network.resnet20 import Network, NoObserver, computation, group_logits, pack_group
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.network.weights import Weights, default_weights_path, load_weights, save_weights
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server.request import Job
from miniature import INSECURE_LEAN_SET, INSECURE_NATIVE_SET, INSECURE_SET, NATIVE_NOISE, random_weights
from processes import WITHOUT_TORCH

TESTS = Path(__file__).parent
#: By OPENBLAS_CORETYPE, what the library may say that it took: some processors have another's kernels.
KERNELS = {
    "Haswell": {"Haswell"},
    "Zen": {"Zen", "Haswell"},
    "Sandybridge": {"Sandybridge"},
    "Prescott": {"Prescott", "Katmai"},
    "Nehalem": {"Nehalem"},
}
PICTURES = [np.linspace(0, 1, 3 * 16 * 16).reshape(3, 16, 16)[:, ::step] for step in (1, -1)]
#: The miniatures of the shipped sets, which are evaluated by OpenFHE and by each way of the native engine's.
SETS = {set_.number: set_ for set_ in (INSECURE_SET, INSECURE_LEAN_SET, INSECURE_NATIVE_SET)}
SETS[7] = replace(INSECURE_NATIVE_SET, number=7, refresh=parameter_set(7).refresh, pictures=8, most_copies=1)
#: By set, where the client is and where the server.
WHERE = {1: ("Haswell", "Prescott"), 5: ("Zen", "Nehalem"), 6: ("Sandybridge", "Haswell"), 7: ("Prescott", "Zen")}


# --- in a process of its own ------------------------------------------------------------------------------


def kernel() -> str:
    """What numpy's library says that it took."""
    [path] = Path(np.__file__).parents[1].glob("numpy.libs/lib*openblas*")
    library = ctypes.CDLL(str(path))
    for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_"):
        if hasattr(library, name):
            told = getattr(library, name)
            told.restype = ctypes.c_char_p
            return told().decode()
    raise AssertionError(f"{path} does not tell")


def described() -> dict[str, Any]:
    """Fingerprints and, to the last bit, coefficients; and a product that does depend on the kernels."""
    series: dict[str, tuple] = {"exponential": exponential.coefficients()}
    for fit, degrees in {relu_series: (59, 119, 200), relu_fourier: (13, 27, 31), identity_fourier: (5, 7)}.items():
        series |= {f"{fit.__name__} {degree}": fit(degree) for degree in degrees}
    matrix = np.random.default_rng(0).normal(size=(64, 1000))
    return {
        "computations": [computation(set_) for set_ in PARAMETER_SETS.values()],
        "keys": [set_.keys_fingerprint for set_ in PARAMETER_SETS.values()],
        "weights": load_weights(default_weights_path()).fingerprint,
        "series": {name: _bits(np.array(found)) for name, found in series.items()},
        "product": _bits(matrix @ matrix[0]),
    }


def _bits(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def encrypted(folder: str, number: int) -> list[str]:
    """The client: makes keys and encrypts; returns the pictures' ids."""
    set_, path = SETS[number], Path(folder)
    parties.generate_keys(set_, path / "exp")
    group = [Named(pixels, "picture") for pixels in PICTURES[: set_.pictures]]
    return parties.encrypt_group(path / "exp", set_, group, weights_in(path), path / "picture.ct")


def evaluated(folder: str, number: int) -> str:
    """The server; returns what is wrong."""
    path = Path(folder)
    jobs = [Job(path / "picture.ct", path / "result.ct")]
    [outcome] = parties.evaluate(path / "exp", SETS[number], jobs, weights_in(path), SilentProgress())
    return outcome.error.message if outcome.error else ""


def weights_in(folder: Path) -> Weights:
    """Of the file there: it is calibrated, on one machine."""
    return load_weights(folder / "weights")


def told_under(processor: str, function: Any, *arguments: Any, **environment: str) -> Any:
    """What a function of this module returns in a process for that processor, which does take its kernels."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    ours |= {"OPENBLAS_CORETYPE": processor, "PYTHONPATH": str(TESTS)} | environment
    code = f"import json, {__name__} as t; print(json.dumps([t.kernel(), t.{function.__name__}(*{arguments!r})]))"
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code], env=ours, text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr
    took, told = json.loads(run.stdout.splitlines()[-1])
    assert took in KERNELS[processor]
    return told


# --- the tests --------------------------------------------------------------------------------------------


def test_fingerprints_and_coefficients_are_the_same_on_every_processor():
    """Also where numpy's own functions and the system's take no vector instructions that a processor may lack; the
    product shows that the kernels do differ."""
    found = {processor: told_under(processor, described) for processor in KERNELS}
    products = {each.pop("product") for each in found.values()}
    assert len(products) > 1
    old = {"NPY_DISABLE_CPU_FEATURES": vector_instructions(), "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4"}
    plain = told_under("Prescott", described, **old)
    del plain["product"]
    for each in (*found.values(), plain):
        assert each == found["Haswell"]


def vector_instructions() -> str:
    """Those that numpy uses where a processor has them."""
    extensions = np.show_config("dicts")["SIMD Extensions"]["found"]
    assert extensions
    return " ".join(extensions)


def in_the_clear(set_: ParameterSet, weights: Weights) -> np.ndarray:
    """(pictures, classes) without encryption."""
    slots = pack_group(set_, [weights.normalise(pixels) for pixels in PICTURES[: set_.pictures]])
    network = Network(set_, scale(weights, set_.refresh), ClearEvaluator(set_), NoObserver())
    return group_logits(set_, network.run(*(Clear(part, PICTURE_LEVELS) for part in slots)).values)


@pytest.mark.parametrize("number", WHERE)
def test_client_and_server_of_different_processors_finish_a_picture(number, tmp_path):
    """Decrypted in this process, by the kernels of this machine."""
    set_, (clients, servers) = SETS[number], WHERE[number]
    assert KERNELS[clients] != KERNELS[servers]
    save_weights(tmp_path / "weights", random_weights())
    weights = weights_in(tmp_path)
    ids = told_under(clients, encrypted, str(tmp_path), number)
    assert told_under(servers, evaluated, str(tmp_path), number) == ""
    for place, (identity, expected) in enumerate(zip(ids, in_the_clear(set_, weights), strict=False)):
        found = parties.decrypt_logits(tmp_path / "exp", set_, tmp_path / "result.ct", weights, identity)
        assert np.abs(found - expected).max() < (NATIVE_NOISE if set_.engine == "native" else 1e-2), place
