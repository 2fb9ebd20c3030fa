"""E = exp(2 pi i t) of t = m / 2 + I, which forgets the integers I that raising the modulus has added.

Given x = t / OVERFLOW in [-1, 1]: a Chebyshev series of exp(2 pi i OVERFLOW x / 2^DOUBLINGS), then so many squarings.
It stays complex throughout, cosine and sine in one ciphertext.  The series is off by at most the 2 |J_k(4 pi)|, k > 28,
that it leaves out; each squaring doubles that, and all is far below the noise.

A series of degree 28 costs 8 products and 5 levels.  With four squarings degree 15 would do at the same 8 levels and no
fewer products, but for an error of 1e-4; with two, degree 47 takes 6 levels, 8 in all, and more products.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from . import series
from .arithmetic import Arithmetic, X

#: Bound on a coefficient after raising, in units of q_0.  Under a sparse secret of Hamming weight 32 it is a sum of 33
#: uniforms in [-1/2, 1/2], and one of 2^16 is beyond 16 with a probability of 2^16 * 2 * 0.5^33 / 33! < 2^-137.
OVERFLOW = 16
DOUBLINGS, DEGREE = 3, 28
LEVELS = series.levels(DEGREE) + DOUBLINGS


@cache
def coefficients() -> tuple[complex, ...]:
    """Chebyshev coefficients of exp(2 pi i OVERFLOW x / 2^DOUBLINGS) on [-1, 1]: cosine even, sine odd.

    They interpolate it; in extended precision, so that they are the same on any processor (see :mod:`..network.relu`).
    """
    points = DEGREE + 1
    angles = (np.arange(points, dtype=np.longdouble) + 0.5) * (np.pi / points)
    turns = 2 * np.pi * OVERFLOW / 2**DOUBLINGS * np.cos(angles)
    k = np.arange(points)
    even = k % 2 == 0
    values = np.where(even[:, None], np.cos(turns), np.sin(turns)) * np.cos(np.outer(k, angles))
    found = (values.sum(1) * np.where(k > 0, 2, 1) / points).astype(np.float64)
    return tuple(np.where(even, found, 1j * found))


def exponential(ev: Arithmetic[X], x: X) -> X:
    """exp(2 pi i OVERFLOW x) of real slots x in [-1, 1] at the chain's scale, as is the result.  LEVELS levels."""
    scale = ev.scale_at(ev.towers(x) - series.levels(DEGREE))
    x = ev.rescale(series.evaluate(ev, series.Chebyshev(), x, coefficients(), scale))
    for _ in range(DOUBLINGS):
        x = ev.rescale(ev.sum_of_products([(x, x)]))
    return x
