"""Ciphertexts, and the operations that the refresh and the layers ask for (:class:`.arithmetic.Arithmetic`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from . import elementwise
from .arithmetic import SCALE_TOLERANCE, VectorOf
from .chain import Chain
from .encoding import Plaintexts
from .kept import KeepingEncoder
from .keyswitch import Extended, KeySwitcher, SwitchingKey
from .memory import aligned, aligned_copy
from .ring import Ring
from .slottransform import SlotTransform

#: Where the relinearisation key is among the keys by automorphism index.
RELINEARISATION_INDEX = 1
#: Vectors that a weighted sum encodes at once, among them the nine of a convolution's taps: work for all threads, in
#: little memory.
_ENCODED_AT_ONCE = 12
#: Memory of transforms that lies idle between them.
_OF_TRANSFORMS = ("baby", "giant", "sum of giants")


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """residues: (2, >= towers, N) in [0, q), evaluation form, never changed; towers beyond ``towers`` do not count.

    scale: what values were multiplied with; slots: the period with which they repeat.
    """

    residues: NDArray[np.float64]
    towers: int
    scale: float
    slots: int

    def polynomial(self, i: int) -> NDArray[np.float64]:
        """(1, towers, N), contiguous."""
        return self.residues[i : i + 1, : self.towers]


class NativeArithmetic:
    """:class:`.arithmetic.Arithmetic` on :class:`Ciphertext`.

    keys: by OpenFHE's automorphism index, RELINEARISATION_INDEX for products, 2N - 1 for conjugation.
    Plaintexts of transforms are kept until :meth:`forget_plaintexts`."""

    def __init__(self, chain: Chain, keys: Mapping[int, SwitchingKey], threads: int = 0) -> None:
        self.ring = Ring.of(chain, threads)
        self.keys = keys
        self.ring_dimension = chain.dimension
        self.moduli: Sequence[int] = self.ring.q
        self._scales = chain.scaling_factors()
        self._switcher = KeySwitcher(self.ring)
        self._encoder = KeepingEncoder(self.ring)

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
        return replace(x, residues=aligned_copy(x.residues[:, :towers]), towers=towers)  # lets the rest's memory go

    # Sums and products with what is known ----------------------------------------------------------------------------

    def rescale(self, x: Ciphertext) -> Ciphertext:
        if x.towers < 2:
            raise PlanError("no tower is left to rescale by")
        residues = self._switcher.rescale(x.residues, x.towers)
        return replace(x, residues=residues, towers=x.towers - 1, scale=x.scale / self.moduli[x.towers - 1])

    def add(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        _check_alike([x.scale, y.scale])
        return self._linear([x, y], [(1, 0), (1, 0)], x.scale)

    def add_constant(self, x: Ciphertext, constant: complex) -> Ciphertext:
        constants = self._constants([_rounded(constant, x.scale)], x.towers)
        return self._with_first(x, elementwise.add_constants, constants.reshape(-1))

    def add_vector(self, x: Ciphertext, vector: NDArray) -> Ciphertext:
        plaintext = self._encoder.encode([vector], [x.scale], x.towers)
        planes = plaintext.low.reshape(-1), plaintext.high.reshape(-1)
        return self._with_first(x, elementwise.add_plaintext, *planes, plaintext.shift)

    def multiply_integer(self, x: Ciphertext, factor: int) -> Ciphertext:
        return self._linear([x], [(factor, 0)], x.scale)

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
            residues = self._products(some, plaintexts, towers)
            parts.append(replace(xs[0], residues=residues, towers=towers, scale=scale))
            parts = [parts[0] if len(parts) == 1 else self.add(*parts)]
        return parts[0]

    # Key switching ---------------------------------------------------------------------------------------------------

    def sum_of_products(self, pairs: Sequence[tuple[Ciphertext, Ciphertext]]) -> Ciphertext:
        self._switcher.forget(*_OF_TRANSFORMS)
        scales = [x.scale * y.scale for x, y in pairs]
        _check_alike(scales)
        towers = min(min(x.towers, y.towers) for x, y in pairs)
        tensor = self._tensor(pairs, towers)
        residues = self._switcher.switch(tensor[2], self._key(RELINEARISATION_INDEX), tensor[:2])
        return replace(pairs[0][0], residues=residues, towers=towers, scale=scales[0])

    def rotate(self, x: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        indices = [self.ring.rotation(step) for step in steps]
        keys = {index: self._key(index) for index in indices if index != 1}
        rotated = {1: x}
        if keys:
            raised = self._switcher.mod_up(x.polynomial(1)[0])
        for index, key in keys.items():
            products = self._switcher.extended("products", x.towers)
            residues = self._switcher.mod_down(self._switcher.inner_products(raised, key, x.polynomial(0), products))
            rotated[index] = replace(x, residues=residues)
        return [rotated[index] for index in indices]

    def conjugate(self, x: Ciphertext) -> Ciphertext:
        return self._switched(x, 2 * self.ring_dimension - 1)

    def transform(self, x: Ciphertext, transform: SlotTransform, scale: float) -> Ciphertext:
        self._switcher.forget("tensor")
        babies = self._babies(x, transform.babies)
        total: Extended | None = None
        for i in sorted({giant for giant, _ in transform.vectors}):
            index = self.ring.rotation(transform.giants[i])
            begins = total is None and index == 1
            out = self._switcher.extended("sum of giants" if begins else "products", x.towers)
            inner = self._inner_sum(transform, i, babies, scale / x.scale, out)
            total = inner if begins else self._add_giant(total, inner, index)
        if total is None:
            raise PlanError("a transform without vectors")
        return replace(x, residues=self._switcher.mod_down(total), scale=scale)

    @property
    def plaintext_bytes(self) -> int:
        """Memory of the plaintexts kept."""
        return self._encoder.bytes

    def forget_plaintexts(self) -> None:
        """Give it back, and the memory between operations: other transforms follow."""
        self._encoder.forget()
        self._switcher.forget()

    def raise_modulus(self, x: Ciphertext) -> Ciphertext:
        towers = len(self.moduli)
        residues = self._switcher.raise_modulus(np.ascontiguousarray(x.residues[:, :1]), towers)
        return replace(x, residues=residues, towers=towers)

    # How -------------------------------------------------------------------------------------------------------------

    def _key(self, index: int) -> SwitchingKey:
        try:
            return self.keys[index]
        except KeyError:
            raise PlanError(f"the key of automorphism {index} is missing") from None

    def _switched(self, x: Ciphertext, index: int) -> Ciphertext:
        return replace(x, residues=self._switcher.switch(x.polynomial(1)[0], self._key(index), x.polynomial(0)))

    def _run(self, kernel: Callable[..., None], towers: int, *arguments: Any) -> None:
        """A kernel of :mod:`.elementwise` modulo the first small primes."""
        tables, pieces = self.ring.forward_q, self.ring.dimension // elementwise.PIECE
        self.ring.workers.run(kernel, towers * pieces, *arguments, tables.modulus[:towers], tables.inverse[:towers])

    def _run_large(self, kernel: Callable[..., None], *arguments: Any) -> None:
        tables, pieces = self.ring.forward_p, self.ring.dimension // elementwise.PIECE
        self.ring.workers.run(kernel, len(self.ring.p) * pieces, *arguments, tables.modulus, tables.inverse)

    def _constants(self, constants: Sequence[tuple[int, int]], towers: int) -> NDArray[np.float64]:
        """(towers, constants, 2): real + imaginary X^(N/2) in the two halves of evaluation form, modulo each
        prime."""
        units = [(int(unit), q) for unit, q in zip(self.ring.imaginary_units, self.moduli[:towers], strict=False)]
        values = [[[(a + b * u) % q, (a - b * u) % q] for a, b in constants] for u, q in units]
        return np.array(values, np.float64)

    def _linear(self, xs: Sequence[Ciphertext], constants: Sequence[tuple[int, int]], scale: float) -> Ciphertext:
        towers = min(x.towers for x in xs)
        residues = aligned(2, towers, self.ring_dimension)
        addresses = _addresses(xs)
        self._run(elementwise.small_combinations, towers, residues.reshape(-1), addresses,
                  self._constants(constants, towers), self.ring_dimension)  # fmt: skip
        return replace(xs[0], residues=residues, towers=towers, scale=scale)

    def _with_first(self, x: Ciphertext, kernel: Callable[..., None], *arguments: Any) -> Ciphertext:
        """``x`` with another first polynomial: kernel(out, first polynomial, *arguments)."""
        residues = aligned(2, x.towers, self.ring_dimension)
        residues[1] = x.residues[1, : x.towers]
        first, n = x.polynomial(0).reshape(-1), self.ring_dimension
        self._run(kernel, x.towers, residues[0].reshape(-1), first, *arguments, n)
        return replace(x, residues=residues)

    def _products(self, xs: Sequence[Ciphertext], plaintexts: Plaintexts, towers: int) -> NDArray[np.float64]:
        """(2, towers, N) sum_j xs[j] plaintexts[j]."""
        out = aligned(2, towers, self.ring_dimension)
        self._small_sums(out, _addresses(xs), plaintexts)
        return out

    def _small_sums(self, out: NDArray[np.float64], xs: NDArray[np.int64], plaintexts: Plaintexts) -> None:
        """out = sum_j of the polynomials at addresses xs[:, j] times plaintext j."""
        factors = _plaintext_addresses(plaintexts.low, len(xs)), _plaintext_addresses(plaintexts.high, len(xs))
        counts = np.full(len(xs), xs.shape[1])
        self._run(elementwise.small_plaintext_sums, out.shape[1], out.reshape(-1), xs, *factors, counts,
                  self.ring_dimension, plaintexts.shift)  # fmt: skip

    def _large_sums(self, out: NDArray[np.uint64], xs: NDArray[np.int64], plaintexts: Plaintexts) -> None:
        """The same modulo the special primes."""
        factors = _plaintext_addresses(plaintexts.large_part, len(xs))
        counts = np.full(len(xs), xs.shape[1])
        self._run_large(elementwise.large_sums, out.reshape(-1), xs, factors, counts, self.ring_dimension,
                        plaintexts.shift)  # fmt: skip

    def _tensor(self, pairs: Sequence[tuple[Ciphertext, Ciphertext]], towers: int) -> NDArray[np.float64]:
        """(3, towers, N): sums of x0 y0, of x0 y1 + x1 y0, of x1 y1."""
        a, b = (_addresses([pair[i] for pair in pairs]) for i in range(2))
        xs = np.array([[*a[0], *a[0]], [*a[0], *a[1]], [*a[1], *a[1]]])
        ys = np.array([[*b[0], *b[0]], [*b[1], *b[0]], [*b[1], *b[1]]])
        out = self._switcher.room("tensor", 3, towers, self.ring_dimension)
        counts = np.array([1, 2, 1]) * len(pairs)
        self._run(elementwise.small_sums, towers, out.reshape(-1), xs, ys, counts, self.ring_dimension)
        return out

    # Transforms, modulo QP -------------------------------------------------------------------------------------------

    def _babies(self, x: Ciphertext, steps: Sequence[int]) -> list[Extended]:
        """P times the rotations of ``x``, modulo QP."""
        switcher, raised, babies = self._switcher, None, []
        for j, step in enumerate(steps):
            room = switcher.extended(f"baby {j}", x.towers)
            index = self.ring.rotation(step)
            if index == 1:
                self._times_p(x, room)
            else:
                raised = raised or switcher.mod_up(x.polynomial(1)[0])
                switcher.inner_products(raised, self._key(index), x.polynomial(0), room)
            babies.append(room)
        return babies

    def _times_p(self, x: Ciphertext, out: Extended) -> None:
        factors = np.repeat(self.ring.lowering.p[: x.towers, None, None], 2, axis=2)
        addresses = _addresses([x])
        n = self.ring_dimension
        self._run(elementwise.small_combinations, x.towers, out.small.reshape(-1), addresses, factors, n)
        out.large[...] = 0

    def _inner_sum(
        self, transform: SlotTransform, giant: int, babies: Sequence[Extended], scale: float, out: Extended
    ) -> Extended:
        """The sum over baby steps that a giant step moves, modulo QP, into ``out``."""
        places = [j for j in range(len(babies)) if (giant, j) in transform.vectors]
        vectors = [transform.vectors[giant, j] for j in places]
        plaintexts = self._encoder.encode(vectors, [scale] * len(places), out.towers, extended=True)
        small, large = _extended_addresses([babies[j] for j in places])
        self._small_sums(out.small, small, plaintexts)
        self._large_sums(out.large, large, plaintexts)
        return out

    def _accumulate(self, total: Extended, other: Extended) -> None:
        """``other`` added to ``total``, in place."""
        small, large = _extended_addresses([total, other])
        ones, n = np.ones((total.towers, 2, 2)), self.ring_dimension
        self._run(elementwise.small_combinations, total.towers, total.small.reshape(-1), small, ones, n)
        self._run_large(elementwise.large_additions, total.large.reshape(-1), large, n)

    def _add_giant(self, total: Extended | None, inner: Extended, index: int) -> Extended:
        """``inner`` under automorphism ``index`` added to ``total``, modulo QP: its second polynomial, lowered,
        switches the key."""
        switcher, result = self._switcher, inner
        if index != 1:
            second = switcher.mod_down(inner, slice(1, 2))
            result = switcher.extended("sum of giants" if total is None else "giant", inner.towers)
            raised = switcher.mod_up(second[0])
            switcher.extended_inner_products(raised, self._key(index), inner, result)
        if total is None:
            return result
        self._accumulate(total, result)
        return total


def _addresses(ciphertexts: Sequence[Ciphertext]) -> NDArray[np.int64]:
    """(2, ciphertexts) of polynomials' first towers."""
    return np.array([[x.residues[i].ctypes.data for x in ciphertexts] for i in range(2)])


def _plaintext_addresses(vectors: NDArray, polynomials: int) -> NDArray[np.int64]:
    """(polynomials, vectors) of plaintexts' first towers, the same for each polynomial."""
    return np.array([[vector.ctypes.data for vector in vectors]] * polynomials)


def _extended_addresses(xs: Sequence[Extended]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both (2, xs): modulo small primes, and modulo large ones."""
    small, large = ([[half[i].ctypes.data for half in halves] for i in range(2)] for halves in _halves(xs))
    return np.array(small), np.array(large)


def _halves(xs: Sequence[Extended]) -> tuple[list[NDArray], list[NDArray]]:
    return [x.small for x in xs], [x.large for x in xs]


def _rounded(constant: complex, factor: float) -> tuple[int, int]:
    constant = complex(constant)
    return round(constant.real * factor), round(constant.imag * factor)


def _check_alike(scales: Sequence[float]) -> None:
    if max(scales) > min(scales) * (1 + SCALE_TOLERANCE):
        raise PlanError(f"ciphertexts of scales {sorted(scales)} are added")
