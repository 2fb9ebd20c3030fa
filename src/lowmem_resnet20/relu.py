"""The ReLU as a Chebyshev series on [-1, 1].

Inputs arrive divided by a bound of their channel, so that they lie in [-1, 1]; most lie well inside.  The
fit is therefore a weighted least squares one: weight where the values are, and enough everywhere that the
error near the ends stays that of plain interpolation or below.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import chebyshev

#: Standard deviation of a scaled pre-activation, and the weight of a value anywhere in [-1, 1] beside it.
TYPICAL_DEVIATION = 0.2
UNIFORM_WEIGHT = 0.1


@cache
def relu_series(degree: int) -> tuple[float, ...]:
    """Chebyshev coefficients c_0 .. c_degree of an approximation of max(0, x) on [-1, 1].

    The value is ``sum_k c_k T_k(x)`` (numpy's convention; OpenFHE halves c_0).  Since ReLU is x/2 + |x|/2,
    every odd coefficient but c_1 is 0.
    """
    angles = (np.arange(4096) + 0.5) * np.pi / 4096
    x = np.cos(angles)
    density = np.exp(-0.5 * (x / TYPICAL_DEVIATION) ** 2) + UNIFORM_WEIGHT
    weight = np.sqrt(density * np.sin(angles))  # sin: the nodes crowd at the ends
    even = np.arange(0, degree + 1, 2)
    basis = np.cos(np.outer(angles, even))
    half_modulus, *_ = np.linalg.lstsq(basis * weight[:, None], np.abs(x) / 2 * weight, rcond=None)
    coefficients = np.zeros(degree + 1)
    coefficients[even] = half_modulus
    coefficients[1] += 0.5
    return tuple(coefficients)


def evaluate_series(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """The series at ``x``, in the clear."""
    return chebyshev.chebval(x, np.asarray(coefficients))
