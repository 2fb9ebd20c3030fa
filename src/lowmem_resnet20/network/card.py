"""A network but for its weights, which is all that a client needs of it: what it takes, and what it tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import WeightsError
from .architecture import Architecture

#: Letters of a class's name, and of a network's.
LONGEST_NAME = 64
#: A normalised pixel is no larger: those of pixels from 0 to 255 are below 10^3.
LARGEST_PIXEL = 1e4


@dataclass(frozen=True)
class Described:
    """A network but for its weights.

    architecture: its shape;
    classes: their names, by index;
    mean, std: the normalisation of its pixels, by colour, for pixels in [0, 1];
    largest_logit: absolute, of the pictures it was calibrated on;
    name: that its owner gives it; may be empty.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    largest_logit: float
    name: str

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(..., colours, width, width) in [0, 1] -> what the network takes."""
        return (pixels - np.reshape(self.mean, (-1, 1, 1))) / np.reshape(self.std, (-1, 1, 1))


@dataclass(frozen=True)
class Card(Described):
    """What a client needs of a network whose weights stay with their owner.

    fingerprint: of the weights.
    """

    fingerprint: str


def described(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`Described`, each of its type, from what was read as JSON: ``network``, ``classes``,
    ``mean``, ``std``, ``largest_logit`` and ``name``.

    Errors: ArchitectureError; what missing fields and those of other types raise: KeyError, TypeError, ValueError,
    OverflowError.
    """
    shape = dict(facts["network"])
    sizes = {name: shape.pop(name) for name in ("width", "blocks_per_stage", "input_channels", "classes")}
    channels = shape.pop("channels")
    if shape or not all(type(size) is int for size in (*sizes.values(), *channels)):
        raise ValueError("no architecture")
    return {
        "architecture": Architecture(channels=tuple(channels), **sizes),
        "classes": tuple(_list(facts["classes"])),
        "mean": tuple(map(_number, _list(facts["mean"]))),
        "std": tuple(map(_number, _list(facts["std"]))),
        "largest_logit": _number(facts["largest_logit"]),
        "name": facts["name"],
    }


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("no list")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)


def numbered_classes(count: int) -> tuple[str, ...]:
    """Return names for classes that have none: 0, 1, ..."""
    return tuple(map(str, range(count)))


def check_described(network: Described, source: str) -> None:
    """Raise WeightsError unless normalisation, largest logit and names are what they should be.  They come from
    strangers: a name is one short line of letters that can be printed."""
    architecture = network.architecture
    if not 0 < network.largest_logit < np.inf:
        raise WeightsError(f"{source}: largest_logit is not a positive number: it was not calibrated")
    for what, values in (("mean", network.mean), ("std", network.std)):
        if len(values) != architecture.input_channels or not np.all(np.isfinite(values)):
            raise WeightsError(f"{source}: {what} is not {architecture.input_channels} finite numbers")
    if min(network.std) <= 0:
        raise WeightsError(f"{source}: std is not positive")
    largest = max(max(abs(m), abs(1 - m)) / s for m, s in zip(network.mean, network.std, strict=True))
    if largest > LARGEST_PIXEL:
        raise WeightsError(f"{source}: pixels that are normalised by its mean and std exceed {LARGEST_PIXEL:.0f}")
    # First: to look for repeated names takes the square of their number.
    if len(network.classes) != architecture.classes:
        raise WeightsError(f"{source} names {len(network.classes)} classes, and its network has {architecture.classes}")
    check_names(network.classes, source)
    if network.name != "":
        check_names([network.name], source)


def check_names(names: Sequence[str], source: str) -> None:
    """Raise WeightsError unless each is a short printable line, without blanks around it, and there is none twice."""
    for name in names:
        if not (
            isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()
        ):
            shown = repr(name)[: LONGEST_NAME + 2]
            raise WeightsError(
                f"{source}: {shown} cannot be a name", f"names are of 1 to {LONGEST_NAME} printable letters"
            )
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise WeightsError(f"{source} has the class {repeated} twice")
