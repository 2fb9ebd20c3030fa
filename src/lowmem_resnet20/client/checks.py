"""What a client can see of a picture and its result, and nobody else: whether values stay in their ranges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import PictureError
from ..network.architecture import Architecture
from ..network.card import Described
from ..network.parameters import ParameterSet
from ..network.ranges import Foreseen, alike, foresee
from ..network.weights import Weights

_PIXELS_HINT = "read_picture gives what is wanted"
_RANGE_HINT = "give import_weights pictures like this one to calibrate on"
_DIFFERENCE_HINT = "a value left its range, or the server computed something else"


class Caution(NamedTuple):
    """Why a result may be wrong, and what to do about it."""

    message: str
    hint: str

    def __str__(self) -> str:
        return self.message


def check_pixels(pixels: object, architecture: Architecture, name: str) -> None:
    """Raise PictureError unless these are pixels: (colours, width, width), floating, from 0 to 1."""
    wanted = (architecture.input_channels, architecture.width, architecture.width)
    if not isinstance(pixels, np.ndarray):
        raise PictureError(f"{name} is a {type(pixels).__name__}, and no array of pixels", _PIXELS_HINT)
    if pixels.shape != wanted:
        raise PictureError(f"{name} has shape {pixels.shape} instead of {wanted}", _PIXELS_HINT)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise PictureError(f"the pixels of {name} are {pixels.dtype}, not floating", "divide integers by 255")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise PictureError(f"{name} has pixels that are not from 0 to 1", "divide those of 8 bits by 255")


def check_range(
    pixels: np.ndarray, set_: ParameterSet, weights: Weights, name: str
) -> tuple[Foreseen, tuple[Caution, ...]]:
    """Return the picture in the plain network, and a caution where encryption cannot follow.  Errors: WeightsError."""
    foreseen = foresee(weights, set_.refresh, pixels)
    if foreseen.in_range:
        return foreseen, ()
    reached = f"{foreseen.reached:.2f} times what set {set_.number} can take, at {foreseen.layer}"
    return foreseen, (Caution(f"{name} comes to {reached}: the result may be wrong", _RANGE_HINT),)


def check_difference(logits: np.ndarray, foreseen: Foreseen, network: Described, name: str) -> tuple[Caution, ...]:
    """Return a caution where decrypted logits (classes,) are not the plain network's."""
    if alike(network, logits, foreseen):
        return ()
    difference = float(abs(logits - foreseen.logits).max())
    message = f"{name}: a logit is {difference:.2f} from the plain network's: the result may be wrong"
    return (Caution(message, _DIFFERENCE_HINT),)
