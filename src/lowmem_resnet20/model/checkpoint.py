"""A PyTorch checkpoint as others save it, to the tensors of one network by their names.

Whatever training programs put around a state dict is looked through.  Where the same checkpoint has a moving average
of its weights (ema), that is what is taken, as those who publish it evaluate it.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as parse_safetensors

from ..errors import WeightsError, on_one_line
from .sourcefile import LARGEST_BYTES, Kind

_DEEPEST_WRAPPER = 4
_AVERAGED = re.compile(r"(^|[_.])ema([_.]|$)")
#: Counters that are no parameters: of batch norm, and of torch.optim.swa_utils.AveragedModel.
_COUNTERS = ("num_batches_tracked", "n_averaged")
#: torch.load's words for what it does not unpickle: of PyTorch since 2.4, and before.
_REFUSED = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class) (\S+)")
_REASON = re.compile(r"WeightsUnpickler error:\s*(.+)")
#: In the words of what PyTorch allocates with, where that fails.
_ALLOCATING = re.compile(r"tried to allocate (\d+) bytes")
_PRECISION_HINT = "where it comes from, save it in another precision: torch.save(model.float().state_dict(), FILE)"
_TENSORS_HINT = "where it comes from, save its tensors alone: torch.save(model.state_dict(), FILE)"


def read_state_dict(path: Path, kind: Kind, content: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of the network in a checkpoint, dense and of floating-point numbers, by the file's names.

    Errors: WeightsError naming the first thing that does not fit.
    """
    found = _load(path, kind, content)
    states = dict(_state_dicts(found, "", _DEEPEST_WRAPPER))
    if not states:
        raise WeightsError(f"{path} does not hold a state dict but {_kind_of(found)}", _TENSORS_HINT)
    tensors = _tensors(path, states[_chosen(path, list(states))])
    tops = list(dict.fromkeys(name.partition(".")[0] for name in tensors))
    if any(map(_AVERAGED.search, tops)):
        tensors = {name: tensor for name, tensor in tensors.items() if _AVERAGED.search(name.partition(".")[0])}
    return tensors


def numbers(path: Path, name: str, tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor in double precision.  Errors: WeightsError unless it is finite, and a variance not negative."""
    try:
        array = tensor.to(torch.float64).numpy()
    except (NotImplementedError, RuntimeError):  # of two numbers in a byte, say
        raise WeightsError(f"{path}: {name} is {tensor.dtype}, which cannot be read", _PRECISION_HINT) from None
    if not np.isfinite(array).all():
        raise WeightsError(f"{path}: {name} has values that are not finite")
    if name.endswith("running_var") and array.min() < 0:
        raise WeightsError(f"{path}: {name} has a negative value, and is a variance")
    return array


def _load(path: Path, kind: Kind, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind is Kind.SAFETENSORS:
                return _parsed(path, content)
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (MemoryError, WeightsError):
        raise
    except Exception as error:
        asked = _ALLOCATING.search(str(error))
        if asked and int(asked[1]) <= LARGEST_BYTES:  # as a sound file may
            raise MemoryError from error
        raise _refusal(path, error) from None


def _parsed(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    try:
        return parse_safetensors(content)
    except KeyError as error:  # of a precision, such as F4
        raise WeightsError(f"{path} has numbers of {error}, which cannot be read", _PRECISION_HINT) from None


def _refusal(path: Path, error: Exception) -> WeightsError:
    """Return a line for what torch.load says in a page."""
    refused, reason = _REFUSED.search(str(error)), _REASON.search(str(error))
    if refused:
        return WeightsError(f"{path} holds {refused[1]}, and nothing but tensors is read from a pickle", _TENSORS_HINT)
    if isinstance(error, pickle.UnpicklingError) and reason:
        return WeightsError(f"{path} is a pickle of more than tensors: {reason[1]}", _TENSORS_HINT)
    return WeightsError(f"{path} is damaged or cut short: {on_one_line(error)}", "download it again")


def _state_dicts(found: Any, name: str, deepest: int) -> Iterator[tuple[str, Mapping]]:
    """Yield what may be a state dict, by where it lies: it has a convolution's or a fully connected layer's weights.

    What is found is not looked into, so that nothing but optimizers' lists lies beside it.
    """
    if not isinstance(found, Mapping):
        return
    if any(isinstance(key, str) and _is_weight(value) for key, value in found.items()):
        yield name, found
    elif deepest:
        for key, value in found.items():
            yield from _state_dicts(value, f"{name}.{key}".lstrip("."), deepest - 1)


def _is_weight(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_nested and value.dim() in (2, 4)


def _chosen(path: Path, names: list[str]) -> str:
    """Return which of several state dicts is the network's."""
    networks = [name for name in names if not re.search(r"optim|(^|\.)state\.[0-9]", name)]
    averaged = [name for name in networks if _AVERAGED.search(name)]
    chosen = averaged or networks or names
    if len(chosen) > 1:
        raise WeightsError(f"{path} holds {len(chosen)} state dicts: {', '.join(chosen[:3])}", "save one network alone")
    return chosen[0]


def _kind_of(found: Any) -> str:
    if isinstance(found, Mapping) and found:
        key, value = next(iter(found.items()))
        return f"{type(found).__name__}, in which {key} is {type(value).__name__}"
    return type(found).__name__


def _tensors(path: Path, state: Mapping) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{path} does not hold a state dict: {name} is {type(tensor).__name__}", _TENSORS_HINT)
        if name.rpartition(".")[2] in _COUNTERS:
            continue
        dense = tensor.layout is torch.strided and not tensor.is_nested
        if not tensor.is_floating_point() or not dense or tensor.device.type != "cpu":
            kind = f"{'nested, ' if tensor.is_nested else ''}{tensor.dtype}, {tensor.layout}, {tensor.device}"
            raise WeightsError(f"{path}: {name} is not a dense tensor of floating-point numbers but {kind}")
        tensors[name] = tensor.detach()
    return tensors
