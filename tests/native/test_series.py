"""Polynomials of a ciphertext, in the clear: values, levels, scales, products."""

import numpy as np
import pytest
from chains import clear_arithmetic, worst
from numpy.polynomial import chebyshev, polynomial

from lowmem_resnet20.native.refresh import series
from lowmem_resnet20.native.refresh.series import Chebyshev, Powers, decompose, evaluate
from lowmem_resnet20.native.ring.keynames import RELINEARISATION

RING, TOWERS = 64, 9
BASES = [(Chebyshev(), chebyshev.chebval), (Powers(), polynomial.polyval)]


@pytest.mark.parametrize("degree", [*range(1, 32), 40, 63])
@pytest.mark.parametrize("basis, value", BASES)
def test_value_levels_and_scale(basis, value, degree):
    random = np.random.default_rng(degree)
    coefficients = random.normal(size=degree + 1) + 1j * random.normal(size=degree + 1)
    ev = clear_arithmetic(RING, TOWERS)
    z = random.uniform(-1, 1, RING // 2)
    result = evaluate(ev, basis, ev.encrypt(z, TOWERS), coefficients, ev.scale_at(2))
    assert worst(result.values - value(z, coefficients)) < 1e-8
    assert result.towers == TOWERS - series.levels(degree)
    assert result.scale == pytest.approx(ev.scale_at(2), rel=1e-14)


@pytest.mark.parametrize("degree", range(1, 32))
@pytest.mark.parametrize("basis, value", BASES)
def test_products_are_what_the_decomposition_says(basis, value, degree):
    ev = clear_arithmetic(RING, TOWERS)
    coefficients = np.ones(degree + 1)
    evaluate(ev, basis, ev.encrypt(np.ones(1), TOWERS), coefficients, ev.scale_at(2))
    done = sum(times for (name, _), times in ev.operations.items() if name == "relinearise")
    plan = decompose(basis, coefficients)
    assert done == plan.products + len(series.made(plan.powers()))
    assert done == 0 or ev.keys == {RELINEARISATION: TOWERS}


@pytest.mark.parametrize("degree, products", [(5, 3), (14, 6), (15, 7), (27, 8), (28, 8), (31, 10)])
def test_fewest_products(degree, products):
    for basis, _ in BASES:
        plan = decompose(basis, np.random.default_rng(degree).normal(size=degree + 1))
        assert plan.products + len(series.made(plan.powers())) == products


def test_zero_coefficients_are_not_multiplied():
    """An odd series has no even terms."""
    plan = decompose(Powers(), (0, 1, 0, 2, 0, 3))
    assert 0 not in plan.linear and 2 not in plan.linear


def test_levels():
    assert [series.levels(degree) for degree in (1, 2, 3, 4, 7, 8, 15, 16, 28)] == [1, 2, 2, 3, 3, 4, 4, 5, 5]
