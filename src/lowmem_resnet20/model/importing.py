"""Weights from elsewhere: a PyTorch checkpoint, a folded npz or the original's folder to a calibrated weight file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, WeightsError, on_one_line
from ..network.architecture import CIFAR10_CLASSES, RESNET20, Architecture
from ..network.card import numbered_classes
from ..network.weights import Weights, save_weights
from .labelled import read_pictures
from .original import read_original
from .plain import PlainNetwork, calibrate
from .sourcefile import EPSILON, Kind, compare_shapes, read_source

#: Normalisation of the public CIFAR-10 checkpoints, for weights that bring none.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
#: Logits of the folded network may differ from the source model's by this much: float32 rounding.
LARGEST_DIFFERENCE = 1e-3
#: Fewer pictures than this to calibrate on are warned of.
FEW_PICTURES = 100
_BATCH = 250


@dataclass(frozen=True)
class ImportReport:
    """The report of an import.

    parameters: numbers imported;
    pictures: pictures calibrated on;
    useful_pictures: those of them that differ and have more than one colour;
    largest_bound: over all ReLUs;
    epsilon: of its batch norms; None where the source is folded already;
    difference: worst difference of a logit from the source model's; None where the source is folded already.
    """

    parameters: int
    pictures: int
    useful_pictures: int
    largest_bound: float
    epsilon: float | None
    difference: float | None

    @property
    def too_few(self) -> bool:
        """Tell whether the pictures say little about how large values get."""
        return self.useful_pictures < FEW_PICTURES


def import_weights(
    source: Path,
    out: Path,
    pictures: Path,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    architecture: Architecture = RESNET20,
    *,
    epsilon: float | None = None,
) -> ImportReport:
    """Read ``source``, calibrate on ``pictures`` (a picture, a folder of them or an npz) and write ``out``.

    source: a state dict in the naming of the public CIFAR ResNet20 checkpoints, as torch.save or safetensors write
    it (shortcuts of option A or B), an npz of folded parameters, whose fc.bias may be missing (taken as 0), or the
    original program's folder of text files; told by content.  mean, std: the normalisation the network was trained
    with, by colour, of pixels in [0, 1] (0 and 1 for raw pixels); CIFAR-10's usual where not given.
    epsilon: what the network's batch norms add to a variance, which no such source tells; PyTorch's default where not
    given.

    Errors: WeightsError naming the first difference; UsageError for another normalisation, and for an epsilon of what
    is folded already; PictureError; EnvironmentFault.
    """
    source, mean, std = Path(source), mean or CIFAR_MEAN, std or CIFAR_STD
    _check_normalisation(mean, std)
    state, used = None, EPSILON if epsilon is None else epsilon
    if source.is_dir():
        parameters = read_original(source, architecture)
    else:
        kind, content = read_source(source)
        if kind is Kind.NPZ:
            parameters = _folded(source, content, architecture)
        else:
            from .checkpoint import read_state_dict  # needs PyTorch
            from .trained import fold

            state = read_state_dict(source, kind, content, architecture, used)
            parameters = fold(state, architecture, used)
    if state is None and epsilon is not None:
        raise UsageError(f"{source} is folded already, and has no batch norm for an eps", "leave the word out")
    x = read_pictures(Path(pictures), architecture).x
    pixels = [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]
    names = CIFAR10_CLASSES if architecture.classes == len(CIFAR10_CLASSES) else numbered_classes(architecture.classes)
    uncalibrated = Weights(
        architecture, names, tuple(mean), tuple(std), 0.0, "", parameters, {}, None if state is None else used
    )
    weights = calibrate(uncalibrated, pixels)
    difference = None if state is None else _check_against(state, weights, pixels[0], used)
    save_weights(Path(out), weights)
    return ImportReport(
        parameters=sum(array.size for array in parameters.values()),
        pictures=sum(len(batch) for batch in pixels),
        useful_pictures=_useful(pixels),
        largest_bound=float(max(bound.max() for bound in weights.bounds.values())),
        epsilon=None if state is None else used,
        difference=difference,
    )


# --- sources ----------------------------------------------------------------------------------------------


def _check_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise unless they are of pixels in [0, 1]: no mean of such lies elsewhere, and no deviation above 1."""
    for name, values, fit in (
        ("mean", mean, all(0 <= m <= 1 for m in mean)),
        ("std", std, all(0 < s <= 1 for s in std)),
    ):
        if not fit:
            shown = ", ".join(f"{value:g}" for value in values)
            hint = "divide it by 255" if max(values) > 1 else "give the numbers the network was trained with"
            raise UsageError(f"{name} {shown} is not of pixels from 0 to 1", hint)


def _folded(path: Path, content: bytes, architecture: Architecture) -> dict[str, np.ndarray]:
    shapes = architecture.parameter_shapes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many kinds
        raise WeightsError(f"{path} cannot be read as an npz file: {on_one_line(error)}") from None
    found.setdefault("fc.bias", np.zeros(shapes["fc.bias"], np.float32))
    compare_shapes(path, {name: array.shape for name, array in found.items()}, shapes)
    for name, array in found.items():
        if array.dtype.kind not in "fiu":
            raise WeightsError(f"{path}: {name} is {array.dtype}, not numbers")
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: {name} has values that are not finite")
    return {name: np.asarray(found[name], dtype=np.float32) for name in shapes}


# --- calibration ------------------------------------------------------------------------------------------


def _useful(batches: Iterable[np.ndarray]) -> int:
    """Return how many pictures there are without repetitions and those of one colour."""
    pictures = (picture for batch in batches for picture in batch)
    return len({hash(picture.tobytes()) for picture in pictures if (picture != picture[:, :1, :1]).any()})


def _check_against(state: Mapping[str, Any], weights: Weights, pixels: np.ndarray, epsilon: float) -> float:
    """Return the worst difference between a logit of the source model and of the folded one."""
    import torch

    from .trained import ResNet

    model = ResNet(weights.architecture, epsilon)
    model.load_state_dict(state, strict=False)  # names have been compared; only batch counters are missing
    with torch.no_grad():
        expected = model.double().eval()(torch.from_numpy(weights.normalise(pixels))).numpy()
    difference = float(np.abs(PlainNetwork(weights).logits(pixels) - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise WeightsError(f"the folded network differs from its source by {difference:.1e} in a logit")
    return difference
