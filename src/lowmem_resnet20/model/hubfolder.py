"""A folder as model hubs have it: weights, and beside them what their network takes and tells apart.

config.json has the names of the classes (transformers: ``id2label``; timm: ``label_names``), and it or
preprocessor_config.json how pixels are normalised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .sourcefile import read_regular

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.onnx")
_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_LARGEST_BYTES = 1 << 22


@dataclass(frozen=True)
class HubFolder:
    """What a folder says of its network.

    weights: the file they are in;
    classes: names by index; empty where it has none;
    mean, std: of pixels in [0, 1], one number or one for each colour; None where it does not say;
    side: of its pictures; 0 where it does not say.
    """

    weights: Path
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    side: int


def is_hub_folder(folder: Path) -> bool:
    """Tell whether a folder is one of a hub's."""
    return any((folder / name).exists() for name in (*_WEIGHTS, _CONFIG))


def read_hub_folder(folder: Path) -> HubFolder:
    """Read the facts, not the weights.  Errors: WeightsError naming file and field; EnvironmentFault."""
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{folder} has {_CONFIG} and none of {', '.join(_WEIGHTS)}", "download its weights too")
    config, preprocessor = _facts(folder / _CONFIG), _facts(folder / _PREPROCESSOR)
    if (activation := config.get("hidden_act", "relu")) != "relu":
        raise WeightsError(f"{folder / _CONFIG}: hidden_act is {activation!r}", "only relu can be evaluated")
    try:
        timm = config.get("pretrained_cfg") or {}
        mean, std, unit = timm.get("mean"), timm.get("std"), 1.0
        if preprocessor:
            mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
            if not preprocessor.get("do_normalize", mean is not None):
                mean, std = 0.0, 1.0
            unit = 255 * preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) else 255.0
        return HubFolder(
            weights, _classes(config), _numbers(mean, unit), _numbers(std, unit), _side(timm, preprocessor)
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, ZeroDivisionError):
        raise WeightsError(
            f"{folder}: {_CONFIG} or {_PREPROCESSOR} has names, mean, std or size of another kind than hubs have",
            "import the file of weights alone, and give them by words",
        ) from None


def _facts(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        facts = json.loads(read_regular(path, _LARGEST_BYTES, WeightsError(f"{path} is too large")))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return facts


def _classes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names; those that transformers makes up (LABEL_0) are none."""
    if names := config.get("id2label"):
        by_index = {int(index): name for index, name in names.items()}
        found = tuple(by_index[index] for index in range(len(by_index)))
        return () if all(name == f"LABEL_{index}" for index, name in by_index.items()) else found
    return tuple(config.get("label_names") or ())


def _numbers(values: Any, unit: float) -> tuple[float, ...] | None:
    if values is None:
        return None
    return tuple(float(value) / unit for value in (values if isinstance(values, list) else [values]))


def _side(timm: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> int:
    size: Any = preprocessor.get("crop_size") if preprocessor.get("do_center_crop") else preprocessor.get("size")
    if size is None:
        size = (timm.get("input_size") or [0])[-1]
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge", 0))
    return int(size)
