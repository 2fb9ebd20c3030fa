"""E = exp(2 pi i t) of t = m / 2 + I, which forgets the integers I that raising the modulus has added.

Given x = t / OVERFLOW in [-1, 1]: a Chebyshev series of exp(2 pi i OVERFLOW x / 2^DOUBLINGS), then so many squarings.
It stays complex throughout, cosine and sine in one ciphertext.  The series is off by at most the 2 |J_k(39 pi / 8)|,
k > 31, that it leaves out; each squaring doubles that, and all is far below the noise.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev

from . import series
from .arithmetic import Arithmetic, X

#: Bound on a coefficient after raising, in units of q_0: 9.6 of the deviations that it has under a secret of Hamming
#: weight 192.  See :func:`log2_failure`.
OVERFLOW = 39
DOUBLINGS, DEGREE = 4, 31
LEVELS = series.levels(DEGREE) + DOUBLINGS


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
    """Chebyshev coefficients of exp(2 pi i OVERFLOW x / 2^DOUBLINGS) on [-1, 1]: cosine even, sine odd."""
    turn = 2 * np.pi * OVERFLOW / 2**DOUBLINGS
    cosine = chebyshev.chebinterpolate(lambda x: np.cos(turn * x), DEGREE)
    sine = chebyshev.chebinterpolate(lambda x: np.sin(turn * x), DEGREE)
    even = np.arange(DEGREE + 1) % 2 == 0
    return tuple(np.where(even, cosine, 1j * sine))


def exponential(ev: Arithmetic[X], x: X) -> X:
    """exp(2 pi i OVERFLOW x) of real slots x in [-1, 1] at the chain's scale, as is the result.  LEVELS levels."""
    scale = ev.scale_at(ev.towers(x) - series.levels(DEGREE))
    x = ev.rescale(series.evaluate(ev, series.Chebyshev(), x, coefficients(), scale))
    for _ in range(DOUBLINGS):
        x = ev.rescale(ev.sum_of_products([(x, x)]))
    return x
