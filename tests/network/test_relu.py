"""The ReLU as a series: its error, everywhere and where values lie."""

import numpy as np
import pytest

from lowmem_resnet20.network.relu import (
    FIT_CHOICES,
    FOURIER_REACH,
    IDENTITY_REACH,
    evaluate_fourier,
    evaluate_series,
    identity_fourier,
    least_squares,
    relu_fourier,
    relu_series,
)

GRID = np.linspace(-1, 1, 40_001)


@pytest.mark.parametrize("degree, worst, typical", [(59, 7e-3, 1.2e-3), (119, 2.8e-3, 4.6e-4), (200, 1.6e-3, 2.2e-4)])
def test_error(degree, worst, typical):
    error = evaluate_series(relu_series(degree), GRID) - np.maximum(GRID, 0)
    density = np.exp(-0.5 * (GRID / 0.1) ** 2)
    assert np.abs(error).max() < worst
    assert np.sqrt(np.average(error**2, weights=density)) < typical


@pytest.mark.parametrize("degree", [59, 119, 200])
def test_better_than_interpolation_where_values_lie(degree):
    density = np.exp(-0.5 * (GRID / 0.1) ** 2)
    interpolation = np.polynomial.chebyshev.chebinterpolate(lambda x: np.maximum(x, 0), degree)
    errors = [evaluate_series(c, GRID) - np.maximum(GRID, 0) for c in (relu_series(degree), tuple(interpolation))]
    ours, theirs = (np.sqrt(np.average(error**2, weights=density)) for error in errors)
    assert ours < 0.65 * theirs


def test_odd_part_is_exact():
    """ReLU(x) - ReLU(-x) = x."""
    series = relu_series(59)
    assert np.abs(evaluate_series(series, GRID) - evaluate_series(series, -GRID) - GRID).max() < 1e-12


def test_length():
    assert len(relu_series(200)) == 201
    assert len(relu_fourier(27)) == 28


@pytest.mark.parametrize("degree, worst, typical", [(13, 1.6e-2, 1.9e-3), (27, 4.5e-3, 7.5e-4), (59, 2.6e-3, 2.6e-4)])
def test_fourier_error(degree, worst, typical):
    m = FOURIER_REACH * GRID
    error = evaluate_fourier(relu_fourier(degree), m) - np.maximum(m, 0)
    density = np.exp(-0.5 * (GRID / 0.1) ** 2)
    assert np.abs(error).max() < worst
    assert np.sqrt(np.average(error**2, weights=density)) < typical


def test_fourier_series_stay_small():
    """Noise grows with the coefficients, and a value out of range must not blow up."""
    for series in (relu_fourier(13), relu_fourier(27), identity_fourier(5)):
        assert np.abs(series).sum() < 0.65
        assert np.abs(evaluate_fourier(series, np.linspace(-1, 1, 2001))).max() < 0.9


def test_fourier_convention():
    """The value is 2 Re(sum_j c_j exp(i pi j m))."""
    m, series = np.array([-0.3, 0.2]), (0.5, 0.25 - 0.5j)
    expected = 1 + 0.5 * np.cos(np.pi * m) + np.sin(np.pi * m)
    assert np.abs(evaluate_fourier(series, m) - expected).max() < 1e-12


def test_other_coefficients_are_another_version():
    """Fingerprints hold the version, and not the coefficients: with these, raise it."""
    assert FIT_CHOICES["version"] == 2
    known = {
        relu_series(59): {0: 0.3183813407349689, 2: 0.2123524258024419},
        relu_series(200): {100: -7.300180007489045e-05},
        relu_fourier(31): {0: 0.11362227148120611, 1: -0.07872786414551013 - 0.15640411335218707j},
        identity_fourier(7): {1: -0.2903513212619055j, 3: -0.04519530020584013j},
    }
    for series, coefficients in known.items():
        for index, value in coefficients.items():
            assert abs(series[index] - value) < 1e-13


def test_least_squares_are_the_least():
    """The gradient of |basis c - target|^2 + penalty |c|^2 is zero, in float64, where the condition allows it."""
    random = np.random.default_rng(0)
    basis, target = random.normal(size=(60, 7)), random.normal(size=60)
    for ridge in (0.0, 1e-3):
        found = least_squares(basis.astype(np.longdouble), target.astype(np.longdouble), ridge)
        penalty = ridge * (basis**2).sum() / 7
        assert np.abs(basis.T @ (basis @ found - target) + penalty * found).max() < 1e-12
        assert found.dtype == np.float64


def test_fourier_identity():
    assert np.abs(evaluate_fourier(identity_fourier(5), IDENTITY_REACH * GRID) - IDENTITY_REACH * GRID).max() < 4e-5
