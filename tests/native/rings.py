"""Rings of the primes that real chains have, without OpenFHE, and random and extreme residues in them."""

from __future__ import annotations

from functools import cache

import numpy as np

from lowmem_resnet20.native.ring.ring import Ring

SMALL_BITS, FIRST_BITS, LARGE_BITS = 28, 29, 60


def is_prime(number: int) -> bool:
    """Miller and Rabin's test with bases that decide below 2^64."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def primes(bits: int, dimension: int, count: int) -> list[int]:
    """The largest primes of so many bits that are 1 modulo 2N."""
    found, candidate = [], (1 << bits) + 1
    while len(found) < count:
        candidate -= 2 * dimension
        if is_prime(candidate):
            found.append(candidate)
    return found


def root_of_unity(prime: int, dimension: int) -> int:
    """A primitive one of order 2N."""
    return next(
        r
        for g in range(2, prime)
        if pow(r := pow(g, (prime - 1) // (2 * dimension), prime), dimension, prime) == prime - 1
    )


@cache
def ring(
    dimension: int = 1024,
    towers: int = 5,
    special: int = 3,
    digit_towers: int = 2,
    threads: int = 1,
    bits: int = SMALL_BITS,
) -> Ring:
    """q_0 one bit longer than the others; special primes of 60."""
    q = tuple(primes(bits + 1, dimension, 1) + primes(bits, dimension, towers - 1))
    p = tuple(primes(LARGE_BITS, dimension, special))
    q_roots, p_roots = (tuple(root_of_unity(prime, dimension) for prime in chain) for chain in (q, p))
    return Ring(dimension, q, q_roots, p, p_roots, digit_towers, threads)


KINDS = ("random", "zero", "one", "largest")


def residues(kind: str, moduli: tuple[int, ...], size: int, seed: int = 0) -> np.ndarray:
    """object (moduli, size) of Python integers in [0, modulus)."""
    random = np.random.default_rng(seed)
    rows = []
    for modulus in moduli:
        values = {"zero": 0, "one": 1, "largest": modulus - 1}.get(kind)
        row = random.integers(0, modulus, size) if values is None else np.full(size, values)
        rows.append([int(value) for value in row])
    return np.array(rows, object)
