"""The weight file: a network's description, its folded parameters and what calibration found, all of it checked.

A safetensors file (no pickle) whose metadata says ``format: lowmem-resnet20 3`` and, each in JSON, ``network`` (its
architecture), ``classes`` (their names), ``name``, ``epsilon`` (of the batch norms that were folded, or null),
``mean``, ``std`` and ``largest_logit``, the largest absolute value of a logit in calibration.  Tensors are float32: the
parameters by the names of :meth:`.Architecture.parameter_shapes`, and for each ReLU ``<name>.bound``, (channels,), the
largest absolute value its input took in calibration.

Files of format 2 say less, and hold the ResNet-20 that tells CIFAR-10's classes apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as to_safetensors

from ..errors import ArchitectureError, WeightsError, on_one_line
from ..machine.files import atomic_write, read_bounded
from .architecture import CIFAR10_CLASSES, RESNET20
from .card import Card, Described, check_described, described
from .fingerprint import fingerprint

FORMAT = "lowmem-resnet20 3"
#: Without a description; and before, without the largest logit.
_UNDESCRIBED_FORMAT, _FORMER_FORMAT = "lowmem-resnet20 2", "lowmem-resnet20 1"
FILE_NAME = "resnet20_cifar10.safetensors"
_LARGEST_BYTES = 1 << 27
_BOUND = ".bound"
_AGAIN = "make it again from its source with: import_weights SOURCE OUT pictures PATH"


@dataclass(frozen=True)
class Weights(Described):
    """A network with batch norm folded.

    parameters: by name, in PyTorch's layout, float32;
    bounds: (channels,) by ReLU, of the inputs of each on the pictures it was calibrated on;
    epsilon: of the batch norms that were folded, where that is known.
    """

    parameters: Mapping[str, np.ndarray]
    bounds: Mapping[str, np.ndarray]
    epsilon: float | None = None

    @cached_property
    def card(self) -> Card:
        """What a client needs of it: no weight."""
        shown = (self.architecture, self.classes, self.mean, self.std, self.largest_logit, self.name)
        return Card(*shown, self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when any number of the weights changes, and not with names."""
        return fingerprint(
            {
                "network": self.architecture.choices,
                "mean": self.mean,
                "std": self.std,
                "largest logit": self.largest_logit,
                "parameters": {name: _digest(array) for name, array in self.parameters.items()},
                "bounds": {name: _digest(array) for name, array in self.bounds.items()},
            }
        )


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()


def default_weights_path() -> Path:
    """Return the path of the weights of the installed package, or of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "weights" / FILE_NAME
    return installed if installed.exists() else package.parents[1] / "weights" / FILE_NAME


def save_weights(path: Path, weights: Weights) -> None:
    """Write whole or not at all.  Errors: WeightsError if they are not complete; EnvironmentFault."""
    check_weights(weights, str(path))
    tensors = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in weights.parameters.items()}
    tensors |= {name + _BOUND: np.ascontiguousarray(b, dtype=np.float32) for name, b in weights.bounds.items()}
    facts = {"network": asdict(weights.architecture)}
    facts |= {name: getattr(weights, name) for name in ("classes", "name", "epsilon", "mean", "std", "largest_logit")}
    metadata = {"format": FORMAT} | {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}
    atomic_write(path, to_safetensors(tensors, metadata=metadata))


def load_weights(path: str | Path) -> Weights:
    """Read and check a weight file.  Errors: WeightsError naming the first difference; EnvironmentFault."""
    path = Path(path)
    data = _read(path)
    facts = _facts(path, data)
    try:
        tensors = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is damaged: {on_one_line(error)}") from None
    bounds = {name[: -len(_BOUND)]: tensors.pop(name) for name in list(tensors) if name.endswith(_BOUND)}
    weights = Weights(**facts, parameters=tensors, bounds=bounds)
    check_weights(weights, str(path))
    return weights


def weights_given(given: Weights | str | Path | None) -> Weights:
    """Return weights, or those of the file that is named, by default the program's own.  Errors: as of
    :func:`load_weights` where a file is read."""
    return given if isinstance(given, Weights) else load_weights(given or default_weights_path())


def network_given(given: Weights | Card | str | Path | None) -> Weights | Card:
    """Return what a client is given of a network: its card, where the weights are not here; otherwise as
    :func:`weights_given`."""
    return given if isinstance(given, Card) else weights_given(given)


def check_weights(weights: Weights, source: str) -> None:
    """Raise WeightsError unless exactly the architecture's parameters and bounds are there, float32 and finite."""
    architecture = weights.architecture
    _compare(weights.parameters, architecture.parameter_shapes(), source, "")
    relus = {name: (channels,) for name, channels in architecture.relu_channels().items()}
    _compare(weights.bounds, relus, source, _BOUND)
    for name, bound in weights.bounds.items():
        if bound.min() < 0:
            raise WeightsError(f"{source}: {name}{_BOUND} has a negative value")
        if bound.max() == 0:
            raise WeightsError(f"{source}: {name}{_BOUND} is 0 in every channel: it was not calibrated")
    check_described(weights, source)


def _compare(found: Mapping[str, np.ndarray], shapes: Mapping[str, tuple], source: str, suffix: str) -> None:
    for name, shape in shapes.items():
        if name not in found:
            raise WeightsError(f"{source} lacks {name}{suffix}")
        array = found[name]
        if array.shape != shape:
            raise WeightsError(f"{source}: {name}{suffix} has shape {array.shape} instead of {shape}")
        if array.dtype != np.float32:
            raise WeightsError(f"{source}: {name}{suffix} is {array.dtype} instead of float32")
        if not np.all(np.isfinite(array)):
            raise WeightsError(f"{source}: {name}{suffix} has values that are not finite")
    extra = sorted(set(found) - set(shapes))
    if extra:
        raise WeightsError(f"{source} has {extra[0]}{suffix}, which this network does not")


def _read(path: Path) -> bytes:
    missing = WeightsError(f"there is no weight file {path}")
    return read_bounded(path, _LARGEST_BYTES, missing, WeightsError(f"{path} is too large for a weight file"))


def _facts(path: Path, data: bytes) -> dict[str, Any]:
    """Return the fields of Weights but for its arrays, from the metadata at the head of a safetensors file."""
    try:
        length = int.from_bytes(data[:8], "little")
        written = json.loads(data[8 : 8 + length])["__metadata__"]
        found = written.pop("format")
        if found == _FORMER_FORMAT:
            raise WeightsError(f"{path} was made by an earlier version of this program, which kept less", _AGAIN)
        if found not in (FORMAT, _UNDESCRIBED_FORMAT):
            raise WeightsError(f"{path} has format {found!r}, and this program reads {FORMAT!r}")
        facts = {name: json.loads(fact) for name, fact in written.items()}
        if found == _UNDESCRIBED_FORMAT:
            facts |= {"network": asdict(RESNET20), "classes": CIFAR10_CLASSES, "name": "", "epsilon": None}
        return described(facts) | {"epsilon": None if facts["epsilon"] is None else float(facts["epsilon"])}
    except ArchitectureError as error:
        raise WeightsError(f"{path}: {error.message}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise WeightsError(
            f"{path} is not a weight file of this program",
            "convert other weights with: import_weights SOURCE OUT pictures PATH",
        ) from None
