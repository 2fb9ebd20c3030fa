"""The simulated noise: its size, and the slots near 1 where lowering from QP leaves most."""

import numpy as np
import pytest
from schemenoise import WEIGHT, SchemeNoise

from lowmem_resnet20.native.refresh.embedding import coefficients_of_slots
from lowmem_resnet20.native.refresh.noise import Noise

RING, SPECIAL = 1 << 12, 7


@pytest.fixture(scope="module")
def noise() -> SchemeNoise:
    return SchemeNoise(RING, SPECIAL, np.random.default_rng(2))


def deviation(slots: np.ndarray) -> float:
    return float(np.std(coefficients_of_slots(slots)))


def test_rescaling(noise):
    assert deviation(noise.rescaling()) == pytest.approx(np.sqrt((1 + WEIGHT) / 12), rel=0.05)


def test_switching(noise):
    """The part that changes from one key switch to another, and the part that does not: a mean of -k/2, times 1 + s."""
    first, second = noise.switching(), noise.switching()
    changing = deviation(first - second) / np.sqrt(2)
    assert changing == pytest.approx(np.sqrt(SPECIAL * (1 + WEIGHT) / 12), rel=0.05)
    common = coefficients_of_slots((first + second) / 2)
    assert np.std(common) > 3 * changing
    assert np.abs((first + second) / 2)[0] > 20 * np.median(np.abs(first))


def test_encoding_is_that_of_the_period(noise):
    """Rounded coefficients: 2 n of them for a vector that repeats with period n."""
    error = noise.encoding(64)
    assert len(error) == 64
    assert deviation(error) == pytest.approx(1 / np.sqrt(12), rel=0.2)


def test_none():
    none = Noise()
    assert none.rescaling() == none.switching() == none.encoding(8) == 0
    assert none.overflows(np.ones(4)) == 0
