"""The ring and the chain of primes that ciphertexts and keys share.

Z[X]/(X^N + 1) modulo Q = q_0 ... q_L, and modulo QP, P = p_0 ... p_(k-1), inside key switching.  Each prime is 1 modulo 2N and
comes with a primitive 2N-th root of unity psi, by which OpenFHE orders what its transform gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LARGEST_DIMENSION = 1 << 17


class Prime(NamedTuple):
    """A prime and psi modulo it: psi^N = -1."""

    value: int
    root: int

    def fits(self, dimension: int) -> bool:
        """Whether psi has the order 2N (which makes the value 1 modulo 2N if it is a prime)."""
        in_range = 2 * dimension < self.value < 1 << 61 and 0 < self.root < self.value
        return in_range and pow(self.root, dimension, self.value) == self.value - 1


@dataclass(frozen=True)
class Ring:
    """dimension: N; q, p: the primes of Q, q_0 first, and of P; digits: dnum of hybrid key switching."""

    dimension: int
    q: tuple[Prime, ...]
    p: tuple[Prime, ...]
    digits: int

    @property
    def digit_towers(self) -> int:
        """Towers of a digit (alpha); the last may have fewer."""
        return -(-len(self.q) // self.digits)

    def digits_at(self, towers: int) -> int:
        """Digits of a polynomial of so many towers."""
        return -(-towers // self.digit_towers)

    def scaling_factors(self) -> tuple[float, ...]:
        """By level, the scale of a ciphertext of noise degree 1: OpenFHE's FLEXIBLEAUTO.

        s_0 = q_L; s_l = s_(l-1)^2 / q_(L+1-l), in double precision as there, so that the numbers are the same.  At
        level l a ciphertext has L+1-l towers; one of noise degree 2 has s_l^2.
        """
        factors = [float(self.q[-1].value)]
        for prime in reversed(self.q[1:]):
            factors.append(factors[-1] * factors[-1] / float(prime.value))
        return tuple(factors)
