"""E = exp(2 pi i t) of t = m / 2 + I, which forgets the integers I that raising the modulus has added.

Given x = t / UNIT: a series of exp(2 pi i UNIT x / 2^DOUBLINGS), then so many squarings.  It stays complex throughout,
cosine and sine in one ciphertext.

The series is the least squares fit where |t| <= OVERFLOW, weighted by how often t is there and by LEAST_WEIGHT at
least: E is off by 1e-4 where |t| is below 12, three of its deviations, and by 2e-2 at the bound, which next to no
coefficient comes near.  So degree 15 does, in a level less than uniform precision would take.

Noise.  What rescaling adds to x is multiplied by 2 pi UNIT, what it adds to x^2, near which most of E is decided, by
(2 pi UNIT)^2 / 2^(DOUBLINGS + 2).  So UNIT is below OVERFLOW, and polynomials grow beyond x = 1, up to where the noise
of the few coefficients that are there would grow with them; and there are as many doublings as degree 15 leaves levels.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from ...network.relu import least_squares
from ..ring.arithmetic import Arithmetic, X
from . import series

#: Bound on a coefficient after raising, in units of q_0: 9.6 of the deviations that it has under a secret of Hamming
#: weight 192.  See :func:`log2_failure`.
OVERFLOW = 39
UNIT = 34
DOUBLINGS, DEGREE = 5, 15
LEVELS = series.levels(DEGREE) + DOUBLINGS
#: Of a coefficient after raising; and of the places that none comes near, beside those where most are.
DEVIATION = math.sqrt((192 + 1) / 12)
LEAST_WEIGHT = 1e-4
#: Of the fit, in half of the range.
_POINTS = 2048


def log2_failure(weight: int = 192, overflow: int = OVERFLOW) -> float:
    """log2 of a bound on the probability that raising the modulus brings a coefficient beyond ``overflow``, for any
    message, under a secret with ``weight`` coefficients of 1 and -1.

    In units of q_0 it is one of c_0 + c_1 s, with c_0 in [-1/2, 1/2]: within 1/2 of a sum of n = ``weight``
    coefficients of c_1, which are uniform in [-1/2, 1/2].  Such a sum is beyond b with probability
    2 / n! * sum_j (-1)^j C(n, j) (n/2 - b - j)^n, j < n/2 - b (Irwin and Hall, 1927); here in integers, times 2^n.
    """
    n, beyond = weight, weight - 2 * overflow + 1
    terms = ((-1) ** j * math.comb(n, j) * (beyond - 2 * j) ** n for j in range((beyond + 1) // 2))
    return math.log2(2 * sum(terms)) - n - math.log2(math.factorial(n))


@cache
def coefficients() -> tuple[complex, ...]:
    """Chebyshev coefficients, in x, of exp(2 pi i UNIT x / 2^DOUBLINGS): cosine even, sine odd.

    They are fitted in extended precision, so that they are the same on any processor (see :mod:`...network.relu`).
    """
    t = OVERFLOW * np.cos((np.arange(_POINTS, dtype=np.longdouble) + 0.5) * (np.pi / 2 / _POINTS))
    weight = np.maximum(np.exp(-((t / DEVIATION) ** 2) / 2), LEAST_WEIGHT)
    powers = [np.ones_like(t), t / UNIT]
    while len(powers) <= DEGREE:
        powers.append(2 * powers[1] * powers[-1] - powers[-2])
    basis, turn = np.stack(powers, 1) * weight[:, None], 2 * np.pi * t / 2**DOUBLINGS
    fitted = np.zeros(DEGREE + 1, complex)
    fitted[::2] = least_squares(basis[:, ::2], np.cos(turn) * weight)
    fitted[1::2] = 1j * least_squares(basis[:, 1::2], np.sin(turn) * weight)
    return tuple(fitted)


def exponential(ev: Arithmetic[X], x: X) -> X:
    """exp(2 pi i UNIT x) of real slots, |x| <= OVERFLOW / UNIT, at the chain's scale, as is the result.  LEVELS
    levels."""
    scale = ev.scale_at(ev.towers(x) - series.levels(DEGREE))
    x = series.evaluate(ev, series.Chebyshev(), x, coefficients(), scale)
    for _ in range(DOUBLINGS):
        x = ev.sum_of_products([(x, x)], rescaled=True)
    return x
