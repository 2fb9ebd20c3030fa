"""The ring, its primes, and all that is computed from them once: tables, orders of residues, automorphisms.

Z[X]/(X^N + 1) modulo Q = q_0 .. q_L, and modulo P = p_0 .. p_(k-1) inside key switching.  ``order`` is how evaluation
form lies in memory: the value that OpenFHE keeps at position i is at order[i].

The automorphism X -> X^g of a polynomial in evaluation form is a permutation: the result at k is the argument at
automorphism(g)[k].  Rotations of the slots by s have g = 5^s, complex conjugation 2N - 1 (Halevi and Shoup, Crypto
2014, section 4; Cheon, Han, Kim, Kim and Song, Eurocrypt 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...machine.memory import cached_method
from ..kernels import bases, elementwise, ntt
from ..kernels.memory import aligned
from ..kernels.order import check_dimension, memory_order, permutation
from ..kernels.polynomials import UNPERMUTED, Factor, Polynomials
from ..kernels.residues import LARGE_RANGE, MOST_LARGE_TERMS, SMALL_LIMIT
from ..kernels.threads import available_processors
from ..kernels.workers import Workers
from .chain import Chain


class Raising(NamedTuple):
    """What raising the digits of a polynomial of so many towers needs.

    digits: the towers of each, the last one perhaps of fewer; own: (digits, towers) whether a tower is a digit's;
    inverse: the inverse transform's tables with the factors that make y of x (:mod:`..kernels.bases`); to_q, to_p: the
    conversions' constants."""

    digits: tuple[slice, ...]
    own: NDArray[np.bool_]
    inverse: ntt.Tables
    to_q: NDArray[np.uint32]
    to_p: NDArray[np.uint64]


class Lowering(NamedTuple):
    """What lowering from QP to Q needs.

    inverse: the inverse transform's tables modulo P with the factors that make y of x; to_q: the conversion's
    constants; inverse_p: (L + 1, 2) 1/P modulo each prime of Q, with quotients; p: P modulo each."""

    inverse: ntt.Tables
    to_q: NDArray[np.uint32]
    inverse_p: NDArray[np.uint32]
    p: Factor


class Rescaling(NamedTuple):
    """What lowering and rescaling by the last of so many primes needs, in one
    (:meth:`.keyswitch.KeySwitcher.mod_down_and_rescale`).

    inverse: the inverse transform's tables modulo Q with 1/P as a factor; last: operations modulo the last prime;
    to_last, to_q: the conversions' constants to that prime and to the others; inverses: (towers - 1, 2) 1/P by the last
    prime modulo each of the others, with quotients."""

    inverse: ntt.Tables
    last: Polynomials
    to_last: list[Factor]
    to_q: NDArray[np.uint32]
    inverses: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Ring:
    """dimension: N = 2^10 .. 2^16; q, p: primes of Q and P; q_roots, p_roots: OpenFHE's roots of unity of order 2N
    modulo each; digit_towers: towers of a digit of key switching; threads: of all operations.

    Errors: ValueError for primes beyond :mod:`..kernels.residues`' bounds.
    """

    dimension: int
    q: tuple[int, ...]
    q_roots: tuple[int, ...]
    p: tuple[int, ...]
    p_roots: tuple[int, ...]
    digit_towers: int
    threads: int = 0

    def __post_init__(self) -> None:
        check_dimension(self.dimension)
        if max(self.q) >= SMALL_LIMIT:
            raise ValueError(f"primes of Q must have at most 30 bits, not {max(self.q).bit_length()}")
        if max(self.q) >= 4 * min(self.q):  # what is centred modulo one is a lazy residue modulo any
            raise ValueError(f"primes of Q from {min(self.q)} to {max(self.q)} differ by more than two bits")
        if wrong := [p for p in self.p if not LARGE_RANGE[0] < p < LARGE_RANGE[1]]:
            raise ValueError(f"special primes must have 60 bits, not {wrong[0].bit_length()}")
        if self.digits_at(len(self.q)) >= MOST_LARGE_TERMS or self.digit_towers > MOST_LARGE_TERMS:
            raise ValueError(f"{self.digits_at(len(self.q))} digits of {self.digit_towers} towers are too many to sum")

    @classmethod
    def of(cls, chain: Chain, threads: int = 0) -> Ring:
        """The ring of a chain; threads: 0 for as many as the process may use."""
        (q, q_roots), (p, p_roots) = zip(*chain.q, strict=True), zip(*chain.p, strict=True)
        return cls(chain.dimension, q, q_roots, p, p_roots, chain.digit_towers, threads)

    @cached_property
    def mod_q(self) -> Polynomials:
        """Operations modulo the primes of Q."""
        return Polynomials(self.dimension, self.q, self.q_roots, np.uint32, self.workers)

    @cached_property
    def mod_p(self) -> Polynomials:
        """Operations modulo the special primes."""
        return Polynomials(self.dimension, self.p, self.p_roots, np.uint64, self.workers)

    @cached_property
    def workers(self) -> Workers:
        scratch = max(ntt.scratch_elements(self.dimension), bases.SCRATCH_ELEMENTS, elementwise.SCRATCH_ELEMENTS)
        return Workers(self.threads or available_processors(), scratch)

    # Order ----------------------------------------------------------------------------------------------------------

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(N,) where in memory OpenFHE's position i is."""
        return memory_order(self.dimension)

    def from_openfhe(self, residues: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """(..., N) modulo primes of Q, of OpenFHE's order, in this one's."""
        result = aligned(*residues.shape, dtype=np.uint32)
        result[..., self.order] = residues
        return result

    def to_openfhe(self, residues: NDArray) -> NDArray[np.uint64]:
        """The reverse, once they are computed."""
        self.workers.wait()
        return residues[..., self.order].astype(np.uint64)

    def rotation(self, step: int) -> int:
        """The automorphism that brings slot i + step to slot i."""
        return pow(5, step % (self.dimension // 2), 2 * self.dimension)

    def permutation(self, index: int) -> NDArray[np.uint32]:
        """The same for kernels: empty for X -> X, which permutes nothing."""
        return self.automorphism(index) if index != 1 else UNPERMUTED

    @cached_method(128)
    def automorphism(self, index: int) -> NDArray[np.uint32]:
        """(N,) the permutation of evaluation form that X -> X^index, odd, does."""
        permuted = aligned(self.dimension, dtype=np.uint32)
        permuted[self.order] = self.order[permutation(index, self.dimension)]
        return permuted

    # Constants ------------------------------------------------------------------------------------------------------

    def digits_at(self, towers: int) -> int:
        """Digits of a polynomial of so many towers."""
        return -(-towers // self.digit_towers)

    @cached_method(64)
    def special(self, towers: int) -> tuple[int, ...]:
        """The primes of P, of polynomials of so many towers: all, or where these are fewer than a digit's the first
        ones whose product is not below theirs.

        P divides what an error of a key is multiplied with, which is below that product; the key is divided by the
        other primes (:meth:`.keyswitch.KeySwitcher.divided`)."""
        count, digit = len(self.p), prod(self.q[:towers])
        while towers < self.digit_towers and count > 1 and prod(self.p[: count - 1]) >= digit:
            count -= 1
        return self.p[:count]

    @cached_method(64)
    def raising(self, towers: int) -> Raising:
        starts = range(0, towers, self.digit_towers)
        digits = tuple(slice(start, min(start + self.digit_towers, towers)) for start in starts)
        groups = [self.q[digit] for digit in digits]
        inverse = self.mod_q.inverse_times([f for group in groups for f in bases.cofactor_inverses(group)])
        own = np.arange(towers) // self.digit_towers == np.arange(len(digits))[:, None]
        to_q = bases.factors(groups, self.q[:towers], np.uint32)
        return Raising(digits, own, inverse, to_q, bases.factors(groups, self.special(towers), np.uint64))

    def lowering(self, towers: int) -> Lowering:
        return self._lowering(len(self.special(towers)))

    @cached_method(64)
    def _lowering(self, special: int) -> Lowering:
        """From so many special primes."""
        primes = self.p[:special]
        product = prod(primes)
        inverse = self.mod_p.inverse_times(bases.cofactor_inverses(primes))
        to_q = bases.factors([primes], self.q, np.uint32, halves=True)
        inverse_p = self.mod_q.stored([pow(product, -1, q) for q in self.q])
        return Lowering(inverse, to_q, inverse_p, self.mod_q.whole(product, len(self.q)))

    @cached_method(64)
    def rescaling(self, towers: int) -> Rescaling:
        *others, prime = self.q[:towers]
        special = self.special(towers)
        product, half = prod(special), prime // 2
        inverse = self.mod_q.inverse_times([pow(product, -1, q) for q in self.q[:towers]])
        last = self.mod_q.modulo(towers - 1)
        of_halves = [-pow(p, -1, prime) << shift for p in special for shift in bases.HALVES]
        to_last = [last.whole(c, 1) for c in (*of_halves, 1, half)]
        to_q = bases.factors([special], others, np.uint32, halves=True, further=(product, -half * product))
        inverses = self.mod_q.stored([pow(product * prime, -1, q) for q in others])
        return Rescaling(inverse, last, to_last, to_q, inverses)

    @cached_method(64)
    def inverses_of(self, prime: int) -> NDArray[np.uint32]:
        """(L + 1, 2) 1/prime modulo each prime of Q, with quotients, 0 modulo itself."""
        return self.mod_q.stored([pow(prime, -1, q) if q != prime else 0 for q in self.q])

    @cached_property
    def imaginary_units(self) -> tuple[int, ...]:
        """The value of X^(N/2), a root of -1, in the first half of evaluation form modulo each prime; in the second it
        is the negative."""
        return tuple(pow(root, self.dimension // 2, q) for q, root in zip(self.q, self.q_roots, strict=True))
