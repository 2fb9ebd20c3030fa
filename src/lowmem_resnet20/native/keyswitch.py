"""Hybrid key switching, hoisting, and the ways between Q and QP.

Han and Ki (CT-RSA 2020, "Better bootstrapping for approximate homomorphic encryption"), section 3, as OpenFHE 1.6.1
does it and with the same residues:

1. ModUp: each digit of the polynomial, modulo all of QP (:func:`.bases.mod_up`), back in evaluation form;
2. inner products of the digits with a key's halves b and a, modulo QP.  An automorphism permutes digits and key
before, which is permuting after;
3. ModDown: (acc - [acc]_P) / P modulo Q, [acc]_P in [0, P) and a small multiple of P more
(:func:`.bases.mod_down`).

The ciphertext's other polynomial is added in step 2, times P: it comes out of step 3 as it was.  Rotations of one
ciphertext share step 1; sums of results can share step 3 (:class:`Extended`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from . import bases, elementwise, ntt
from .memory import aligned
from .ring import Ring

_BOTH = slice(0, 2)


class SwitchingKey(Protocol):
    """A key as kernels read it: cut to the towers it is used at, in this wing's order, permuted by its automorphism
    (:class:`.keys.NativeKey` is one).

    automorphism: g of X -> X^g, 1 for relinearisation.  low: uint32, high:
    uint8, both (2, digits, towers, N): the low 32 bits and the rest of the residues of b, then a, modulo q_0 ..
    q_(towers - 1); special: uint64 (2, digits, k, N): residues modulo the special primes.  All in [0, p),
    C-contiguous, and writable because kernels are compiled for arrays that are; on cache lines.

    At k of N the residue of position Ring.automorphism(g)[k] stands, in the order of :class:`.ring.Ring`.  At fewer
    towers the first ones of the first digits are read."""

    @property
    def automorphism(self) -> int: ...

    @property
    def low(self) -> NDArray[np.uint32]: ...

    @property
    def high(self) -> NDArray[np.uint8]: ...

    @property
    def special(self) -> NDArray[np.uint64]: ...


@dataclass(frozen=True, eq=False)
class Raised:
    """A polynomial's digits modulo QP, in evaluation form; its own array stands for the towers inside each digit.

    own: (>= towers, N); small: (digits, towers, N); large: (digits, k, N).
    """

    own: NDArray[np.float64]
    towers: int
    small: NDArray[np.float64]
    large: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Extended:
    """Two polynomials modulo QP in evaluation form.  small: (2, towers, N), lazy; large: (2, k, N)."""

    small: NDArray[np.float64]
    large: NDArray[np.uint64]

    @property
    def towers(self) -> int:
        return self.small.shape[1]


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

    def room(self, name: str, *shape: int, dtype: type = np.float64) -> NDArray:
        """Memory that the next call with this name may reuse."""
        size = int(np.prod(shape))
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            kept = self._kept[name] = aligned(size, dtype=dtype)
        return kept[:size].reshape(shape)

    def _tiles(self, name: str, *shape: int, dtype: type = np.float64) -> NDArray:
        ring = self.ring
        return self.room(name, *shape[:-1], ring.tiles, shape[-1], ring.tile_stride, dtype=dtype)

    # Coefficients and back ------------------------------------------------------------------------------------------

    def to_coefficients(self, name: str, x: NDArray, tables: ntt.Tables) -> NDArray:
        """(polynomials, towers, N) in tiles (polynomials, tiles, towers, stride), canonical, times the tables'
        scale."""
        ring, (polynomials, towers, n) = self.ring, x.shape
        tiles = self._tiles(name, polynomials, towers, dtype=x.dtype.type)
        gap = ring.tiles * towers * ring.tile_stride
        places = [
            (i * gap + t * ring.tile_stride, (i * towers + t) * n, t) for i in range(polynomials) for t in range(towers)
        ]
        ring.workers.run(ntt.to_coefficients, len(places), tiles.reshape(-1), x.reshape(-1),
                         towers * ring.tile_stride, np.array(places), tables)  # fmt: skip
        return tiles

    def to_evaluation(self, out: NDArray, tiles: NDArray, tables: ntt.Tables, skip: int = 0) -> None:
        """The reverse.  skip: towers of digit i of so many that are left out of polynomial i; 0: none."""
        ring, (polynomials, towers, n) = self.ring, out.shape
        gap = ring.tiles * towers * ring.tile_stride
        places = [((i * towers + t) * n, i * gap + t * ring.tile_stride, t)
                  for t in range(towers) for i in range(polynomials) if not skip or t // skip != i]  # fmt: skip
        if places:
            ring.workers.run(ntt.to_evaluation, len(places), out.reshape(-1), tiles.reshape(-1),
                             towers * ring.tile_stride, np.array(places), tables)  # fmt: skip

    # The steps --------------------------------------------------------------------------------------------------------

    def mod_up(self, x: NDArray[np.float64]) -> Raised:
        """Step 1.  x: (towers, N), canonical, contiguous.  Valid until the next call."""
        ring, (towers, n), k = self.ring, x.shape, len(self.ring.p)
        raising = ring.raising(towers)
        y = self.to_coefficients("y", x[None], raising.inverse)
        small_tiles = self._tiles("small tiles", raising.digits, towers)
        large_tiles = self._tiles("large tiles", raising.digits, k, dtype=np.uint64)
        layout = (raising.digits, towers, ring.digit_towers, k, ring.tiles, ring.tile_stride, ring.tile_size)
        ring.workers.run(bases.mod_up, raising.digits * ring.tiles, small_tiles.reshape(-1),
                         large_tiles.reshape(-1), y.reshape(-1), layout, raising.parts.reshape(-1),
                         raising.large_parts.reshape(-1), *ring.half_shift, ring.forward_q, ring.forward_p)  # fmt: skip
        small = self.room("digits", raising.digits, towers, n)
        large = self.room("large digits", raising.digits, k, n, dtype=np.uint64)
        self.to_evaluation(small, small_tiles, ring.forward_q, skip=ring.digit_towers)
        self.to_evaluation(large, large_tiles, ring.forward_p)
        return Raised(x, towers, small, large)

    def inner_products(self, raised: Raised, key: SwitchingKey, added: NDArray[np.float64], out: Extended) -> Extended:
        """Step 2, into ``out``; key and digits permuted by the key's automorphism.

        added: (0, 1 or 2, towers, N), permuted too, is added times P.
        """
        return self._inner_products(raised, key, added, self.ring.lowering.p, np.empty((0, 0), np.uint64), out)

    def extended_inner_products(self, raised: Raised, key: SwitchingKey, first: Extended, out: Extended) -> Extended:
        """The same with the first polynomial of ``first``, modulo QP already, added as it is."""
        ones = np.ones(raised.towers)
        return self._inner_products(raised, key, first.small[:1], ones, first.large[:1], out)

    def _inner_products(
        self,
        raised: Raised,
        key: SwitchingKey,
        added: NDArray[np.float64],
        factor: NDArray[np.float64],
        added_large: NDArray[np.uint64],
        out: Extended,
    ) -> Extended:
        ring, n, towers, k = self.ring, self.ring.dimension, raised.towers, len(self.ring.p)
        count, shape = len(raised.small), key.low.shape[1:3]
        if shape[0] < count or shape[1] < towers:
            raise PlanError(f"a key of {shape[1]} towers is used at {towers}")
        permutation = ring.permutation(key.automorphism)
        pieces = n // elementwise.PIECE
        ring.workers.run(elementwise.small_key_sums, towers * pieces, out.small.reshape(-1), raised.own.reshape(-1),
                         raised.small.reshape(-1), ring.digit_towers, n, towers, count, key.low.reshape(-1),
                         key.high.reshape(-1), shape, added.reshape(-1), factor, permutation,
                         ring.forward_q.modulus, ring.forward_q.inverse)  # fmt: skip
        ring.workers.run(elementwise.large_key_sums, k * pieces, out.large.reshape(-1),
                         raised.large.reshape(-1), n, k, count, key.special.reshape(-1), shape,
                         added_large.reshape(-1), permutation, ring.forward_p.modulus,
                         ring.forward_p.inverse)  # fmt: skip
        return out

    def mod_down(self, x: Extended, polynomials: slice = _BOTH) -> NDArray[np.float64]:
        """Step 3, of both polynomials or of some: (polynomials, towers, N), canonical."""
        ring, towers, n, k = self.ring, x.towers, self.ring.dimension, len(self.ring.p)
        small, large = x.small[polynomials], x.large[polynomials]
        y = self.to_coefficients("large tiles", large, ring.lowering.inverse)
        tiles = self._tiles("small tiles", len(small), towers)
        layout = (towers, k, ring.tile_stride, ring.tile_size)
        ring.workers.run(bases.mod_down, len(small) * ring.tiles, tiles.reshape(-1), y.reshape(-1), layout,
                         ring.lowering.parts.reshape(-1), ring.forward_q)  # fmt: skip
        out = aligned(len(small), towers, n)
        gaps = (ring.tiles * towers * ring.tile_stride, ring.tile_stride)
        ring.workers.run(elementwise.divide, len(small) * towers, out.reshape(-1), small.reshape(-1), towers * n,
                         tiles.reshape(-1), gaps, towers * ring.tile_stride, n, towers, ring.lowering.inverse_p,
                         ring.forward_q)  # fmt: skip
        return out

    def extended(self, name: str, towers: int) -> Extended:
        """Room for two polynomials modulo QP, kept under a name."""
        n, k = self.ring.dimension, len(self.ring.p)
        large = self.room(f"{name}, large", 2, k, n, dtype=np.uint64)
        return Extended(self.room(f"{name}, small", 2, towers, n), large)

    # Put together -----------------------------------------------------------------------------------------------------

    def switch(self, x: NDArray[np.float64], key: SwitchingKey, added: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, towers, N) that decrypts under the new secret to what x (towers, N) times the old one did, and
        ``added`` (0, 1 or 2, towers, N), all under the key's automorphism."""
        return self.mod_down(self.inner_products(self.mod_up(x), key, added, self.extended("products", len(x))))

    def rescale(self, x: NDArray[np.float64], towers: int) -> NDArray[np.float64]:
        """(polynomials, towers - 1, N): the first towers of x / q_(towers - 1), rounded: the last residue, centred,
        is subtracted before."""
        ring, (polynomials, all_towers, n) = self.ring, x.shape
        last = towers - 1
        tables = ntt.some_primes(ring.inverse_q, last, towers)
        tiles = self.to_coefficients("y", np.ascontiguousarray(x[:, last:towers]), tables)
        prime = ring.q[last]
        self._centre(tiles, prime)
        out = aligned(polynomials, last, n)
        ring.workers.run(elementwise.divide, polynomials * last, out.reshape(-1), x.reshape(-1), all_towers * n,
                         tiles.reshape(-1), (ring.tiles * ring.tile_stride, 0), ring.tile_stride, n, last,
                         ring.inverses_of(prime), ring.forward_q)  # fmt: skip
        return out

    def raise_modulus(self, x: NDArray[np.float64], towers: int) -> NDArray[np.float64]:
        """(polynomials, towers, N): the coefficients of x (polynomials, 1, N) modulo q_0, in [-q_0/2, q_0/2], modulo
        so many primes."""
        ring, (polynomials, _, n) = self.ring, x.shape
        tiles = self.to_coefficients("y", x, ntt.some_primes(ring.inverse_q, 0, 1))
        self._centre(tiles, ring.q[0])
        out = aligned(polynomials, towers, n)
        gap = ring.tiles * ring.tile_stride
        places = [((i * towers + t) * n, i * gap, t) for i in range(polynomials) for t in range(towers)]
        ring.workers.run(ntt.to_evaluation, len(places), out.reshape(-1), tiles.reshape(-1),
                         ring.tile_stride, np.array(places), ring.forward_q)  # fmt: skip
        return out

    def _centre(self, tiles: NDArray[np.float64], prime: int) -> None:
        size = self.ring.tile_stride
        self.ring.workers.run(bases.centre, tiles.size // size, tiles.reshape(-1), size, float(prime), 1 / float(prime))
