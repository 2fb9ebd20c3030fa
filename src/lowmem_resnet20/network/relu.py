"""The ReLU as a series: Chebyshev on [-1, 1], or the Fourier series that a functional refresh evaluates.

Inputs arrive divided by a bound of their channel, so that they lie within ``reach``; most lie well inside.  The fits
are therefore weighted least squares: weight where the values are, and enough everywhere that the error near the ends
stays that of plain interpolation or below.

Client and server compute the same coefficients whatever their processors are.  Libraries of linear algebra, and numpy's
double-precision functions, have another code for each; so the fits are made in extended precision, for which they have
one, without such a library, and rounded at the end.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import chebyshev

from .fingerprint import Choice

#: Standard deviation of a scaled pre-activation, and the weight of a value anywhere in range beside it.
TYPICAL_DEVIATION = 0.1
UNIFORM_WEIGHT = 0.01
#: A Fourier series of period 2 refreshes inputs in [-reach, reach]; near 1 its ReLU falls from 1 to 0.
FOURIER_REACH = 0.9
#: That of the series which only refreshes, which is short and so keeps away from the jump.
IDENTITY_REACH = 0.5
#: Least squares penalties, as a part of the mean square of the basis: they keep coefficients, and so noise, small.
_RELU_RIDGE, _IDENTITY_RIDGE = 1e-6, 1e-12
#: Pieces between the points of a fit, in half of the range: what is fitted is even or odd.
_PIECES = 2048
#: What series are made by, beside their degree, for fingerprints.  version: raised whenever the functions here come to
#: make others of the same constants.
FIT_CHOICES: dict[str, Choice] = {
    "version": 2,
    "typical deviation": TYPICAL_DEVIATION,
    "uniform weight": UNIFORM_WEIGHT,
    "ridges": [_RELU_RIDGE, _IDENTITY_RIDGE],
    "pieces": _PIECES,
}


@cache
def relu_series(degree: int) -> tuple[float, ...]:
    """Chebyshev coefficients c_0 .. c_degree of an approximation of max(0, x) on [-1, 1].

    The value is ``sum_k c_k T_k(x)`` (numpy's convention; OpenFHE halves c_0).  Since ReLU is x/2 + |x|/2,
    every odd coefficient but c_1 is 0.
    """
    angles = (np.arange(_PIECES, dtype=np.longdouble) + 0.5) * (np.pi / 2 / _PIECES)
    x = np.cos(angles)
    weight = np.sqrt(_density(x) * np.sin(angles))  # sin: the nodes crowd at the ends
    even = np.arange(0, degree + 1, 2)
    coefficients = np.zeros(degree + 1)
    coefficients[even] = least_squares(np.cos(np.outer(angles, even)) * weight[:, None], x / 2 * weight)
    coefficients[1] += 0.5
    return tuple(coefficients)


def evaluate_series(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Return the Chebyshev series at ``x``, in the clear."""
    return chebyshev.chebval(x, np.asarray(coefficients))


@cache
def relu_fourier(degree: int) -> tuple[complex, ...]:
    """Fourier coefficients c_0 .. c_degree of an approximation of max(0, m) within FOURIER_REACH.

    The value is ``2 Re(sum_j c_j exp(i pi j m))``, OpenFHE's convention: cosines make |m|/2, sines m/2.
    """
    m = np.linspace(0, FOURIER_REACH, _PIECES + 1, dtype=np.longdouble)
    weight = np.sqrt(_density(m / FOURIER_REACH))
    weight[0] /= np.sqrt(np.longdouble(2))  # the other points stand for two
    turns = np.pi * np.outer(m, np.arange(degree + 1))
    even, odd = (
        least_squares(basis * weight[:, None], m / 2 * weight, _RELU_RIDGE) for basis in (np.cos(turns), np.sin(turns))
    )
    return tuple((even - 1j * odd) / 2)


@cache
def identity_fourier(degree: int) -> tuple[complex, ...]:
    """Fourier coefficients of an approximation of m within IDENTITY_REACH, as those of :func:`relu_fourier`."""
    angles = np.linspace(0, np.pi / 2, _PIECES + 1, dtype=np.longdouble)
    m = IDENTITY_REACH * np.sin(angles)  # denser at the ends, where errors are largest
    sines = np.sin(np.pi * np.outer(m, np.arange(degree + 1)))
    return tuple(-0.5j * least_squares(sines, m, _IDENTITY_RIDGE))


def evaluate_fourier(coefficients: tuple[complex, ...], m: np.ndarray) -> np.ndarray:
    """Return the Fourier series at ``m``, in the clear (Horner's rule)."""
    turn = np.exp(1j * np.pi * m)
    total = np.zeros_like(turn)
    for c in reversed(coefficients):
        total = total * turn + c
    return 2 * total.real


def _density(x: np.ndarray) -> np.ndarray:
    """Return how often a value x of [-1, 1] is met, up to a factor."""
    return np.exp(-0.5 * (x / TYPICAL_DEVIATION) ** 2) + UNIFORM_WEIGHT


def least_squares(basis: np.ndarray, target: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """(n,) float64 c that makes |basis c - target|^2 + penalty |c|^2 least; the penalty is ``ridge`` times the mean
    square of the basis (points, n)'s columns.  basis, target (points,): extended precision.

    Modified Gram-Schmidt on both and on the penalty's rows, target last, which is as good as Householder's reflections
    (Bjoerck 1967); never the normal equations, whose condition is the square.
    """
    n = basis.shape[1]
    root = np.sqrt(ridge * (basis**2).sum() / n)
    rows = np.vstack([np.column_stack([basis, target]), root * np.eye(n, n + 1)])
    triangle = np.zeros((n, n + 1), np.longdouble)
    for k in range(n):
        rest = rows[:, k:]
        norm = np.sqrt((rest[:, 0] ** 2).sum())
        direction = rest[:, 0] / norm
        triangle[k, k:] = (direction[:, None] * rest).sum(0)
        rest -= np.outer(direction, triangle[k, k:])
    found = np.zeros(n, np.longdouble)
    for k in reversed(range(n)):
        found[k] = (triangle[k, n] - (triangle[k, k:n] * found[k:]).sum()) / triangle[k, k]
    return found.astype(np.float64)
