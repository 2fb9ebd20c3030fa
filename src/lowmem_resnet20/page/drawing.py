"""Pictures for the page to show: what the network sees, and what of it a server sees."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

#: Side, in pixels, of the view of a ciphertext: as of the picture itself.
NOISE_WIDTH = 32
#: Bytes of each of a ciphertext's numbers.
_WORD = 8
#: Places in a ciphertext that are looked at for numbers.
_TRIES = 32


def png_of_pixels(pixels: np.ndarray) -> bytes:
    """Draw pixels (3, width, width) in [0, 1]."""
    return _png(np.rint(255 * pixels).astype(np.uint8).transpose(1, 2, 0))


def place_of_numbers(payload: bytes) -> int:
    """Return where in a ciphertext as many numbers as the view shows stand one after the other, the first whole.

    OpenFHE writes 64 bits a number, of which the highest are 0 in all, for its primes are shorter: by that it is told
    where a number begins.  Where none is found, the payload's own beginning.
    """
    length = _WORD * NOISE_WIDTH**2
    most, place = 0, 0  # where two runs of numbers meet, each out of step with the other, fewer are 0 in all
    for start in range(0, max(len(payload) - length - _WORD, 0), max(len(payload) // _TRIES, 1)):
        zero = (np.frombuffer(payload, np.uint8, length, start).reshape(-1, _WORD) == 0).all(0)
        begins = [i for i in range(_WORD) if zero[i - 1] and not zero[i]]
        if len(begins) == 1 and zero.sum() > most:
            most, place = int(zero.sum()), start + begins[0]
    return place


def png_of_numbers(payload: bytes, place: int) -> bytes:
    """Draw the numbers from ``place`` on, the three lowest bytes of each as red, green and blue."""
    length = _WORD * NOISE_WIDTH**2
    some = np.resize(np.frombuffer(payload[place : place + length], np.uint8), length)
    return _png(some.reshape(NOISE_WIDTH, NOISE_WIDTH, _WORD)[:, :, :3])


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()
