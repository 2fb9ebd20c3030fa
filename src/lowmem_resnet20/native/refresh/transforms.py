"""Linear transforms of the slots by diagonals, and the two of the refresh: between slots and coefficients.

A matrix is kept as its diagonals, offset -> vector: (M z)_i = sum_o diagonal_o[i] * z_(i + o).

Real data.  n real slots are the coefficients of a polynomial in Y = X^(N/n), whose own slots are the n/2 complex
w = W (z_low + i z_high), W the special Fourier transform without its bit reversal: slots to coefficients comes first,
coefficients to slots undoes it, and what lies between treats all coefficients alike.  So the transforms are of n/2
slots, not n, at no further level:

* Slots to coefficients is (1 + R) W diag(1 | i), R the rotation by n/2, since (1 + R) diag(1 | i) z is z_low + i z_high
  twice.  R commutes with W, so its rotation is left to the end, where the ciphertext has one tower.
* Raising the modulus fills all N coefficients.  The trace, the sum over the rotations by multiples of n/2, leaves the
  wanted ones, N/n fold.  It commutes with W^-1 too, and its rotations by n and above with all else: they come late,
  where towers are fewer.
* Coefficients to slots is W^-1, 1 + R, diag(1 | -i), and the real part by conjugation: (z_low | z_high).

Source: W's layers as in Cheon, Han, Kim, Kim and Song (Eurocrypt 2018), section 4; grouping them, Han, Hhan and Cheon
(IEEE Access 2019) and Chen, Chillotti and Song (Eurocrypt 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from ...errors import PlanError
from ..ring.arithmetic import Arithmetic, X
from ..ring.slottransform import SlotTransform
from .embedding import slot_exponents

Diagonals = Mapping[int, np.ndarray]
#: Rotations held by :func:`apply_by_horner`: some tens of MiB each at the top of the chain.
BABIES_AT_ONCE = 8


@dataclass(frozen=True)
class Matrix:
    """diagonals: with offsets modulo ``period``, whichever of the same residue is taken."""

    diagonals: Diagonals
    period: int


def multiply(left: Diagonals, right: Diagonals, period: int) -> dict[int, np.ndarray]:
    """The product of two matrices, offsets modulo ``period``; vectors as long as the longer ones given."""
    product: dict[int, np.ndarray] = {}
    for a, left_vector in left.items():
        for b, right_vector in right.items():
            size = max(len(left_vector), len(right_vector))
            term = _repeat(left_vector, size) * np.roll(_repeat(right_vector, size), -a)
            offset = (a + b) % period
            product[offset] = product[offset] + term if offset in product else term
    return product


def fourier_layer(slots: int, stride: int) -> dict[int, np.ndarray]:
    """The layer of W on complex ``slots`` that joins slots ``stride`` apart: (u, v) -> (u + w v, u - w v)."""
    lower, root = _butterfly(slots, stride)
    return {0: np.where(lower, -root, 1), stride: np.where(lower, 0, root), -stride: np.where(lower, 1, 0)}


def inverse_layer(slots: int, stride: int) -> dict[int, np.ndarray]:
    """Its inverse: (u, v) -> ((u + v) / 2, (u - v) / (2 w))."""
    lower, root = _butterfly(slots, stride)
    turned = np.conj(root) / 2
    return {0: np.where(lower, -turned, 0.5), stride: np.where(lower, 0, 0.5), -stride: np.where(lower, turned, 0)}


def slots_to_coefficients(slots: int, groups: Sequence[int], factor: float) -> list[Matrix]:
    """``factor`` * W diag(1 | i) for ``slots`` real slots, as a product of matrices, the first to be applied first.

    groups: layers of each matrix, by ascending stride; they add up to log2(slots / 2).  What is left to do is 1 + R,
    which allows offsets modulo slots / 2 in every matrix but the first, whose diagonals don't repeat so soon.
    """
    half = slots // 2
    share = factor ** (1 / len(groups))
    periods = [slots] + [half] * (len(groups) - 1)
    matrices = []
    for strides, period in zip(_strides(groups, half), periods, strict=True):
        layers = [fourier_layer(half, stride) for stride in strides]
        matrices.append(_product(layers, period, share))
    matrices[0] = multiply(matrices[0], {0: np.repeat([1, 1j], half)}, slots)
    return [Matrix(diagonals, period) for diagonals, period in zip(matrices, periods, strict=True)]


def coefficients_to_slots(slots: int, groups: Sequence[int], factor: float) -> list[Matrix]:
    """``factor`` * diag(1 | -i) W^-1, as a product of matrices, the first to be applied first.

    groups: as of :func:`slots_to_coefficients`, by ascending stride; they are applied in descending order.  1 + R comes
    before, which allows offsets modulo slots / 2.
    """
    half = slots // 2
    share = factor ** (1 / len(groups))
    matrices = []
    for strides in reversed(_strides(groups, half)):
        layers = [inverse_layer(half, stride) for stride in reversed(strides)]
        matrices.append(_product(layers, half, share))
    matrices[-1] = multiply({0: np.repeat([1, -1j], half)}, matrices[-1], half)
    return [Matrix(diagonals, half) for diagonals in matrices]


def split(matrices: Sequence[Matrix], babies: Sequence[int], shift: int) -> tuple[list[SlotTransform], int]:
    """The product of ``matrices``, the first to be applied first, in steps that only go up from 0.

    Offsets of a matrix are multiples of a stride, baby steps 0 .. ``babies`` - 1 strides, giant steps multiples of
    ``babies`` strides; so the giant steps of one matrix are often baby steps of the next, and share their keys.
    Offsets -J .. J strides are moved up to begin at 0, which rotates the result by J strides more; what comes later is
    turned to fit, so one rotation is left for the end.  ``shift``: how far the slots are rotated before; returned with
    the transforms: after.
    """
    transforms = []
    for matrix, size in zip(matrices, babies, strict=True):
        stride = int(np.gcd.reduce([matrix.period, *matrix.diagonals]))
        wraps = stride * len(matrix.diagonals) == matrix.period
        offsets = {o: o if wraps else _centred(o, matrix.period) for o in matrix.diagonals}
        lowest = min(offsets.values())
        raised = {offsets[o] - lowest: np.roll(v, lowest - shift) for o, v in matrix.diagonals.items()}
        transforms.append(_split(raised, stride, size))
        shift -= lowest
    return transforms, shift


def apply_by_horner(ev: Arithmetic[X], x: X, transform: SlotTransform, scale: float, *, rescaled: bool = False) -> X:
    """As :meth:`..ring.arithmetic.Arithmetic.transform`, with two keys: baby steps one after the other, giant steps by
    Horner's rule, both by one step each."""
    *terms, total = _inner_sums(ev, x, transform, scale)
    if not terms:
        return ev.rescale(total) if rescaled else total
    for i in reversed(range(len(terms))):
        total = ev.add_rotated(terms[i], total, transform.giants[1], rescaled=rescaled and i == 0)
    return total


def _inner_sums(ev: Arithmetic[X], x: X, transform: SlotTransform, scale: float) -> list[X]:
    """By giant step, the sum over baby steps; BABIES_AT_ONCE rotations of ``x`` are held."""
    sums: dict[int, X] = {}
    for first in range(0, len(transform.babies), BABIES_AT_ONCE):
        babies = range(first, min(first + BABIES_AT_ONCE, len(transform.babies)))
        moved = {}
        for j in babies:
            moved[j] = x = ev.rotate(x, [transform.babies[1]])[0] if j else x
        for i in range(len(transform.giants)):
            terms = [j for j in babies if (i, j) in transform.vectors]
            if terms:
                vectors = [transform.vectors[i, j] for j in terms]
                part = ev.weighted_sum([moved[j] for j in terms], vectors.__getitem__, scale)
                sums[i] = ev.add(sums[i], part) if i in sums else part
    return [sums[i] for i in range(len(transform.giants))]


def _split(matrix: Diagonals, stride: int, babies: int) -> SlotTransform:
    """offset = giant + baby, babies in 0 .. babies - 1 strides; each vector turned back by its giant step."""
    places = {offset: divmod(offset // stride, babies) for offset in matrix}
    small = sorted({baby for _, baby in places.values()})
    large = sorted({giant for giant, _ in places.values()})
    vectors = {
        (large.index(giant), small.index(baby)): np.roll(matrix[offset], giant * babies * stride)
        for offset, (giant, baby) in places.items()
    }
    return SlotTransform(
        tuple(baby * stride for baby in small), tuple(giant * babies * stride for giant in large), vectors
    )


def _centred(offset: int, period: int) -> int:
    offset %= period
    return offset - period if offset > period // 2 else offset


def _strides(groups: Sequence[int], half: int) -> list[list[int]]:
    """By group, the strides of its layers, ascending."""
    if sum(groups) != half.bit_length() - 1:
        raise PlanError(f"groups of {list(groups)} layers do not make a transform of {half} complex slots")
    strides, first = [], 0
    for size in groups:
        strides.append([1 << layer for layer in range(first, first + size)])
        first += size
    return strides


def _product(layers: Sequence[Diagonals], period: int, factor: float) -> dict[int, np.ndarray]:
    """``factor`` times the product of layers, the first of which is applied first."""
    product = reduce(lambda done, layer: multiply(layer, done, period), layers, {0: np.ones(1)})
    return {offset: factor * vector for offset, vector in product.items()}


def _butterfly(slots: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """(slots,) whether each is the lower of its pair, and the pair's root of unity."""
    place = np.arange(slots) % (2 * stride)
    roots = np.exp(2j * np.pi * slot_exponents(2 * stride)[:stride] / (8 * stride))
    return place >= stride, roots[place % stride]


def _repeat(vector: np.ndarray, size: int) -> np.ndarray:
    return np.tile(vector, size // len(vector)) if len(vector) < size else vector
