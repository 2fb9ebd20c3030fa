"""A PyTorch checkpoint as others save it, to the state dict of :class:`.trained.ResNet`.

Taken off are what training programs wrap around a state dict and what they put before its names.  Shortcuts without
parameters (option A of He et al., section 4.2, as F.pad(x[:, :, ::2, ::2], ...) of the best-known ResNet20 for CIFAR-10
has them) become the convolutions that they are.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors

from ..errors import WeightsError, on_one_line
from ..network.architecture import Architecture
from .sourcefile import LARGEST_BYTES, Kind, compare_shapes
from .trained import ResNet

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_DEEPEST_WRAPPER = 4
_PREFIXES = ("module.", "_orig_mod.", "net.", "model.")
_UNCOUNTED = "num_batches_tracked"
#: torch.load's words for what it does not unpickle: of PyTorch since 2.4, and before.
_REFUSED = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class) (\S+)")
_REASON = re.compile(r"WeightsUnpickler error:\s*(.+)")
#: In the words of what PyTorch allocates with, where that fails.
_ALLOCATING = re.compile(r"tried to allocate (\d+) bytes")
_PRECISION_HINT = "where it comes from, save it in another precision: torch.save(model.float().state_dict(), FILE)"
_TENSORS_HINT = "where it comes from, save its tensors alone: torch.save(model.state_dict(), FILE)"


def read_state_dict(
    path: Path, kind: Kind, content: bytes, architecture: Architecture, epsilon: float
) -> dict[str, torch.Tensor]:
    """Read the tensors of :class:`.trained.ResNet`, finite and in double precision, by its names, without counters of
    batches.

    epsilon: of the network's batch norms, which its tensors do not tell.

    Errors: WeightsError naming the first difference.
    """
    state = _renamed(path, _tensors(path, _unwrapped(_load(path, kind, content))))
    if not any(".downsample." in name for name in state):
        state |= _option_a(architecture, epsilon)
    expected = {n: tuple(t.shape) for n, t in ResNet(architecture).state_dict().items() if not n.endswith(_UNCOUNTED)}
    compare_shapes(path, {name: tuple(tensor.shape) for name, tensor in state.items()}, expected)
    state = {name: _in_double_precision(path, name, tensor) for name, tensor in state.items()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: {name} has values that are not finite")
        if name.endswith("running_var") and tensor.min() < 0:
            raise WeightsError(f"{path}: {name} has a negative value, and is a variance")
    return state


def _in_double_precision(path: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    try:
        return tensor.to(torch.float64)
    except (NotImplementedError, RuntimeError):  # of two numbers in a byte, say
        raise WeightsError(f"{path}: {name} is {tensor.dtype}, which cannot be read", _PRECISION_HINT) from None


def _load(path: Path, kind: Kind, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind is Kind.SAFETENSORS:
                return parse_safetensors(content)
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        asked = _ALLOCATING.search(str(error))
        if asked and int(asked[1]) <= LARGEST_BYTES:  # as a sound file may
            raise MemoryError from error
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> WeightsError:
    """Return a line for what torch.load says in a page."""
    refused, reason = _REFUSED.search(str(error)), _REASON.search(str(error))
    if refused:
        return WeightsError(f"{path} holds {refused[1]}, and nothing but tensors is read from a pickle", _TENSORS_HINT)
    if isinstance(error, pickle.UnpicklingError) and reason:
        return WeightsError(f"{path} is a pickle of more than tensors: {reason[1]}", _TENSORS_HINT)
    return WeightsError(f"{path} is damaged or cut short: {on_one_line(error)}", "download it again")


def _unwrapped(found: Any) -> Any:
    """Return the state dict inside what a training program saves with it."""
    for _ in range(_DEEPEST_WRAPPER):
        if isinstance(found, Mapping):
            found = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), Mapping)), found)
    return found


def _tensors(path: Path, state: Any) -> dict[str, torch.Tensor]:
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} does not hold a state dict but {type(state).__name__}", _TENSORS_HINT)
    tensors = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{path} does not hold a state dict: {name} is {type(tensor).__name__}", _TENSORS_HINT)
        if name.endswith(_UNCOUNTED):
            continue
        dense = tensor.layout is torch.strided and not tensor.is_nested
        if not tensor.is_floating_point() or not dense or tensor.device.type != "cpu":
            kind = f"{'nested, ' if tensor.is_nested else ''}{tensor.dtype}, {tensor.layout}, {tensor.device}"
            raise WeightsError(f"{path}: {name} is not a dense tensor of floating-point numbers but {kind}")
        tensors[name] = tensor.detach()
    return tensors


def _renamed(path: Path, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as ResNet has them, from the variants in use."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
            name = name.removeprefix(prefix)
        name = re.sub(r"^linear\.", "fc.", name).replace(".shortcut.", ".downsample.")
        if name in renamed:
            raise WeightsError(f"{path} has {name} twice, under different prefixes", "save one network alone")
        renamed[name] = tensor
    return renamed


def _option_a(architecture: Architecture, epsilon: float) -> dict[str, torch.Tensor]:
    """Parameter-free shortcuts as 1x1 stride-2 convolutions, with a batch norm that changes nothing.

    Every second row and column is kept, and a quarter of the new channels is padded with zeros on either side.
    """
    state = {}
    for block in architecture.blocks():
        if block.stride == 2:
            c, o = block.in_channels, block.out_channels
            kernel = torch.zeros(o, c, 1, 1, dtype=torch.float64)
            kernel[torch.arange(c) + o // 4, torch.arange(c)] = 1
            ones, zeros = torch.ones(o, dtype=torch.float64), torch.zeros(o, dtype=torch.float64)
            gain = torch.sqrt(ones + epsilon)
            norm = {"weight": gain, "bias": zeros, "running_mean": zeros, "running_var": ones}
            state[f"{block.name}.downsample.0.weight"] = kernel
            state |= {f"{block.name}.downsample.1.{part}": values for part, values in norm.items()}
    return state
