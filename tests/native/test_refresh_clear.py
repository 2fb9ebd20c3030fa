"""The native refresh without encryption: values, levels, keys, and the noise it would have."""

import math

import numpy as np
import pytest
from chains import clear_arithmetic, worst
from schemenoise import Overflows, SchemeNoise

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.native.keys.keyplan import refresh_plan
from lowmem_resnet20.native.keys.refreshkeys import refresh_keys
from lowmem_resnet20.native.refresh import exponential, series
from lowmem_resnet20.native.refresh.refresh import Refresh, prepare
from lowmem_resnet20.native.ring.keynames import CONJUGATION, RELINEARISATION
from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.refreshplan import (
    FEWEST_KEYS,
    FEWEST_KEYS_ALL_SLOTS,
    LEAST_TIME,
    LEAST_TIME_ALL_SLOTS,
    MODULAR_LEVELS,
    Grouping,
    RefreshPlan,
    Steps,
    series_levels,
)
from lowmem_resnet20.network.relu import FOURIER_REACH, IDENTITY_REACH, evaluate_fourier, identity_fourier, relu_fourier

RING = 1 << 10
#: What the exponential's fit leaves where coefficients are, as an error of the result.
FIT = 1e-3
SMALL = {steps: RefreshPlan(Grouping((3, 4, 2), (4, 4, 4)), Grouping((2, 3, 3), (4, 4, 4)), steps) for steps in Steps}


def refreshed(plan, slots, coefficients, values, noise, ring=RING, bits=36):
    """The arithmetic, the result and what it should be."""
    degree = len(coefficients) - 1
    ev = clear_arithmetic(ring, plan.reserve + 2 + plan.levels(degree) + 1, noise, bits)
    refresh = Refresh(ev, plan, prepare(plan, ring, slots))
    result = refresh(ev.encrypt(values, plan.reserve + 1), coefficients)
    return ev, result, evaluate_fourier(coefficients, values)


@pytest.mark.parametrize("slots", [RING // 2, RING // 4, RING // 16])
@pytest.mark.parametrize("plan", SMALL.values(), ids=lambda plan: plan.steps.value)
@pytest.mark.parametrize("degree", [13, 15, 27])
def test_function_of_every_slot(plan, slots, degree):
    """Full and sparse packing; multiples of q_0 as large as they come; repeated over all slots; the scale exact."""
    random = np.random.default_rng(slots + degree)
    values = random.uniform(-FOURIER_REACH, FOURIER_REACH, slots)
    values[:3] = 0, FOURIER_REACH, -FOURIER_REACH
    ev, result, expected = refreshed(plan, slots, relu_fourier(degree), values, Overflows(random))
    assert worst(result.values - np.tile(expected, RING // 2 // slots)) < FIT
    assert result.towers >= len(ev.moduli) - plan.levels(degree)
    assert result.scale == pytest.approx(ev.scale_at(result.towers), rel=1e-12)
    assert result.slots == slots


@pytest.mark.parametrize("plan", SMALL.values(), ids=lambda plan: plan.steps.value)
def test_identity(plan):
    random = np.random.default_rng(3)
    values = random.uniform(-IDENTITY_REACH, IDENTITY_REACH, RING // 4)
    _, result, expected = refreshed(plan, RING // 4, identity_fourier(5), values, Overflows(random))
    assert worst(result.values[: RING // 4] - expected) < FIT
    assert worst(expected - values) < 4e-5
    assert plan.levels(15) - plan.levels(5) == 1 and plan.levels(27) - plan.levels(5) == 2


def test_imaginary_parts_are_ignored():
    """A real function of the real parts: what noise leaves in the imaginary ones does not matter."""
    random = np.random.default_rng(4)
    values, plan = random.uniform(-0.5, 0.5, RING // 4), SMALL[Steps.HOISTED]
    _, result, _ = refreshed(plan, RING // 4, relu_fourier(13), values, Overflows(random))
    assert worst(result.values.imag) < 1e-6


def test_overflows_are_those_of_the_secret():
    """Standard deviation sqrt(193 / 12) in units of q_0, and as good as never beyond OVERFLOW."""
    residues = np.random.default_rng(0).uniform(-0.5, 0.5, 1 << 14)
    total = residues + Overflows(np.random.default_rng(1)).overflows(residues)
    assert np.std(total) == pytest.approx(math.sqrt(193 / 12), rel=0.03)
    assert worst(total) < exponential.OVERFLOW


def test_the_bound_on_failures():
    """Against sums of few uniforms, whose polynomials are known, and of as many as the secret has ones, in steps: the
    number of ways that dice fall comes near the sum of uniforms, and has no cancelling terms."""
    assert 2 ** exponential.log2_failure(2, 1) == pytest.approx(0.25)  # of two, that |S| > 1/2
    assert 2 ** exponential.log2_failure(3, 1) == pytest.approx(1 / 3)  # of three, 1 - 2 * (3/8 - 1/24)
    faces = 41
    die = np.full(faces, 1 / faces)
    total = np.ones(1)
    for _ in range(192):
        total = np.convolve(total, die)
    values = (np.arange(len(total)) - (len(total) - 1) / 2) / faces
    for overflow in (8, 16, 24):
        expected = total[np.abs(values) > overflow - 0.5].sum()
        assert 2 ** exponential.log2_failure(192, overflow) == pytest.approx(expected, rel=0.06)
    assert exponential.log2_failure() == pytest.approx(-73.9, abs=0.1)


def test_plans_count_the_levels_that_are_spent():
    assert exponential.LEVELS == MODULAR_LEVELS
    assert all(series.levels(degree) == series_levels(degree) for degree in range(1, 64))


def test_exponential_within_its_bound_and_no_further():
    """Off by 1e-4 at three deviations of t, by 2e-2 at the bound; a tenth beyond, useless: the bound is needed."""
    fit = exponential.coefficients()

    def error(reach):
        t = np.linspace(-reach, reach, 20_001)
        x = t / exponential.UNIT
        return worst(np.polynomial.chebyshev.chebval(x, fit) ** 2**exponential.DOUBLINGS - np.exp(2j * np.pi * t))

    assert error(3 * exponential.DEVIATION) < 1.1e-4
    assert error(exponential.OVERFLOW) < 2e-2
    assert error(1.1 * exponential.OVERFLOW) > 1


@pytest.mark.parametrize("plan", SMALL.values(), ids=lambda plan: plan.steps.value)
def test_noise_on_a_small_ring(plan):
    random = np.random.default_rng(5)
    values = random.normal(0, 0.1, RING // 4)
    noise = SchemeNoise(RING, 2, random)
    _, result, expected = refreshed(plan, RING // 4, relu_fourier(15), values, noise, bits=28)
    assert 1e-5 < np.std(result.values[: RING // 4] - expected) < 1e-4


class Largest(SchemeNoise):
    """Of the multiples of q_0 one in a hundred is the largest that the bound allows."""

    def overflows(self, residues: np.ndarray) -> np.ndarray:
        found = super().overflows(residues)
        places = self.random.choice(len(found), len(found) // 100, replace=False)
        found[places] = self.random.choice((-1, 1), len(places)) * (exponential.OVERFLOW - 1)
        return found


def shipped(set_):
    """A shipped set's refresh of its largest layer, values, and what it makes of them with a kind of noise."""

    def refresh(noise, seed=6):
        random, slots, plan = np.random.default_rng(seed), set_.stage_slots(1), refresh_plan(set_)
        values, series = random.normal(0, 0.1, slots), relu_fourier(set_.refresh.degree)
        noise = noise(set_.ring_dimension, set_.special_towers, random)
        _, result, expected = refreshed(
            plan, slots, series, values, noise, ring=set_.ring_dimension, bits=set_.scaling_bits
        )
        return np.abs(result.values[:slots] - expected)

    return refresh


WIDE = Architecture(channels=(32, 64, 128))
NATIVE_SETS = [parameter_set(n, "native") for n in (5, 6, 7)] + [parameter_set(n, "native", WIDE) for n in (5, 6)]


@pytest.mark.parametrize("set_", NATIVE_SETS, ids=lambda set_: f"{set_.number}, {set_.log2_ring}")
def test_noise_at_full_size(set_):
    """As foreseen for the simulations in the clear; and of the rarest coefficients no slot is lost."""
    refresh = shipped(set_)
    error = refresh(SchemeNoise)
    assert set_.refresh_deviation / 2 < np.sqrt(np.mean(error**2)) < set_.refresh_deviation
    assert worst(error) < 2e-2
    assert worst(refresh(Largest)) < 0.1


def test_levels_of_the_shipped_plans():
    for plan in (LEAST_TIME, LEAST_TIME_ALL_SLOTS):
        assert (plan.reserve, plan.levels(31)) == (3, 18)
    for plan in (FEWEST_KEYS, FEWEST_KEYS_ALL_SLOTS):
        assert (plan.reserve, plan.levels(31)) == (3, 17)


def union(plan, degree, towers, ring=1 << 15):
    """Keys of all three stages' refreshes at full size."""
    keys = {}
    for slots in (1 << 14, 1 << 13, 1 << 12):
        for name, most in refresh_keys(plan, ring, slots, towers, degree).items():
            keys[name] = max(most, keys.get(name, 0))
    return keys


def test_keys_of_the_shipped_plans():
    """To save keys is to do with a third of them; conjugation and relinearisation included."""
    fast, lean = union(LEAST_TIME, 15, 22), union(FEWEST_KEYS, 27, 22)
    assert (len(fast), len(lean)) == (42, 11)
    assert len(refresh_keys(LEAST_TIME_ALL_SLOTS, 1 << 16, 1 << 15, 22, 15)) == 44
    assert lean[RELINEARISATION] == 19 and lean[CONJUGATION] == 20
    assert fast[RELINEARISATION] == 18 and fast[CONJUGATION] == 19


def test_a_key_is_no_longer_than_its_use():
    """Rotations of slots-to-coefficients alone need no more towers than it has."""
    low = [towers for towers in union(LEAST_TIME, 15, 22).values() if towers <= LEAST_TIME.reserve + 1]
    assert len(low) == 10


def test_grouping_must_reach():
    with pytest.raises(PlanError, match="do not reach"):
        Grouping((2, 2), (4, 4)).for_slots(64)
    with pytest.raises(PlanError, match="baby steps"):
        Grouping((2, 2), (4,))
    assert Grouping((3, 4, 2), (4, 4, 4)).for_slots(1 << 9) == Grouping((3, 4, 1), (4, 4, 4))
    assert Grouping((3, 4, 2), (4, 4, 4)).for_slots(1 << 6) == Grouping((3, 2), (4, 4))
