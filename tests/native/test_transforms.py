"""The refresh's linear transforms: against their definition, against each other, in steps of either kind."""

import numpy as np
import pytest
from chains import clear_arithmetic, worst

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.native.refresh.embedding import coefficients_of_slots, slots_of_coefficients
from lowmem_resnet20.native.refresh.transforms import (
    apply_by_horner,
    coefficients_to_slots,
    multiply,
    slots_to_coefficients,
    split,
)

SLOTS = 64
GROUPS = [(5,), (2, 3), (1, 1, 1, 1, 1), (3, 2), (1, 4)]
RANDOM = np.random.default_rng(7)


def bit_reversed(size: int) -> np.ndarray:
    bits = size.bit_length() - 1
    return np.array([int(format(i, f"0{bits}b")[::-1], 2) for i in range(size)])


def rotated(x: np.ndarray, step: int) -> np.ndarray:
    return np.roll(x, -step)


def applied(diagonals, x: np.ndarray) -> np.ndarray:
    """The matrix of such diagonals times x, by their definition."""
    return sum(np.resize(diagonal, len(x)) * rotated(x, step) for step, diagonal in diagonals.items())


def product(matrices, x: np.ndarray) -> np.ndarray:
    for matrix in matrices:
        x = applied(matrix.diagonals, x)
    return x


def test_embedding_is_the_value_at_powers_of_five():
    size = 32
    coefficients = RANDOM.normal(size=size)
    root = np.exp(1j * np.pi / size)
    expected = [np.polyval(coefficients[::-1], root ** pow(5, j, 2 * size)) for j in range(size // 2)]
    slots = slots_of_coefficients(coefficients)
    assert worst(slots - expected) < 1e-12
    assert worst(coefficients_of_slots(slots) - coefficients) < 1e-13


def test_embedding_of_a_repeating_vector_is_sparse():
    repeated = coefficients_of_slots(np.tile(RANDOM.normal(size=8) + 1j * RANDOM.normal(size=8), 4))
    assert worst(np.delete(repeated, np.arange(0, 64, 4))) < 1e-13


@pytest.mark.parametrize("groups", GROUPS)
def test_slots_to_coefficients(groups):
    """The coefficients are the slots, their lower and upper halves each in bit-reversed order."""
    z = RANDOM.normal(size=SLOTS)
    x = product(slots_to_coefficients(SLOTS, groups, 1.0), z.astype(complex))
    x = x + rotated(x, SLOTS // 2)
    assert worst(x[: SLOTS // 2] - x[SLOTS // 2 :]) < 1e-12
    order = bit_reversed(SLOTS // 2)
    expected = np.concatenate([z[: SLOTS // 2][order], z[SLOTS // 2 :][order]])
    assert worst(coefficients_of_slots(x[: SLOTS // 2]) - expected) < 1e-13


@pytest.mark.parametrize("down", GROUPS)
@pytest.mark.parametrize("up", GROUPS)
def test_coefficients_to_slots_is_the_inverse(down, up):
    """Whatever the groups of either; factors multiply."""
    z = RANDOM.normal(size=SLOTS)
    x = product(slots_to_coefficients(SLOTS, down, 3.0), z.astype(complex))
    x = product(coefficients_to_slots(SLOTS, up, 0.25), x + rotated(x, SLOTS // 2))
    assert worst(2 * x.real - 2 * 0.75 * z) < 1e-12


@pytest.mark.parametrize("up", GROUPS)
def test_trace_projects(up):
    """Coefficients outside the subring, which raising the modulus fills, do not reach the slots after the trace."""
    size, half = 4 * SLOTS, SLOTS // 2
    coefficients = RANDOM.integers(-9, 10, size).astype(float)
    x = slots_of_coefficients(coefficients)
    x = product(coefficients_to_slots(SLOTS, up, 1.0), x + rotated(x, half))
    x = x + rotated(x, SLOTS)
    assert len(x) == 2 * SLOTS
    wanted = coefficients[:: size // SLOTS]
    order = bit_reversed(half)
    expected = np.concatenate([wanted[:half][order], wanted[half:][order]])
    assert worst(2 * x.real[:SLOTS] - 2 * 4 * expected) < 1e-11


def test_product_of_matrices():
    left, right = ({o: RANDOM.normal(size=16) for o in offsets} for offsets in ([0, 3, 5], [1, 13]))
    x = RANDOM.normal(size=16)
    assert worst(applied(multiply(left, right, 16), x) - applied(left, applied(right, x))) < 1e-12


def test_number_of_diagonals():
    """2^(k + 1) - 1 of k layers; half as many where offsets come round."""
    assert [len(m.diagonals) for m in slots_to_coefficients(SLOTS, (2, 3), 1.0)] == [7, 8]
    assert [len(m.diagonals) for m in coefficients_to_slots(SLOTS, (2, 3), 1.0)] == [8, 7]


def test_groups_must_fit():
    with pytest.raises(PlanError, match="do not make a transform"):
        slots_to_coefficients(SLOTS, (2, 2), 1.0)


@pytest.mark.parametrize("babies", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("groups", GROUPS)
def test_steps_of_either_kind_are_the_matrices(groups, babies):
    """Hoisted and by Horner's rule: the same values, the product of the matrices rotated by the shift returned."""
    ring = 8 * SLOTS
    matrices = slots_to_coefficients(SLOTS, groups, 1.0)
    transforms, shift = split(matrices, [babies] * len(groups), 5)
    ev = clear_arithmetic(ring, 8)
    x = RANDOM.normal(size=ring // 2) + 1j * RANDOM.normal(size=ring // 2)
    hoisted = by_horner = ev.encrypt(rotated(x, 5), 8)
    for transform in transforms:
        scale = ev.scale_at(hoisted.towers - 1) * ev.moduli[hoisted.towers - 1]
        hoisted = ev.rescale(ev.transform(hoisted, transform, scale))
        by_horner = ev.rescale(apply_by_horner(ev, by_horner, transform, scale))
    assert hoisted.towers == by_horner.towers == 8 - len(groups)
    assert worst(hoisted.values - by_horner.values) < 1e-11
    # Matrices may move copies of a vector against each other: what counts is the sum over the shifts by half of it.
    expected = product(matrices, x)
    total, wanted = (v + rotated(v, SLOTS // 2) for v in (hoisted.values, rotated(expected, shift)))
    wanted = sum(rotated(wanted, i * SLOTS) for i in range(4))
    assert worst(sum(rotated(total, i * SLOTS) for i in range(4)) - wanted) < 1e-10


def test_steps_go_up_and_are_shared():
    """A matrix's giant step is the next one's baby step; by Horner's rule a matrix needs no other key."""
    transforms, _ = split(slots_to_coefficients(SLOTS, (2, 3), 1.0), (4, 4), 0)
    assert [(t.babies, t.giants) for t in transforms] == [((0, 1, 2, 3), (0, 4)), ((0, 4, 8, 12), (0, 16))]
    ev = clear_arithmetic(8 * SLOTS, 4)
    x = ev.encrypt(np.ones(SLOTS), 4)
    for transform in transforms:
        x = apply_by_horner(ev, x, transform, x.scale)
    assert set(ev.keys) == {"rotation-1", "rotation-4", "rotation-16"}
