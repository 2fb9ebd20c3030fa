"""The ciphertext arithmetic in the clear: numpy vectors that count towers and scales as ciphertexts do.

Runs a refresh without encryption, to plan it (which keys it uses, at how many towers; which operations) and to foresee
its noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import PlanError
from ..ring.arithmetic import SCALE_TOLERANCE, VectorOf
from ..ring.chain import Chain
from ..ring.keynames import CONJUGATION, RELINEARISATION, rotation_name
from ..ring.slottransform import SlotTransform
from .embedding import coefficients_of_slots, slots_of_coefficients
from .noise import Noise

#: What sums of vectors begin with.
_ZERO = np.zeros(())


@dataclass(frozen=True)
class ClearText:
    """values: (N/2,) complex; the rest as a ciphertext's."""

    values: np.ndarray
    towers: int
    scale: float
    slots: int


@dataclass
class ClearArithmetic:
    """:class:`..ring.arithmetic.Arithmetic` on :class:`ClearText`.

    keys: by name (see :mod:`..keys.keys`), the most towers each was used at; operations: how often each was done, by
    name and towers (also modulo P, where the name says QP).
    """

    chain: Chain
    noise: Noise = field(default_factory=Noise)
    keys: dict[str, int] = field(default_factory=dict)
    operations: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.ring_dimension = self.chain.dimension
        self.moduli: Sequence[int] = tuple(prime.value for prime in self.chain.q)
        self._scales = self.chain.scaling_factors()[::-1]

    def encrypt(self, vector: np.ndarray, towers: int) -> ClearText:
        """``vector`` repeated over the slots, at the scale of so many towers."""
        repeated = np.tile(np.asarray(vector, complex), self.ring_dimension // 2 // len(vector))
        return ClearText(repeated, towers, self.scale_at(towers), len(vector))

    def scale_at(self, towers: int) -> float:
        return self._scales[towers - 1]

    def towers(self, x: ClearText) -> int:
        return x.towers

    def scale(self, x: ClearText) -> float:
        return x.scale

    def slots(self, x: ClearText) -> int:
        return x.slots

    def with_slots(self, x: ClearText, slots: int) -> ClearText:
        return replace(x, slots=slots)

    def drop(self, x: ClearText, towers: int) -> ClearText:
        if not 1 <= towers <= x.towers:
            raise PlanError(f"{x.towers} towers cannot be dropped to {towers}")
        return replace(x, towers=towers)

    def rescale(self, x: ClearText) -> ClearText:
        if x.towers < 2:
            raise PlanError("no tower is left to rescale by")
        self._count("rescale", x.towers)
        scale = x.scale / self.moduli[x.towers - 1]
        return replace(x, values=x.values + self.noise.rescaling() / scale, towers=x.towers - 1, scale=scale)

    def add(self, x: ClearText, y: ClearText) -> ClearText:
        towers = self._alike((x, y))
        self._count("add", towers)
        return replace(x, values=x.values + y.values, towers=towers)

    def add_constant(self, x: ClearText, constant: complex) -> ClearText:
        return replace(x, values=x.values + _rounded(constant, x.scale))

    def add_vector(self, x: ClearText, vector: np.ndarray) -> ClearText:
        self._count("encode", x.towers)
        return replace(x, values=x.values + self._encoded(vector, x.scale))

    def combination(self, xs: Sequence[ClearText], constants: Sequence[complex], scale: float) -> ClearText:
        towers = min(x.towers for x in xs)
        self._count("constant", towers, len(xs))
        terms = zip(xs, constants, strict=True)
        total = sum((x.values * _rounded(constant, scale / x.scale) for x, constant in terms), _ZERO)
        return replace(xs[0], values=total, towers=towers, scale=scale)

    def weighted_sum(self, xs: Sequence[ClearText], vector_of: VectorOf, scale: float) -> ClearText:
        towers = min(x.towers for x in xs)
        self._count("plaintext", towers, len(xs))
        self._count("encode", towers, len(xs))
        total = sum((x.values * self._encoded(vector_of(j), scale / x.scale) for j, x in enumerate(xs)), _ZERO)
        return replace(xs[0], values=total, towers=towers, scale=scale)

    def sum_of_products(
        self,
        pairs: Sequence[tuple[ClearText, ClearText]],
        linear: Sequence[tuple[ClearText, complex]] = (),
        constant: complex = 0,
        *,
        rescaled: bool = False,
    ) -> ClearText:
        scales = [x.scale * y.scale for x, y in pairs]
        if max(scales) > min(scales) * (1 + SCALE_TOLERANCE):
            raise PlanError(f"products of scales {scales} are added")
        towers, scale = min(x.towers for x in (*sum(pairs, ()), *(z for z, _ in linear))), scales[0]
        self._count("tensor", towers, len(pairs))
        self._switch("relinearise", RELINEARISATION, towers)
        total = sum((x.values * y.values for x, y in pairs), _ZERO) + self.noise.switching() / scale
        total += sum((z.values * _rounded(c, scale / z.scale) for z, c in linear), _rounded(constant, scale))
        return self._finished(replace(pairs[0][0], values=total, towers=towers, scale=scale), rescaled)

    def rotate(self, x: ClearText, steps: Sequence[int]) -> list[ClearText]:
        if len(steps) > 1:
            self._count("raise digits", x.towers)
        return [self._rotated(x, step, "hoisted" if len(steps) > 1 else "rotate") for step in steps]

    def add_rotated(self, x: ClearText, y: ClearText, step: int, *, rescaled: bool = False) -> ClearText:
        return self._finished(self.add(x, self._rotated(y, step, "rotate")), rescaled)

    def add_conjugate(self, x: ClearText, *, rescaled: bool = False) -> ClearText:
        self._switch("rotate", CONJUGATION, x.towers)
        conjugate = replace(x, values=x.values.conj() + self.noise.switching() / x.scale)
        return self._finished(self.add(x, conjugate), rescaled)

    def transform(self, x: ClearText, transform: SlotTransform, scale: float, *, rescaled: bool = False) -> ClearText:
        self._count_transform(transform, x.towers)
        babies = [np.roll(x.values, -step) for step in transform.babies]
        inner = [np.zeros_like(x.values) for _ in transform.giants]
        for (i, j), vector in transform.vectors.items():
            inner[i] += self._encoded(vector, scale / x.scale) * babies[j]
        total = sum((np.roll(part, -giant) for part, giant in zip(inner, transform.giants, strict=True)), _ZERO)
        return self._finished(replace(x, values=total + self.noise.switching() / scale, scale=scale), rescaled)

    def raise_modulus(self, x: ClearText) -> ClearText:
        coefficients = coefficients_of_slots(x.values) * x.scale
        coefficients = coefficients + self.moduli[0] * self.noise.overflows(coefficients / self.moduli[0])
        self._count("raise modulus", len(self.moduli))
        return replace(x, values=slots_of_coefficients(coefficients) / x.scale, towers=len(self.moduli))

    def _finished(self, x: ClearText, rescaled: bool) -> ClearText:
        return self.rescale(x) if rescaled else x

    def _rotated(self, x: ClearText, step: int, name: str) -> ClearText:
        step %= self.ring_dimension // 2
        if step == 0:
            return x
        self._switch(name, rotation_name(step, self.ring_dimension), x.towers)
        return replace(x, values=np.roll(x.values, -step) + self.noise.switching() / x.scale)

    def _count_transform(self, transform: SlotTransform, towers: int) -> None:
        self._count("raise digits", towers)
        self._count("plaintext QP", towers, len(transform.vectors))
        self._count("encode QP", towers, len(transform.vectors))
        for name, steps in (("baby QP", transform.babies), ("giant QP", transform.giants)):
            for step in steps:
                if step % (self.ring_dimension // 2):
                    self._switch(name, rotation_name(step, self.ring_dimension), towers)
        self._count("lower", towers)

    def _switch(self, name: str, key: str, towers: int) -> None:
        self._count(name, towers)
        self.keys[key] = max(towers, self.keys.get(key, 0))

    def _count(self, name: str, towers: int, times: int = 1) -> None:
        self.operations[name, towers] += times

    def _encoded(self, vector: np.ndarray, scale: float) -> np.ndarray:
        vector = vector + self.noise.encoding(len(vector)) / scale
        return np.tile(vector, self.ring_dimension // 2 // len(vector))

    def _alike(self, xs: Sequence[ClearText]) -> int:
        """The fewest towers among handles of one scale."""
        scales = [x.scale for x in xs]
        if max(scales) > min(scales) * (1 + SCALE_TOLERANCE):
            raise PlanError(f"handles of scales {scales} are added")
        return min(x.towers for x in xs)


def _rounded(constant: complex, scale: float) -> complex:
    constant = complex(constant) * scale
    return complex(round(constant.real), round(constant.imag)) / scale
