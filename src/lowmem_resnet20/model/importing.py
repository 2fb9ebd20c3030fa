"""Weights from elsewhere: a PyTorch checkpoint, a folded npz or the original's folder to a calibrated weight file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import PictureError, WeightsError
from ..machine.files import os_fault
from ..network.architecture import RESNET20, Architecture
from ..network.weights import Weights, save_weights
from .original import read_original
from .picture import read_picture
from .plain import PlainNetwork, ResNet, calibrate, fold, torch

#: Normalisation of the public CIFAR-10 checkpoints, for weights that bring none.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
#: Logits of the folded network may differ from the source model's by this much: float32 rounding.
LARGEST_DIFFERENCE = 1e-3
#: Fewer pictures than this to calibrate on are warned of.
FEW_PICTURES = 100
_BATCH = 250
_STATE_DICT_SUFFIXES = (".pt", ".pth", ".th", ".safetensors")


@dataclass(frozen=True)
class ImportReport:
    """parameters: numbers imported; pictures: pictures calibrated on; useful_pictures: those of them that differ and have
    more than one colour; largest_bound: over all ReLUs; difference: worst difference of a logit from the source model's,
    None where the source is folded already."""

    parameters: int
    pictures: int
    useful_pictures: int
    largest_bound: float
    difference: float | None

    @property
    def too_few(self) -> bool:
        """Whether the pictures say little about how large values get."""
        return self.useful_pictures < FEW_PICTURES


def import_weights(
    source: Path,
    out: Path,
    pictures: Path,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    architecture: Architecture = RESNET20,
) -> ImportReport:
    """Read ``source``, calibrate on ``pictures`` (a picture, a folder of them or an npz) and write ``out``.

    source: a state dict in the naming of the public CIFAR ResNet20 checkpoints (.safetensors, .pt, .pth, .th), an
    npz of folded parameters, whose fc.bias may be missing (taken as 0), or the original program's folder of text
    files.  mean, std: the normalisation the network was trained with, by colour (0 and 1 for raw pixels);
    CIFAR-10's usual where not given.

    Errors: WeightsError naming the first difference; PictureError; EnvironmentFault.
    """
    source, mean, std = Path(source), mean or CIFAR_MEAN, std or CIFAR_STD
    pixels = list(_batches(Path(pictures), architecture.width))
    state = None
    if source.is_dir():
        parameters = read_original(source, architecture)
    elif source.suffix == ".npz":
        parameters = _folded(source, architecture)
    elif source.suffix in _STATE_DICT_SUFFIXES:
        state = _state_dict(source, architecture)
        parameters = fold(state, architecture)
    else:
        raise WeightsError(
            f"{source} is neither a state dict ({', '.join(_STATE_DICT_SUFFIXES)}), a folded npz nor a folder",
            "save it in one of these forms",
        )
    weights = calibrate(parameters, mean, std, pixels, architecture)
    difference = None if state is None else _check_against(state, weights, pixels[0])
    save_weights(Path(out), weights)
    return ImportReport(
        parameters=sum(array.size for array in parameters.values()),
        pictures=sum(len(batch) for batch in pixels),
        useful_pictures=_useful(pixels),
        largest_bound=float(max(bound.max() for bound in weights.bounds.values())),
        difference=difference,
    )


# --- sources ----------------------------------------------------------------------------------------------


def _folded(path: Path, architecture: Architecture) -> dict[str, np.ndarray]:
    shapes = architecture.parameter_shapes()
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise os_fault(error, "read", path) from error
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{path} is not an npz file: {error}") from None
    found.setdefault("fc.bias", np.zeros(shapes["fc.bias"], np.float32))
    _compare_shapes(path, {name: array.shape for name, array in found.items()}, shapes)
    return {name: np.asarray(found[name], dtype=np.float32) for name in shapes}


def _state_dict(path: Path, architecture: Architecture) -> dict[str, torch.Tensor]:
    state = _rename(_load_state_dict(path))
    expected = ResNet(architecture).state_dict()
    for tensors in (state, expected):
        for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
            del tensors[name]
    _compare_shapes(path, *({name: tuple(t.shape) for name, t in s.items()} for s in (state, expected)))
    return state


def _load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise os_fault(error, "read", path) from error
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path} cannot be read as a state dict: {reason}") from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise WeightsError(f"{path} does not hold a state dict")
    return dict(state)


def _rename(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as :class:`.plain.ResNet` has them, from the variants in use."""
    renamed = {}
    for name, tensor in state.items():
        for prefix in ("module.", "model."):
            name = name.removeprefix(prefix)
        name = name.replace(".shortcut.", ".downsample.")
        renamed["fc." + name.removeprefix("linear.") if name.startswith("linear.") else name] = tensor
    return renamed


def _compare_shapes(path: Path, found: Mapping[str, tuple], expected: Mapping[str, tuple]) -> None:
    for name, shape in expected.items():
        if name not in found:
            raise WeightsError(f"{path} lacks {name}")
        if found[name] != shape:
            raise WeightsError(f"{path}: {name} has shape {found[name]} instead of {shape}")
    extra = sorted(set(found) - set(expected))
    if extra:
        raise WeightsError(f"{path} has {extra[0]}, which this network does not")


# --- calibration ------------------------------------------------------------------------------------------


def _batches(path: Path, width: int) -> Iterator[np.ndarray]:
    """Pictures (n, colours, width, width) in [0, 1]."""
    if path.suffix == ".npz":
        pixels = _npz_pictures(path, width)
    else:
        files = [path] if path.is_file() else sorted(_pictures_in(path))
        if not files:
            raise PictureError(f"there are no pictures in {path}", "give .png or .jpg files, or an npz with x")
        pixels = np.stack([read_picture(file, width, resize=True) for file in files])
    for start in range(0, len(pixels), _BATCH):
        yield pixels[start : start + _BATCH]


def _pictures_in(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    except FileNotFoundError:
        raise PictureError(f"there are no pictures {folder}") from None
    except OSError as error:
        raise os_fault(error, "read", folder) from error


def _npz_pictures(path: Path, width: int) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            pixels = file["x"]
    except FileNotFoundError:
        raise PictureError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise PictureError(f"{path} holds no pictures x: {error}") from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2:] != (width, width) or not len(pixels):
        raise PictureError(f"{path}: x is {pixels.dtype} {pixels.shape} instead of uint8 (n, 3, {width}, {width})")
    return pixels / 255.0


def _useful(batches: Iterable[np.ndarray]) -> int:
    """How many pictures there are without repetitions and those of one colour."""
    pictures = (picture for batch in batches for picture in batch)
    return len({hash(picture.tobytes()) for picture in pictures if (picture != picture[:, :1, :1]).any()})


def _check_against(state: Mapping[str, torch.Tensor], weights: Weights, pixels: np.ndarray) -> float:
    """Worst difference between a logit of the source model and of the folded one."""
    model = ResNet(weights.architecture)
    model.load_state_dict(state, strict=False)  # names have been compared; only batch counters are missing
    with torch.no_grad():
        expected = model.double().eval()(torch.from_numpy(weights.normalise(pixels))).numpy()
    difference = float(np.abs(PlainNetwork(weights).logits(pixels) - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise WeightsError(f"the folded network differs from its source by {difference:.1e} in a logit")
    return difference
