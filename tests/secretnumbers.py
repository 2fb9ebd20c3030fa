"""The numbers of a secret key, read out of OpenFHE's file, in the forms in which a copy could lie somewhere."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence

import numpy as np

#: Residues that are looked for in a row: by chance, two 48-bit ones do not follow each other.
_IN_A_ROW = 4
#: Of their highest bytes, which have few bits, so many.


def coefficients(secret_key: bytes, ring_dimension: int) -> list[int]:
    """Those of the secret polynomial."""
    return _coefficients(_towers(secret_key, ring_dimension)[0], *_primes(secret_key, ring_dimension)[0])


def error_of_public_key(public_key: bytes, secret_key: bytes, ring_dimension: int) -> np.ndarray:
    """Its coefficients: the two polynomials lie behind one another, each modulo all primes."""
    primes, towers = _primes(secret_key, ring_dimension), _towers(public_key, ring_dimension)
    secret = coefficients(secret_key, ring_dimension)
    return phase(towers[0], towers[len(primes)], secret, *primes[0])


def needles(secret_key: bytes, ring_dimension: int) -> dict[str, bytes]:
    """By name, a few bytes of each form: of the residues modulo each prime as they are stored, which are values of the
    polynomial, and of its coefficients as integers of 8 to 64 bits.

    The coefficients chosen are 0 and 1 alone, which are the same modulo every prime.
    """
    primes, towers = _primes(secret_key, ring_dimension), _towers(secret_key, ring_dimension)
    rows = (values[ring_dimension // 2 :][:_IN_A_ROW] for values in towers)
    found = {f"values modulo {prime}": row.tobytes() for (prime, _), row in zip(primes, rows, strict=True)}
    twice = [_coefficients(towers[i], *primes[i]) for i in (0, 1)]
    assert twice[0] == twice[1] and set(twice[0]) == {-1, 0, 1}
    telling = _telling(twice[0])
    for bits in (8, 16, 32, 64):
        found[f"coefficients of {bits} bits"] = np.array(telling, f"<i{bits // 8}").tobytes()
    return found


def native_needles(
    secret_key: bytes, ring_dimension: int, sources: np.ndarray, special: Sequence[tuple[int, int]]
) -> dict[str, bytes]:
    """The same of the residues as a native key file would hold them: in 32 bits modulo the primes of Q, in 64 modulo
    the ``special`` ones, each with its root, which the secret key's file does not have.

    sources: by position in the file, OpenFHE's residue that stands there.
    """
    primes, towers, middle = _primes(secret_key, ring_dimension), _towers(secret_key, ring_dimension), len(sources) // 2
    found = {}
    for (prime, _), values in zip(primes, towers, strict=True):
        row = values[sources[middle:]]
        found[f"words modulo {prime}"] = row[:_IN_A_ROW].astype("<u4").tobytes()
    coefficients, places = _coefficients(towers[0], *primes[0]), sources[middle:][:2]
    assert _values(coefficients, *primes[1]) == towers[1].tolist()
    for prime, root in special:
        found[f"values modulo {prime}"] = np.array(_values(coefficients, prime, root), "<u8")[places].tobytes()
    return found


def phase(b: np.ndarray, a: np.ndarray, secret: Sequence[int], prime: int, root: int) -> np.ndarray:
    """Coefficients of b + a * secret in (-prime/2, prime/2), for b and a in OpenFHE's evaluation form."""
    values = _values(secret, prime, root)
    total = [int(x) + int(y) * z for x, y, z in zip(b, a, values, strict=True)]
    return np.array(_coefficients(total, prime, root), dtype=object)


def _values(coefficients: Sequence[int], prime: int, root: int) -> list[int]:
    """The polynomial in OpenFHE's evaluation form: its values at the odd powers of the root, in bit-reversed order."""
    n, x = len(coefficients), list(coefficients)
    turns = [pow(root, power, prime) for power in _bit_reversed(n)]
    step = n // 2
    while step:
        groups = n // (2 * step)
        for group in range(groups):
            for i in range(2 * step * group, 2 * step * group + step):
                turned = x[i + step] * turns[groups + group]
                x[i], x[i + step] = (x[i] + turned) % prime, (x[i] - turned) % prime
        step //= 2
    return x


def _primes(secret_key: bytes, ring_dimension: int) -> list[tuple[int, int]]:
    """Each prime of the modulus and the root of unity, of order 2N, that OpenFHE uses."""
    before = re.escape(struct.pack("<II", 2 * ring_dimension, ring_dimension))
    ends = [match.end() for match in re.finditer(before, secret_key)]
    pairs = [struct.unpack_from("<QQ", secret_key, end + skipped) for end in ends for skipped in (0, 4)]
    return [(q, root) for q, root in pairs if q and pow(root, ring_dimension, q) == q - 1]


def _towers(secret_key: bytes, ring_dimension: int) -> list[np.ndarray]:
    """(N,) residues modulo each prime."""
    size = re.escape(struct.pack("<Q", ring_dimension))
    starts = [match.end() for match in re.finditer(size, secret_key)]
    rows = [
        np.frombuffer(secret_key, "<u8", ring_dimension, s) for s in starts if s + 8 * ring_dimension < len(secret_key)
    ]
    return [row for row in rows if row.min() > 0 and row.max() < 1 << 60]


def _coefficients(values: Iterable[int], prime: int, root: int) -> list[int]:
    """Coefficients in (-prime/2, prime/2) of the polynomial with these values, which stand as in :func:`_values`."""
    x = [int(value) for value in values]
    n, inverse, step = len(x), pow(root, -1, prime), 1
    turns = [pow(inverse, power, prime) for power in _bit_reversed(n)]
    while step < n:
        groups = n // (2 * step)
        for group in range(groups):
            for i in range(2 * step * group, 2 * step * group + step):
                low, high = x[i], x[i + step]
                x[i], x[i + step] = (low + high) % prime, (low - high) * turns[groups + group] % prime
        step *= 2
    shrink = pow(n, -1, prime)
    return [(c * shrink + prime // 2) % prime - prime // 2 for c in x]


def _bit_reversed(size: int) -> list[int]:
    bits = size.bit_length() - 1
    return [int(f"{i:0{bits}b}"[::-1], 2) for i in range(size)]


def _telling(coefficients: list[int]) -> list[int]:
    """The row of coefficients, none of them -1, that has the most ones."""
    rows = "".join("01-"[c] for c in coefficients).split("-")
    row = max(rows, key=lambda row: row.count("1")).strip("0")
    assert row.count("1") >= 4
    return [int(c) for c in row]
