"""Pictures for the page to show: what the network sees, and what of it a server sees."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

#: Side, in pixels, of the view of a ciphertext.
NOISE_WIDTH = 64
#: Bytes of each of a ciphertext's numbers.
_WORD = 8


def png_of_pixels(pixels: np.ndarray) -> bytes:
    """Of pixels (3, width, width) in [0, 1]."""
    return _png(np.rint(255 * pixels).astype(np.uint8).transpose(1, 2, 0))


def png_of_bytes(payload: bytes) -> bytes:
    """Of numbers from the middle of a ciphertext, the three lowest bytes of each as red, green and blue.

    OpenFHE writes 64 bits a number, of which the highest are 0 in all, for its primes are shorter: so it can be told
    where a number begins.
    """
    count = NOISE_WIDTH**2
    some = np.frombuffer(payload, np.uint8, offset=max(len(payload) // 2 - _WORD * count // 2, 0))
    some = np.resize(some[: _WORD * count], _WORD * (count + 1))
    zeros = (some.reshape(-1, _WORD) == 0).mean(0) > 0.5
    begins = next((i for i in range(_WORD) if zeros[i - 1] and not zeros[i]), 0)
    numbers = some[begins : begins + _WORD * count].reshape(NOISE_WIDTH, NOISE_WIDTH, _WORD)
    return _png(numbers[:, :, :3])


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()
