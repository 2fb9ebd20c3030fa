"""Hybrid key switching, hoisting, and the ways between Q and QP.

Han and Ki (CT-RSA 2020, "Better bootstrapping for approximate homomorphic encryption"), section 3, as OpenFHE 1.6.1
does it and with the same residues, but that few towers go without some of the special primes
(:meth:`.ring.Ring.special`):

1. ModUp: each digit of the polynomial, modulo all of QP, back in evaluation form;
2. inner products of the digits with a key's halves b and a, modulo QP, under the key's automorphism;
3. ModDown: (acc - [acc]_P) / P modulo Q, [acc]_P in [0, P) and a small multiple of P more (:mod:`..kernels.bases`);
   where the result is rescaled, that is part of it.

The ciphertext's other polynomial is added in step 2, times P: it comes out of step 3 as it was.  Rotations of one
ciphertext share step 1; sums of results can share step 3 (:class:`Extended`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError
from ..kernels.memory import aligned
from ..kernels.polynomials import INTEGERS, Factor, Group, Polynomials, Products, factors, group, groups, rows
from .ring import Ring

_ALL = slice(None)


class SwitchingKey(Protocol):
    """A key as kernels read it: cut to the towers it is used at, in this wing's order
    (:class:`..keys.keys.NativeKey` is one).

    automorphism: g of X -> X^g that results are put under, 1 for relinearisation.  small: uint32 (2, digits, towers,
    N): b, then a, modulo q_0 .. q_(towers - 1); special: uint64 (2, digits, k, N), modulo the special primes.  All in
    [0, p), rows on cache lines.  At fewer towers the first ones of the first digits are read."""

    @property
    def automorphism(self) -> int: ...

    @property
    def small(self) -> NDArray[np.uint32]: ...

    @property
    def special(self) -> NDArray[np.uint64]: ...


@dataclass(frozen=True, eq=False)
class KeyInMemory:
    """A :class:`SwitchingKey` of arrays of its own."""

    automorphism: int
    small: NDArray[np.uint32]
    special: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Raised:
    """A polynomial's digits modulo QP, in evaluation form; its own towers stand inside each digit.

    small: by digit, of ``towers`` towers; large: (digits, k, N).
    """

    towers: int
    small: tuple[Factor, ...]
    large: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Extended:
    """Two polynomials, or pairs of them, modulo QP in evaluation form.  small: (2, towers, N); large: (2, k, N)."""

    small: NDArray[np.uint32]
    large: NDArray[np.uint64]

    @property
    def towers(self) -> int:
        return self.small.shape[1]

    def pairs(self) -> list[Extended]:
        """Each pair of polynomials on its own."""
        places = [slice(first, first + 2) for first in range(0, len(self.small), 2)]
        return [Extended(self.small[place], self.large[place]) for place in places]


class KeySwitcher:
    """Key switching in a ring.  Memory for what lies between the steps is kept from one to the next: one caller at a
    time."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._kept: dict[str, NDArray] = {}

    def forget(self, *names: str) -> None:
        """Let memory go, all of it or what is kept under names that begin so; the next operations take what they
        need."""
        for name in [name for name in self._kept if not names or name.startswith(names)]:
            del self._kept[name]

    def room(self, name: str, *shape: int, dtype: Any = np.uint32) -> NDArray:
        """Memory for polynomials that the next call with this name may reuse; shape: without N."""
        size = prod(shape) * self.ring.dimension
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            kept = self._kept[name] = aligned(size, dtype=dtype)
        return kept[:size].reshape(*shape, self.ring.dimension)

    def extended(self, name: str, towers: int, pairs: int = 1) -> Extended:
        """Room for two polynomials modulo QP, or for several pairs of them, kept under a name."""
        large = self.room(f"{name}, large", 2 * pairs, len(self.ring.special(towers)), dtype=np.uint64)
        return Extended(self.room(f"{name}, small", 2 * pairs, towers), large)

    # The steps --------------------------------------------------------------------------------------------------------

    def mod_up(self, x: NDArray[np.uint32]) -> Raised:
        """Step 1.  x: (towers, N), canonical.  Valid until the next call."""
        ring, towers = self.ring, len(x)
        raising = ring.raising(towers)
        y = self.room("y", 1, towers)
        ring.mod_q.to_coefficients(y, x[None], raising.inverse)
        small = self.room("digits", len(raising.digits), towers)
        large = self.room("large digits", len(raising.digits), raising.to_p.shape[1], dtype=np.uint64)
        sources = [y[0, digit] for digit in raising.digits]
        with ring.workers.together():
            ring.mod_p.convert(large, sources, raising.to_p)
            ring.mod_q.convert(small, sources, raising.to_q, omitted=raising.own)
        with ring.workers.together():
            ring.mod_p.to_evaluation(large, large)
            ring.mod_q.to_evaluation(small, small, omitted=raising.own)
        places = np.where(raising.own, rows(x), rows(small))
        return Raised(towers, tuple(Factor(place, 0, (x, small)) for place in places), large)

    def inner_products(
        self, raised: Raised, key: SwitchingKey, out: Extended, added: Sequence[Factor | NDArray] = ()
    ) -> Extended:
        """Step 2, into ``out``.  added: to each half, of up to two, P times a polynomial (towers, N) modulo Q."""
        return self._inner_products(raised, key, out, self.times_p(added, raised.towers), [])

    def times_p(self, polynomials: Sequence[Factor | NDArray], towers: int) -> Products:
        """P times each of up to two, modulo Q; of one that is missing, 0."""
        return [(self.ring.lowering(towers).p, _pair(self.ring.mod_q, polynomials))] if polynomials else []

    def extended_inner_products(self, raised: Raised, key: SwitchingKey, out: Extended, first: Extended) -> Extended:
        """The same with the first polynomial of ``first``, modulo QP already, added as it is."""
        mod_q, mod_p = self.ring.mod_q, self.ring.mod_p
        added = [(mod_q.whole(1, raised.towers), _pair(mod_q, [first.small[0]]))]
        added_large = [(mod_p.whole(1, first.large.shape[1]), _pair(mod_p, [first.large[0]]))]
        return self._inner_products(raised, key, out, added, added_large)

    def _inner_products(
        self, raised: Raised, key: SwitchingKey, out: Extended, added: Products, added_large: Products
    ) -> Extended:
        permutation = self.ring.permutation(key.automorphism)
        small, large = self.products(raised, key, added, added_large)
        with self.ring.workers.together():
            self.ring.mod_p.sum_of_products(out.large, [large], permutation)
            self.ring.mod_q.sum_of_products(out.small, [small], permutation)
        return out

    def products(
        self, raised: Raised, key: SwitchingKey, added: Products = (), added_large: Products = ()
    ) -> tuple[Products, Products]:
        """Of step 2 what is to be summed for both halves, modulo Q and modulo P, before the automorphism."""
        digits, towers = key.small.shape[1:3]
        if digits < len(raised.small) or towers < raised.towers or key.special.shape[2] != raised.large.shape[1]:
            raise PlanError(f"a key of {towers} towers is used at {raised.towers}")
        # As many of the key's digits as there are.
        small = [*zip(raised.small, groups(key.small), strict=False), *added]
        return small, [*zip(factors(raised.large), groups(key.special), strict=False), *added_large]

    def mod_down(self, x: Extended, polynomials: slice = _ALL) -> NDArray[np.uint32]:
        """Step 3, of all polynomials or of some: (polynomials, towers, N), canonical."""
        ring, small, large = self.ring, x.small[polynomials], x.large[polynomials]
        lowering = ring.lowering(x.towers)
        halves = self.room("halves", len(large), 2 * large.shape[1])
        ring.mod_p.to_coefficients(halves, large, lowering.inverse)
        out = aligned(*small.shape, dtype=np.uint32)
        factors = np.repeat(lowering.to_q[:, : x.towers], len(small), axis=0)
        ring.mod_q.convert(out, list(halves), factors)
        ring.mod_q.to_evaluation(out, out, minuend=small, factors=lowering.inverse_p)
        return out

    def mod_down_and_rescale(self, x: Extended) -> NDArray[np.uint32]:
        """(2, towers - 1, N): what :meth:`rescale` gives of what :meth:`mod_down` does, by one transform a tower.

        With c = [acc]_P, r = (acc - c) / P modulo the last prime q, in coefficient form, and h = (q - 1) / 2: rescaling
        subtracts r centred, which is s - h, s = r + h modulo q, and (acc - (c + P s - P h)) / (P q) is the result.
        c in halves, s and 1 are the sources of a conversion."""
        ring, last = self.ring, x.towers - 1
        rescaling = ring.rescaling(x.towers)
        special = x.large.shape[1]
        sources = self.room(f"sources of {special}", 2, 2 * special + 2)
        halves, s, one = sources[:, :-2], sources[:, -2:-1], sources[:, -1]
        one[...] = 1  # as it is already where calls that wait read it
        with ring.workers.together():
            ring.mod_p.to_coefficients(halves, x.large, ring.lowering(x.towers).inverse)
            ring.mod_q.to_coefficients(s, x.small[:, last:], rescaling.inverse, first=last)
        terms = [*zip(rescaling.to_last, groups(sources[:, :, None]), strict=True)]
        rescaling.last.sum_of_products(s, [terms])
        out = aligned(2, last, ring.dimension, dtype=np.uint32)
        ring.mod_q.convert(out, [*sources], np.repeat(rescaling.to_q, 2, axis=0))
        ring.mod_q.to_evaluation(out, out, minuend=x.small[:, :last], factors=rescaling.inverses)
        return out

    def divided(self, key: SwitchingKey, towers: int) -> KeyInMemory:
        """A key as it is used at so many towers, fewer than a digit's: divided by the special primes that these do
        without (:meth:`.ring.Ring.special`), one after the other, each time rounded as by a rescale.

        What a key encrypts, P times a secret, is divided exactly; its error becomes that of rounding."""
        ring, small, large = self.ring, key.small[:, 0, :towers], key.special[:, 0]
        for last in reversed(range(len(ring.special(towers)), large.shape[1])):
            coefficients = self._centred(large[:, last:], last)
            parts: list[tuple[Polynomials, NDArray]] = [(ring.mod_q, small), (ring.mod_p, large[:, :last])]
            small, large = outs = [aligned(*part.shape, dtype=part.dtype) for _, part in parts]
            for (mod, part), out in zip(parts, outs, strict=True):
                inverses = mod.stored([pow(ring.p[last], -1, prime) for prime in mod.primes[: part.shape[1]]])
                mod.to_evaluation(out, coefficients, kind=INTEGERS, minuend=part, factors=inverses)
        ring.workers.wait()
        return KeyInMemory(key.automorphism, small[:, None], large[:, None])

    def _centred(self, x: NDArray[np.uint64], special: int) -> NDArray[np.int64]:
        """(polynomials, 1, N) coefficients of evaluation form modulo one of the special primes, nearest to 0."""
        halves = aligned(len(x), 2, self.ring.dimension, dtype=np.uint32)
        self.ring.mod_p.to_coefficients(halves, x, first=special)
        self.ring.workers.wait()
        out = aligned(len(x), 1, self.ring.dimension, dtype=np.int64)
        out[:, 0] = halves[:, 0] + (halves[:, 1].astype(np.int64) << 30)
        out -= self.ring.p[special] * (out > self.ring.p[special] // 2)
        return out

    # Put together -----------------------------------------------------------------------------------------------------

    def switched(self, x: NDArray[np.uint32], key: SwitchingKey, added: Sequence[Factor | NDArray]) -> Extended:
        """What, lowered, decrypts under the new secret to what x (towers, N) times the old one did, and ``added`` (0, 1
        or 2 of (towers, N)), all under the key's automorphism.  Valid until the next call."""
        return self.inner_products(self.mod_up(x), key, self.extended("products", len(x)), added)

    def add_to(self, x: Extended, added: NDArray[np.uint32]) -> None:
        """P times ``added``, (2, >= towers, N) modulo Q, added in place: lowered, ``x`` is more by ``added``."""
        one, p = self.ring.mod_q.whole(1, x.towers), self.ring.lowering(x.towers).p
        self.ring.mod_q.sum_of_products(x.small, [[(one, x.small), (p, added)]])

    def rescale(self, x: NDArray[np.uint32], towers: int) -> NDArray[np.uint32]:
        """(polynomials, towers - 1, N): the first towers of x / q_(towers - 1), rounded: the last residue, centred,
        is subtracted before."""
        ring, last = self.ring, towers - 1
        prime = ring.q[last]
        y = self._coefficients_of(x, last)
        out = aligned(len(x), last, ring.dimension, dtype=np.uint32)
        ring.mod_q.to_evaluation(out, y, kind=prime, minuend=x[:, :last], factors=ring.inverses_of(prime))
        return out

    def raise_modulus(self, x: NDArray[np.uint32], towers: int) -> NDArray[np.uint32]:
        """(polynomials, towers, N): the coefficients of x (polynomials, 1, N) modulo q_0, in [-q_0/2, q_0/2], modulo
        so many primes."""
        ring = self.ring
        out = aligned(len(x), towers, ring.dimension, dtype=np.uint32)
        ring.mod_q.to_evaluation(out, self._coefficients_of(x, 0), kind=ring.q[0])
        return out

    def _coefficients_of(self, x: NDArray[np.uint32], tower: int) -> NDArray[np.uint32]:
        """(polynomials, 1, N) of one tower."""
        y = self.room("y", len(x), 1)
        self.ring.mod_q.to_coefficients(y, x[:, tower : tower + 1], first=tower)
        return y


def _pair(polynomials: Polynomials, given: Sequence[Factor | NDArray]) -> Group:
    """Two polynomials, of which missing ones are 0."""
    return group(*given, *[polynomials.zeros] * (2 - len(given)))
