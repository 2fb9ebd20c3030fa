"""Ciphertexts, and the operations that the refresh and the layers ask for (:class:`.arithmetic.Arithmetic`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError
from ..kernels.memory import aligned
from ..kernels.polynomials import Factor, Operand, Operands, Products, group
from .arithmetic import SCALE_TOLERANCE, VectorOf
from .chain import Chain
from .kept import KeepingEncoder
from .keyswitch import Extended, KeySwitcher, SwitchingKey
from .ring import Ring
from .slottransform import SlotTransform

#: Where the relinearisation key is among the keys by automorphism index.
RELINEARISATION_INDEX = 1
#: Vectors that a weighted sum encodes at once, among them the nine of a convolution's taps: work for all threads, in
#: little memory.
_ENCODED_AT_ONCE = 12
#: Memory of transforms that lies idle between them.
_OF_TRANSFORMS = ("inner sums", "giant", "sum of giants")


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """residues: (2, >= towers, N) in [0, q), evaluation form, never changed; towers beyond ``towers`` do not count.

    scale: what values were multiplied with; slots: the period with which they repeat.
    """

    residues: NDArray[np.uint32]
    towers: int
    scale: float
    slots: int

    def polynomial(self, i: int) -> NDArray[np.uint32]:
        """(towers, N)."""
        return self.residues[i, : self.towers]


class NativeArithmetic:
    """:class:`.arithmetic.Arithmetic` on :class:`Ciphertext`.

    keys: by OpenFHE's automorphism index, RELINEARISATION_INDEX for products, 2N - 1 for conjugation.  Plaintexts of
    transforms are kept until :meth:`forget_plaintexts`."""

    def __init__(self, chain: Chain, keys: Mapping[int, SwitchingKey], threads: int = 0) -> None:
        self.ring = Ring.of(chain, threads)
        self.keys = keys
        self.ring_dimension = chain.dimension
        self.moduli: Sequence[int] = self.ring.q
        self._scales = chain.scaling_factors()
        self._switcher = KeySwitcher(self.ring)
        self._encoder = KeepingEncoder(self.ring)
        self._divided_keys: dict[tuple[int, int], SwitchingKey] = {}

    # Facts -----------------------------------------------------------------------------------------------------------

    def scale_at(self, towers: int) -> float:
        return self._scales[len(self.moduli) - towers]

    def towers(self, x: Ciphertext) -> int:
        return x.towers

    def scale(self, x: Ciphertext) -> float:
        return x.scale

    def slots(self, x: Ciphertext) -> int:
        return x.slots

    def with_slots(self, x: Ciphertext, slots: int) -> Ciphertext:
        return replace(x, slots=slots)

    def drop(self, x: Ciphertext, towers: int) -> Ciphertext:
        if not 1 <= towers <= x.towers:
            raise PlanError(f"{x.towers} towers cannot be dropped to {towers}")
        if 2 * towers > x.residues.shape[1]:
            return replace(x, towers=towers)
        return self._linear([replace(x, towers=towers)], [(1, 0)], x.scale)  # lets the rest's memory go

    # Sums and products with what is known ----------------------------------------------------------------------------

    def rescale(self, x: Ciphertext) -> Ciphertext:
        _check_level(x.towers)
        return self._divided(x, self._switcher.rescale(x.residues, x.towers), x.scale)

    def add(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        _check_alike([x.scale, y.scale])
        return self._linear([x, y], [(1, 0), (1, 0)], x.scale)

    def add_constant(self, x: Ciphertext, constant: complex) -> Ciphertext:
        return self._with_first(x, self._constant(_rounded(constant, x.scale), x.towers))

    def add_vector(self, x: Ciphertext, vector: NDArray) -> Ciphertext:
        (plaintext,) = self._encoder.encode([vector], [x.scale], x.towers).factors
        return self._with_first(x, plaintext)

    def combination(self, xs: Sequence[Ciphertext], constants: Sequence[complex], scale: float) -> Ciphertext:
        pairs = zip(xs, constants, strict=True)
        return self._linear(xs, [_rounded(constant, scale / x.scale) for x, constant in pairs], scale)

    def weighted_sum(self, xs: Sequence[Ciphertext], vector_of: VectorOf, scale: float) -> Ciphertext:
        towers = min(x.towers for x in xs)
        parts = []
        for first in range(0, len(xs), _ENCODED_AT_ONCE):
            some = xs[first : first + _ENCODED_AT_ONCE]
            vectors = [vector_of(first + j) for j in range(len(some))]
            plaintexts = self._encoder.encode(vectors, [scale / x.scale for x in some], towers)
            parts.append(self._sum(some, plaintexts.factors, towers, scale))
            parts = [parts[0] if len(parts) == 1 else self.add(*parts)]
        return parts[0]

    # Key switching ---------------------------------------------------------------------------------------------------

    def sum_of_products(
        self,
        pairs: Sequence[tuple[Ciphertext, Ciphertext]],
        linear: Sequence[tuple[Ciphertext, complex]] = (),
        constant: complex = 0,
        *,
        rescaled: bool = False,
    ) -> Ciphertext:
        self._switcher.forget(*_OF_TRANSFORMS)
        scales = [x.scale * y.scale for x, y in pairs]
        _check_alike(scales)
        towers = min(x.towers for x in (*sum(pairs, ()), *(z for z, _ in linear)))
        first, second, third = self._tensor(pairs, linear, constant, towers, scales[0])
        switched = self._switcher.switched(third, self._key(RELINEARISATION_INDEX, towers), [first, second])
        return self._lowered(pairs[0][0], switched, scales[0], rescaled)

    def rotate(self, x: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        switcher, indices = self._switcher, [self.ring.rotation(step) for step in steps]
        keys = {index: self._key(index, x.towers) for index in indices if index != 1}
        rotated = {1: x}
        if keys:
            raised = switcher.mod_up(x.polynomial(1))
            products = switcher.extended("products", x.towers, len(keys))
            with self.ring.workers.together():
                for key, pair in zip(keys.values(), products.pairs(), strict=True):
                    switcher.inner_products(raised, key, pair, [x.polynomial(0)])
            residues = switcher.mod_down(products).reshape(len(keys), 2, x.towers, -1)
            rotated |= {index: replace(x, residues=each) for index, each in zip(keys, residues, strict=True)}
        return [rotated[index] for index in indices]

    def add_rotated(self, x: Ciphertext, y: Ciphertext, step: int, *, rescaled: bool = False) -> Ciphertext:
        if (index := self.ring.rotation(step)) == 1:
            raise PlanError("a rotation by no step is added")
        return self._add_moved(x, y, index, rescaled)

    def add_conjugate(self, x: Ciphertext, *, rescaled: bool = False) -> Ciphertext:
        return self._add_moved(x, x, 2 * self.ring_dimension - 1, rescaled)

    def transform(self, x: Ciphertext, transform: SlotTransform, scale: float, *, rescaled: bool = False) -> Ciphertext:
        if not transform.vectors:
            raise PlanError("a transform without vectors")
        self._switcher.forget("tensor")
        total: Extended | None = None
        for i, inner in self._inner_sums(x, transform, scale / x.scale).items():
            total = self._add_giant(total, inner, self.ring.rotation(transform.giants[i]))
        assert total is not None
        return self._lowered(x, total, scale, rescaled)

    @property
    def plaintext_bytes(self) -> int:
        """Memory of the plaintexts kept."""
        return self._encoder.bytes

    def forget_plaintexts(self) -> None:
        """Give it back, and the memory between operations: other transforms follow."""
        self.ring.workers.wait()
        self._encoder.forget()
        self._divided_keys.clear()
        self._switcher.forget()

    def raise_modulus(self, x: Ciphertext) -> Ciphertext:
        towers = len(self.moduli)
        return replace(x, residues=self._switcher.raise_modulus(x.residues, towers), towers=towers)

    # How -------------------------------------------------------------------------------------------------------------

    def _key(self, index: int, towers: int) -> SwitchingKey:
        """The key as it is used at so many towers."""
        try:
            key = self.keys[index]
        except KeyError:
            raise PlanError(f"the key of automorphism {index} is missing") from None
        special = len(self.ring.special(towers))
        if special == key.special.shape[2]:
            return key
        if (index, special) not in self._divided_keys:
            most = max(t for t in range(towers, key.small.shape[2] + 1) if len(self.ring.special(t)) == special)
            self._divided_keys[index, special] = self._switcher.divided(key, most)
        return self._divided_keys[index, special]

    def _add_moved(self, x: Ciphertext, y: Ciphertext, index: int, rescaled: bool) -> Ciphertext:
        """``x`` and ``y`` under an automorphism."""
        _check_alike([x.scale, y.scale])
        switcher, towers = self._switcher, min(x.towers, y.towers)
        first, second = y.residues[:, :towers]
        switched = switcher.switched(second, self._key(index, towers), [first])
        switcher.add_to(switched, x.residues)
        return self._lowered(x, switched, x.scale, rescaled)

    def _lowered(self, like: Ciphertext, x: Extended, scale: float, rescaled: bool) -> Ciphertext:
        """``x`` modulo Q; ``scale``: before it is rescaled."""
        if not rescaled:
            return replace(like, residues=self._switcher.mod_down(x), towers=x.towers, scale=scale)
        _check_level(x.towers)
        return self._divided(like, self._switcher.mod_down_and_rescale(x), scale)

    def _divided(self, like: Ciphertext, residues: NDArray[np.uint32], scale: float) -> Ciphertext:
        """Residues that a rescale has left; ``scale``: before it."""
        towers = residues.shape[1]
        return replace(like, residues=residues, towers=towers, scale=scale / self.moduli[towers])

    def _constant(self, constant: tuple[int, int], towers: int) -> Factor:
        """real + imaginary X^(N/2), modulo each prime."""
        (a, b), units = constant, self.ring.imaginary_units
        pairs = zip(self.moduli[:towers], units, strict=False)
        return self.ring.mod_q.constant([[(a + b * u) % q, (a - b * u) % q] for q, u in pairs])

    def _sum(self, xs: Sequence[Ciphertext], factors: Sequence[Factor], towers: int, scale: float) -> Ciphertext:
        """sum_j xs[j] factors[j]."""
        residues = aligned(2, towers, self.ring_dimension, dtype=np.uint32)
        self.ring.mod_q.sum_of_products(residues, [[(m, x.residues) for m, x in zip(factors, xs, strict=True)]])
        return replace(xs[0], residues=residues, towers=towers, scale=scale)

    def _linear(self, xs: Sequence[Ciphertext], constants: Sequence[tuple[int, int]], scale: float) -> Ciphertext:
        towers = min(x.towers for x in xs)
        return self._sum(xs, [self._constant(constant, towers) for constant in constants], towers, scale)

    def _with_first(self, x: Ciphertext, added: Factor) -> Ciphertext:
        """``x`` with its first polynomial more by ``added``."""
        residues, mod_q = aligned(2, x.towers, self.ring_dimension, dtype=np.uint32), self.ring.mod_q
        one = mod_q.whole(1, x.towers)
        first: Products = [(one, x.residues[:1]), (added, group(mod_q.ones))]
        mod_q.sum_of_products(residues, [first, [(one, x.residues[1:])]])
        return replace(x, residues=residues)

    def _tensor(
        self,
        pairs: Sequence[tuple[Ciphertext, Ciphertext]],
        linear: Sequence[tuple[Ciphertext, complex]],
        constant: complex,
        towers: int,
        scale: float,
    ) -> NDArray[np.uint32]:
        """(3, towers, N): sums of x0 y0, of x0 y1 + x1 y0, of x1 y1, and all that is linear at ``scale``."""
        out = self._switcher.room("tensor", 3, towers)
        places = [[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]]
        products: list[list[tuple[Operand, Operands]]] = [
            [(x.residues[i], y.residues[j : j + 1]) for x, y in pairs for i, j in sums] for sums in places
        ]
        for z, c in linear:
            factor = self._constant(_rounded(c, scale / z.scale), towers)
            for i in range(2):
                products[i].append((factor, z.residues[i : i + 1]))
        if constant:
            added = self._constant(_rounded(constant, scale), towers)
            products[0].append((added, group(self.ring.mod_q.ones)))
        self.ring.mod_q.sum_of_products(out, products)
        return out

    # Transforms, modulo QP -------------------------------------------------------------------------------------------

    def _inner_sums(self, x: Ciphertext, transform: SlotTransform, scale: float) -> dict[int, Extended]:
        """By giant step the sum over baby steps that it moves, modulo QP.  Baby steps never go to memory."""
        ring, switcher = self.ring, self._switcher
        places: dict[int, list[int]] = {}
        for i, j in sorted(transform.vectors):
            places.setdefault(i, []).append(j)
        small, large = [], []
        for i, js in places.items():
            vectors = [transform.vectors[i, j] for j in js]
            plaintexts = self._encoder.encode(vectors, [scale] * len(js), x.towers, extended=True)
            small.append([*zip(plaintexts.factors, js, strict=True)])
            large.append([*zip(plaintexts.large_factors, js, strict=True)])
        babies, large_babies, permutations = self._babies(x, transform.babies)
        out = switcher.extended("inner sums", x.towers, len(places))
        with ring.workers.together():
            ring.mod_p.sum_of_sums(out.large, large_babies, permutations, large)
            ring.mod_q.sum_of_sums(out.small, babies, permutations, small)
        return dict(zip(places, out.pairs(), strict=True))

    def _babies(self, x: Ciphertext, steps: Sequence[int]) -> tuple[list[Products], list[Products], NDArray[np.uint32]]:
        """P times the rotations of ``x``: what is to be summed modulo Q and modulo P, and under which permutation."""
        switcher, raised = self._switcher, None
        small, large = list[Products](), list[Products]()
        indices = [self.ring.rotation(step) for step in steps]
        for index in indices:
            if index == 1:
                small.append(switcher.times_p([x.polynomial(0), x.polynomial(1)], x.towers))
                large.append([])
            else:
                raised = raised or switcher.mod_up(x.polynomial(1))
                added = switcher.times_p([x.polynomial(0)], x.towers)
                modulo_q, modulo_p = switcher.products(raised, self._key(index, x.towers), added)
                small.append(modulo_q)
                large.append(modulo_p)
        return small, large, np.stack([self.ring.automorphism(index) for index in indices])

    def _accumulate(self, total: Extended, other: Extended) -> None:
        """``other`` added to ``total``, in place."""
        one, large_one = self.ring.mod_q.whole(1, total.towers), self.ring.mod_p.whole(1, total.large.shape[1])
        with self.ring.workers.together():
            self.ring.mod_p.sum_of_products(total.large, [[(large_one, x.large) for x in (total, other)]])
            self.ring.mod_q.sum_of_products(total.small, [[(one, x.small) for x in (total, other)]])

    def _add_giant(self, total: Extended | None, inner: Extended, index: int) -> Extended:
        """``inner`` under automorphism ``index`` added to ``total``, modulo QP: its second polynomial, lowered,
        switches the key."""
        switcher, result = self._switcher, inner
        if index != 1:
            (second,) = switcher.mod_down(inner, slice(1, 2))
            result = switcher.extended("sum of giants" if total is None else "giant", inner.towers)
            switcher.extended_inner_products(switcher.mod_up(second), self._key(index, inner.towers), result, inner)
        if total is None:
            return result
        self._accumulate(total, result)
        return total


def _rounded(constant: complex, factor: float) -> tuple[int, int]:
    constant = complex(constant)
    return round(constant.real * factor), round(constant.imag * factor)


def _check_level(towers: int) -> None:
    if towers < 2:
        raise PlanError("no tower is left to rescale by")


def _check_alike(scales: Sequence[float]) -> None:
    if max(scales) > min(scales) * (1 + SCALE_TOLERANCE):
        raise PlanError(f"ciphertexts of scales {sorted(scales)} are added")
