"""What the words of a request name: the parameter set, keys, weights, ciphertexts and outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CiphertextError, UsageError
from ..machine.files import make_folder, os_errors
from ..machine.outputs import check_outputs, files_in
from ..server.request import Evaluation, Job
from .words import Request

if TYPE_CHECKING:
    from ..network.parameters import ParameterSet

#: What a key folder holds.
_SIDES = ("client", "server")


def parameter_set_of_keys(request: Request) -> ParameterSet:
    """Return the set that the client's keys are of, for the network that is named."""
    from ..files.keystore import CLIENT, keys_set
    from ..network.weights import weights_given

    architecture = weights_given(request.weights).architecture
    return keys_set(key_folder(request) / CLIENT, request.set_number, architecture)


def key_folder(request: Request) -> Path:
    """Return the folder of the keys: ``keys`` names the one in which expN lies; or, as one may think, expN itself."""
    name = f"exp{request.set_number}"
    within = request.keys / name
    if not within.exists() and (request.keys.name == name or any((request.keys / side).is_dir() for side in _SIDES)):
        return request.keys
    return within


def several_ciphertexts(request: Request) -> bool:
    """Return whether there may be several, so that each is told by its name: a folder counts, of one too."""
    return len(request.ciphertexts) > 1 or any(map(os.path.isdir, request.ciphertexts))


def into_folder(request: Request) -> bool:
    """Return whether the output names a folder: one that is there, or that a slash at the end says is to be made."""
    return request.into_folder or os.path.isdir(request.output)


def ciphertexts_named(request: Request) -> list[Path]:
    """Return the ciphertexts named, folders opened."""
    return [path for named in request.ciphertexts for path in _ciphertexts_in(named)]


def _ciphertexts_in(named: Path) -> list[Path]:
    """Return the ciphertexts in a folder, without hidden files; or the one that is named."""
    if not os.path.isdir(named):
        return [named]
    with os_errors("read", named):
        paths = sorted(path for path in named.iterdir() if path.suffix == ".ct" and not path.name.startswith("."))
    if not paths:
        raise CiphertextError(f"{named} has no ciphertext in it", "of a name that ends in .ct")
    return paths


def output_files(output: Path, names: list[str], several: bool) -> list[Path]:
    """Return where the results go: of one to ``output`` itself, of several into it as a folder, by these names."""
    if not several:
        return [output]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise UsageError(f"two files would be named {repeated}", "rename one, or give one at a time")
    make_folder(output)
    return [output / name for name in names]


def numbered(count: int) -> list[str]:
    """Return names of ciphertexts that say nothing of the pictures, with as many digits as the last needs, to sort."""
    return [f"{number:0{len(str(count))}d}.ct" for number in range(1, count + 1)]


def checkpoints_of(checkpoints: Path | None, ciphertext: Path, several: bool) -> Path | None:
    """Return where the checkpoints of the picture with this ciphertext are."""
    return checkpoints / ciphertext.name if checkpoints and several else checkpoints


def checkpoints_left(checkpoints: Path | None, result: Path) -> Path | None:
    """Return where :func:`checkpoints_of` put those of a result's picture, of which there may have been several."""
    own = checkpoints / result.name if checkpoints else None
    return own if own and own.is_dir() else checkpoints


def checkpoint_files(request: Request, jobs: Sequence[Job]) -> list[Path]:
    """Return the files that will be written where checkpoints are to be kept, into folders that are made if need be."""
    folders = [job.checkpoints for job in jobs if job.checkpoints] if request.checkpoints else []
    for folder in folders:
        make_folder(folder)
    if not folders:
        return []
    from ..network.resnet20 import plan

    return [folder / f"{name}.ct" for folder in folders for name in plan(parameter_set_of_keys(request)).values]


def check_request_outputs(request: Request, outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse outputs that would replace what is read, the keys included, or that cannot be written: before any work."""
    network = [path for path in (request.weights, request.card) if path]
    keys = [*request.keys.glob("exp[0-9]*"), *([key_folder(request)] if request.set_number else [])]
    check_outputs(outputs, files_in(*inputs, *network, *keys))


def evaluation(request: Request, jobs: Sequence[Job]) -> Evaluation:
    """Return what the server's process is asked to do."""
    return Evaluation(
        set_number=request.set_number,
        folder=key_folder(request),
        jobs=tuple(jobs),
        weights=request.weights,
        resume=request.resume,
        anyway=request.anyway,
        ray=request.ray,
    )
