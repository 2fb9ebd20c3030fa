"""The weight file: folded parameters, normalisation and what calibration found, every name and shape checked.

A safetensors file (no pickle) whose metadata says ``format: lowmem-resnet20 2``, ``mean``, ``std`` and
``largest_logit``, the largest absolute value of a logit in calibration.  Tensors are float32: the parameters by the
names of :meth:`.Architecture.parameter_shapes`, and for each ReLU ``<name>.bound``, (channels,), the largest absolute
value its input took in calibration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as to_safetensors

from ..errors import WeightsError, on_one_line
from ..machine.files import atomic_write, read_bounded
from .architecture import RESNET20, Architecture
from .fingerprint import fingerprint

FORMAT = "lowmem-resnet20 2"
#: Without the largest logit.
_FORMER_FORMAT = "lowmem-resnet20 1"
FILE_NAME = "resnet20_cifar10.safetensors"
_LARGEST_BYTES = 1 << 26
_BOUND = ".bound"
_AGAIN = "make it again from its source with: import_weights SOURCE OUT pictures PATH"


@dataclass(frozen=True)
class Weights:
    """A network with batch norm folded.

    parameters: by name, in PyTorch's layout, float32;
    mean, std: the normalisation of its pixels, by colour, for pixels in [0, 1];
    bounds: (channels,) by ReLU, of the inputs of each on the pictures it was calibrated on;
    largest_logit: of these, absolute.
    """

    architecture: Architecture
    parameters: Mapping[str, np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bounds: Mapping[str, np.ndarray]
    largest_logit: float

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(..., colours, width, width) in [0, 1] -> what the network takes."""
        return (pixels - np.reshape(self.mean, (-1, 1, 1))) / np.reshape(self.std, (-1, 1, 1))

    @property
    def fingerprint(self) -> str:
        """Changes when any number of the weights changes."""
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
    facts = {"format": FORMAT, "largest_logit": json.dumps(weights.largest_logit)}
    facts |= {"mean": json.dumps(list(weights.mean)), "std": json.dumps(list(weights.std))}
    atomic_write(path, to_safetensors(tensors, metadata=facts))


def load_weights(path: Path, architecture: Architecture = RESNET20) -> Weights:
    """Read and check a weight file.  Errors: WeightsError naming the first difference; EnvironmentFault."""
    data = _read(Path(path))
    mean, std, largest_logit = _facts(path, data)
    try:
        tensors = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is damaged: {on_one_line(error)}") from None
    bounds = {name[: -len(_BOUND)]: tensors.pop(name) for name in list(tensors) if name.endswith(_BOUND)}
    weights = Weights(architecture, tensors, mean, std, bounds, largest_logit)
    check_weights(weights, str(path))
    return weights


def weights_given(given: Weights | str | Path | None, architecture: Architecture) -> Weights:
    """Return weights, or those of the file that is named, by default the program's own.  Errors: as of
    :func:`load_weights` where a file is read."""
    return given if isinstance(given, Weights) else load_weights(Path(given or default_weights_path()), architecture)


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
    if not 0 < weights.largest_logit < np.inf:
        raise WeightsError(f"{source}: largest_logit is not a positive number: it was not calibrated")
    for name, values in (("mean", weights.mean), ("std", weights.std)):
        if len(values) != architecture.input_channels or not np.all(np.isfinite(values)):
            raise WeightsError(f"{source}: {name} is not {architecture.input_channels} finite numbers")
    if min(weights.std) <= 0:
        raise WeightsError(f"{source}: std is not positive")


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


def _facts(path: Path, data: bytes) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Mean, standard deviation and largest logit, from the metadata at the head of a safetensors file."""
    try:
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(data[8 : 8 + length])["__metadata__"]
        if facts["format"] == _FORMER_FORMAT:
            raise WeightsError(f"{path} was made by an earlier version of this program, which kept less", _AGAIN)
        if facts["format"] != FORMAT:
            raise WeightsError(f"{path} has format {facts['format']!r}, and this program reads {FORMAT!r}")
        mean, std = (tuple(map(float, json.loads(facts[name]))) for name in ("mean", "std"))
        return mean, std, float(json.loads(facts["largest_logit"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise WeightsError(
            f"{path} is not a weight file of this program",
            "convert other weights with: import_weights SOURCE OUT pictures PATH",
        ) from None
