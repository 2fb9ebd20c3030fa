"""Arrays as vector instructions like them.

numpy aligns to 16 bytes, where every other load of 64 bytes would touch two cache lines.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64


def address(array: NDArray) -> int:
    """Of the first element: what ``array.ctypes.data`` is, in a fraction of its time."""
    return int(array.__array_interface__["data"][0])


def aligned(*shape: int, dtype: DTypeLike = np.float64) -> NDArray:
    """An array that starts on a cache line; its contents are undefined."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    raw = np.empty(size + CACHE_LINE, np.uint8)
    start = -address(raw) % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: NDArray, dtype: DTypeLike | None = None) -> NDArray:
    """The same values, starting on a cache line."""
    copy = aligned(*array.shape, dtype=dtype or array.dtype)
    copy[...] = array
    return copy
