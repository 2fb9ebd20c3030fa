"""The Chebyshev ReLU: its error, everywhere and where values lie."""

import numpy as np
import pytest

from lowmem_resnet20.relu import evaluate_series, relu_series

GRID = np.linspace(-1, 1, 40_001)


@pytest.mark.parametrize("degree, worst, typical", [(59, 5.5e-3, 1.0e-3), (119, 2.8e-3, 3.6e-4), (200, 1.7e-3, 1.8e-4)])
def test_error(degree, worst, typical):
    error = evaluate_series(relu_series(degree), GRID) - np.maximum(GRID, 0)
    density = np.exp(-0.5 * (GRID / 0.2) ** 2)
    assert np.abs(error).max() < worst
    assert np.sqrt(np.average(error**2, weights=density)) < typical


@pytest.mark.parametrize("degree", [59, 119, 200])
def test_better_than_interpolation_where_values_lie(degree):
    density = np.exp(-0.5 * (GRID / 0.2) ** 2)
    interpolation = np.polynomial.chebyshev.chebinterpolate(lambda x: np.maximum(x, 0), degree)
    errors = [evaluate_series(c, GRID) - np.maximum(GRID, 0) for c in (relu_series(degree), tuple(interpolation))]
    ours, theirs = (np.sqrt(np.average(error**2, weights=density)) for error in errors)
    assert ours < 0.75 * theirs


def test_odd_part_is_exact():
    """ReLU(x) - ReLU(-x) = x."""
    series = relu_series(59)
    assert np.abs(evaluate_series(series, GRID) - evaluate_series(series, -GRID) - GRID).max() < 1e-12


def test_length():
    assert len(relu_series(200)) == 201
