"""The ring and the chain of primes that ciphertexts and keys share, and the file that names them.

Z[X]/(X^N + 1) modulo Q = q_0 ... q_L, and modulo QP, P = p_0 ... p_(k-1), inside key switching.  Each prime is 1 modulo
2N and comes with a primitive 2N-th root of unity psi, by which OpenFHE orders what its transform gives.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import KeyFolderError

#: A key folder's file of it.
CHAIN = "chain.json"
SMALLEST_DIMENSION, LARGEST_DIMENSION = 8, 1 << 17
#: Bits of the primes that key files hold, at most: of Q in words of 32, of P in words of 64.
Q_BITS, P_BITS = 30, 61
MOST_PRIMES = 64
_FORMAT = 2
_LONGEST_FILE = 1 << 16


class Prime(NamedTuple):
    """A prime and psi modulo it: psi^N = -1."""

    value: int
    root: int

    def fits(self, dimension: int) -> bool:
        """Whether psi has the order 2N modulo the value, which is odd."""
        in_range = 2 * dimension < self.value < 1 << P_BITS and 0 < self.root < self.value
        return in_range and self.value % 2 == 1 and pow(self.root, dimension, self.value) == self.value - 1


@dataclass(frozen=True)
class Chain:
    """dimension: N; digits: dnum of hybrid key switching; q, p: the primes of Q, q_0 first, and of P, which a context
    does not tell."""

    dimension: int
    digits: int
    q: tuple[Prime, ...]
    p: tuple[Prime, ...] = ()

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

    @property
    def digest(self) -> str:
        """Names the chain in the headers of keys."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    def to_json(self) -> bytes:
        """The chain's file."""
        fields = {"format": _FORMAT, "dimension": self.dimension, "digits": self.digits}
        return (json.dumps(fields | {name: getattr(self, name) for name in _PRIMES}) + "\n").encode()


_PRIMES = ("q", "p")


def _coprime(moduli: tuple[Prime, ...]) -> bool:
    """Whether no two share a factor: what is computed with them needs no more, primes that they are said to be."""
    values = [modulus.value for modulus in moduli]
    return math.lcm(*values) == math.prod(values)


def read_chain_file(path: Path) -> Chain:
    """The chain of a key folder.  Errors: KeyFolderError unless every prime has its root and its size."""
    try:
        with open(path, "rb") as file:
            fields = json.loads(file.read(_LONGEST_FILE))
        chain = _parsed(fields)
    except OSError as error:
        raise KeyFolderError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise KeyFolderError(f"{path} does not describe a chain of primes") from None
    return chain


def _parsed(fields: dict[str, Any]) -> Chain:
    dimension, digits = fields["dimension"], fields["digits"]
    q, p = (tuple(Prime(*pair) for pair in fields[name]) for name in _PRIMES)
    primes = (*q, *p)
    whole = all(type(number) is int for number in (dimension, digits, *(n for prime in primes for n in prime)))
    if fields["format"] != _FORMAT or not whole or not 0 < len(primes) <= 2 * MOST_PRIMES:
        raise ValueError("not of this format")
    if dimension.bit_count() != 1 or not SMALLEST_DIMENSION <= dimension <= LARGEST_DIMENSION:
        raise ValueError("no power of two")
    if not 1 <= digits <= len(q) or len({prime.value for prime in primes}) != len(primes):
        raise ValueError("digits or primes do not fit")
    if not all(prime.fits(dimension) for prime in primes) or max(prime.value for prime in q) >= 1 << Q_BITS:
        raise ValueError("no primes of the ring")
    if not _coprime(primes):
        raise ValueError("residues that do not go together")
    return Chain(dimension, digits, q, p)
