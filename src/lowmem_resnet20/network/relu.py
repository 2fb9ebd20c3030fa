"""The ReLU as a series: Chebyshev on [-1, 1], or the Fourier series that a functional refresh evaluates.

Inputs arrive divided by a bound of their channel, so that they lie within ``reach``; most lie well inside.  The fits
are therefore weighted least squares: weight where the values are, and enough everywhere that the error near the ends
stays that of plain interpolation or below.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import chebyshev

#: Standard deviation of a scaled pre-activation, and the weight of a value anywhere in range beside it.
TYPICAL_DEVIATION = 0.1
UNIFORM_WEIGHT = 0.01
#: A Fourier series of period 2 refreshes inputs in [-reach, reach]; near 1 its ReLU falls from 1 to 0.
FOURIER_REACH = 0.9
#: That of the series which only refreshes, which is short and so keeps away from the jump.
IDENTITY_REACH = 0.5
#: Least squares penalties, as a part of the mean square of the basis: they keep coefficients, and so noise, small.
_RELU_RIDGE, _IDENTITY_RIDGE = 1e-6, 1e-12


@cache
def relu_series(degree: int) -> tuple[float, ...]:
    """Chebyshev coefficients c_0 .. c_degree of an approximation of max(0, x) on [-1, 1].

    The value is ``sum_k c_k T_k(x)`` (numpy's convention; OpenFHE halves c_0).  Since ReLU is x/2 + |x|/2,
    every odd coefficient but c_1 is 0.
    """
    angles = (np.arange(4096) + 0.5) * np.pi / 4096
    x = np.cos(angles)
    weight = np.sqrt(_density(x) * np.sin(angles))  # sin: the nodes crowd at the ends
    even = np.arange(0, degree + 1, 2)
    basis = np.cos(np.outer(angles, even))
    half_modulus, *_ = np.linalg.lstsq(basis * weight[:, None], np.abs(x) / 2 * weight, rcond=None)
    coefficients = np.zeros(degree + 1)
    coefficients[even] = half_modulus
    coefficients[1] += 0.5
    return tuple(coefficients)


def evaluate_series(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """The Chebyshev series at ``x``, in the clear."""
    return chebyshev.chebval(x, np.asarray(coefficients))


@cache
def relu_fourier(degree: int) -> tuple[complex, ...]:
    """Fourier coefficients c_0 .. c_degree of an approximation of max(0, m) within FOURIER_REACH.

    The value is ``2 Re(sum_j c_j exp(i pi j m))``, OpenFHE's convention: cosines make |m|/2, sines m/2.
    """
    m = np.linspace(-FOURIER_REACH, FOURIER_REACH, 4097)
    weight = np.sqrt(_density(m / FOURIER_REACH))
    cosines = np.cos(np.pi * np.outer(m, np.arange(degree + 1)))
    sines = np.sin(np.pi * np.outer(m, np.arange(degree + 1)))
    even = _ridge_fit(cosines * weight[:, None], np.abs(m) / 2 * weight, _RELU_RIDGE)
    odd = _ridge_fit(sines * weight[:, None], m / 2 * weight, _RELU_RIDGE)
    return tuple((even - 1j * odd) / 2)


@cache
def identity_fourier(degree: int) -> tuple[complex, ...]:
    """Fourier coefficients of an approximation of m within IDENTITY_REACH, as those of :func:`relu_fourier`."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 4097)
    m = IDENTITY_REACH * np.sin(angles)  # denser at the ends, where errors are largest
    sines = np.sin(np.pi * np.outer(m, np.arange(degree + 1)))
    return tuple(-0.5j * _ridge_fit(sines, m, _IDENTITY_RIDGE))


def evaluate_fourier(coefficients: tuple[complex, ...], m: np.ndarray) -> np.ndarray:
    """The Fourier series at ``m``, in the clear (Horner's rule)."""
    turn = np.exp(1j * np.pi * m)
    total = np.zeros_like(turn)
    for c in reversed(coefficients):
        total = total * turn + c
    return 2 * total.real


def _density(x: np.ndarray) -> np.ndarray:
    """How often a value x of [-1, 1] is met, up to a factor."""
    return np.exp(-0.5 * (x / TYPICAL_DEVIATION) ** 2) + UNIFORM_WEIGHT


def _ridge_fit(basis: np.ndarray, target: np.ndarray, ridge: float) -> np.ndarray:
    normal = basis.T @ basis
    penalty = ridge * np.trace(normal) / len(normal)
    return np.linalg.solve(normal + penalty * np.eye(len(normal)), basis.T @ target)
