"""Networks from elsewhere, whatever they come in: tensors, where each belongs, and what the source says beside them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import WeightsError, on_one_line
from ..network.architecture import RESNET20, Architecture
from .arrangement import Arrangement, arrange
from .folding import fold
from .hubfolder import is_hub_folder, read_hub_folder
from .original import read_original
from .sourcefile import Kind, read_source


@dataclass(frozen=True)
class Source:
    """A network as it was found.

    arrangement: its layers;
    tensors: in double precision, by the source's names;
    classes: names by index; empty where it has none;
    mean, std: of pixels in [0, 1], one number or one for each colour; None where it does not say;
    side: of its pictures; 0 where it does not say.
    """

    arrangement: Arrangement
    tensors: Mapping[str, np.ndarray]
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    side: int = 0

    @property
    def has_norms(self) -> bool:
        """Tell whether there are batch norms to fold."""
        return any(layer.norm for layer in self.arrangement.layers.values())

    def parameters(self, architecture: Architecture, epsilon: float) -> dict[str, np.ndarray]:
        """Return folded parameters (float32) by the architecture's names."""
        return fold(self.tensors, self.arrangement.layers, self.arrangement.linear, architecture, epsilon)


def open_source(path: Path) -> Source:
    """Read a network: a PyTorch checkpoint, safetensors, ONNX, an npz of folded parameters, a folder of a model hub, or
    the original program's folder; told by content.

    Errors: WeightsError naming what was found and what fits; EnvironmentFault; ImportError of the package that reads
    it.
    """
    if path.is_dir():
        return _of_folder(path)
    kind, content = read_source(path)
    if kind is Kind.ONNX:
        from .graph import read_graph  # needs onnx

        graph = read_graph(path, content)
        return Source(graph.arrangement, graph.tensors, mean=graph.mean, std=graph.std, side=graph.side)
    if kind is Kind.NPZ:
        arrays = _arrays(path, content)
        arrangement = arrange(path, {name: array.shape for name, array in arrays.items()})
        return Source(arrangement, {name: _numbers(path, name, array) for name, array in arrays.items()})
    from .checkpoint import numbers, read_state_dict  # needs PyTorch

    state = read_state_dict(path, kind, content)
    arrangement = arrange(path, {name: tuple(tensor.shape) for name, tensor in state.items()})
    return Source(arrangement, {name: numbers(path, name, tensor) for name, tensor in state.items()})


def _of_folder(path: Path) -> Source:
    if is_hub_folder(path):
        folder = read_hub_folder(path)
        found = open_source(folder.weights)
        mean, std = (folder.mean, folder.std) if folder.mean and folder.std else (found.mean, found.std)
        return replace(found, classes=folder.classes, mean=mean, std=std, side=folder.side or found.side)
    parameters = read_original(path, RESNET20)
    arrangement = arrange(path, {name: array.shape for name, array in parameters.items()})
    return Source(arrangement, parameters, side=RESNET20.width)


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in file.files}  # a member that is no array is bytes
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many kinds
        raise WeightsError(f"{path} cannot be read as an npz file: {on_one_line(error)}") from None
    return found


def _numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array that has its place, and so its size, in double precision, which may be eight times its bytes."""
    if array.dtype.kind not in "fiu":
        raise WeightsError(f"{path}: {name} is {array.dtype}, not numbers")
    if not np.isfinite(array).all():
        raise WeightsError(f"{path}: {name} has values that are not finite")
    return np.asarray(array, dtype=np.float64)
