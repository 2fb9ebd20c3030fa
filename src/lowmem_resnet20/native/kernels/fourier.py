"""From slots to the coefficients of a plaintext, in float64: the inverse of the special Fourier transform.

Done in OpenFHE's order of operations, so that rounding agrees; its roots come from the same libm.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled
from .jobs import next_job, take

#: Scaled coefficients stay below, as in OpenFHE.
LIMIT = float(1 << 62)


@compiled
def slots_to_coefficients(counter, jobs, scratch, out, real, imaginary, roots, reversed_order, scales):
    """Rounded coefficients of vectors of n slots.

    real, imaginary: (vectors, n); roots: (2, n) of the layers of n, n/2, .. 2 slots one after the other, real parts
    and imaginary ones; reversed_order: (n,); scales: (vectors,); out: int64 (vectors, D), every D / 2n-th is written.
    Scaled coefficients must be below LIMIT."""
    n = len(reversed_order)
    re, im, step = scratch[:n], scratch[n : 2 * n], out.shape[1] // (2 * n)
    job = take(counter)
    while job < jobs:
        for i in range(n):
            re[i], im[i] = real[job, i], imaginary[job, i]
        length, root = n, 0
        while length > 1:
            half = length // 2
            for start in range(0, n, length):
                for j in range(half):
                    a, b = start + j, start + j + half
                    u, v = re[a] - re[b], im[a] - im[b]
                    re[a], im[a] = re[a] + re[b], im[a] + im[b]
                    c, s = roots[0, root + j], roots[1, root + j]
                    re[b], im[b] = u * c - v * s, u * s + v * c
            length, root = half, root + half
        for i in range(n):
            at = reversed_order[i]
            a, b = _rounded(re[at] / n * scales[job]), _rounded(im[at] / n * scales[job])
            out[job, i * step], out[job, (n + i) * step] = np.int64(a), np.int64(b)
        job = next_job(counter)


@compiled
def _rounded(x):
    """The nearest integer, halves away from zero."""
    whole = np.trunc(x)
    return whole + np.copysign(1.0, x) if abs(x - whole) >= 0.5 else whole


@cache
def fourier_roots(n: int) -> NDArray[np.float64]:
    """(2, n) roots of the inverse transform's layers of n, n/2, .. 2 slots: exp(2 pi i k / (4 length)), k = 4 length
    - 5^j, and a zero.

    By libm's functions of single numbers, as OpenFHE: numpy's may differ in the last bit.
    """
    roots, length = [], n
    while length > 1:
        power = 1
        for _ in range(length // 2):
            angle = 2.0 * math.pi * (4 * length - power) / (4 * length)
            roots.append((math.cos(angle), math.sin(angle)))
            power = power * 5 % (4 * length)
        length //= 2
    return np.ascontiguousarray(np.array([*roots, (0.0, 0.0)]).T)
