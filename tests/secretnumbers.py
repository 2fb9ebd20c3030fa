"""The numbers of a secret key, read out of OpenFHE's file, in the forms in which a copy could lie somewhere."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import reduce

import numpy as np

#: Residues that are looked for in a row: by chance, two 48-bit ones do not follow each other.
_IN_A_ROW = 4
#: Of their highest bytes, which have few bits, so many.
_BYTES_IN_A_ROW = 32


def coefficients(secret_key: bytes, ring_dimension: int) -> list[int]:
    """Those of the secret polynomial."""
    return _coefficients(_towers(secret_key, ring_dimension)[0], *_primes(secret_key, ring_dimension)[0])


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
    """The same of the residues as a native key file would hold them: split into words and bytes modulo the primes of Q,
    whole modulo the ``special`` ones, each with its root, which the secret key's file does not have.

    sources: by position in the file, OpenFHE's residue that stands there.
    """
    primes, towers, middle = _primes(secret_key, ring_dimension), _towers(secret_key, ring_dimension), len(sources) // 2
    found = {}
    for (prime, _), values in zip(primes, towers, strict=True):
        row = values[sources[middle:]]
        found[f"words modulo {prime}"] = row[:_IN_A_ROW].astype("<u4").tobytes()
        found[f"high bytes modulo {prime}"] = (row[:_BYTES_IN_A_ROW] >> np.uint64(32)).astype(np.uint8).tobytes()
        found[f"floats modulo {prime}"] = row[:_IN_A_ROW].astype("<f8").tobytes()
    coefficients, places = _coefficients(towers[0], *primes[0]), sources[middle:][:2]
    assert _values(coefficients, *primes[1], places) == towers[1][places].tolist()
    for prime, root in special:
        found[f"values modulo {prime}"] = np.array(_values(coefficients, prime, root, places), "<u8").tobytes()
    return found


def _values(coefficients: list[int], prime: int, root: int, places: Sequence[int]) -> list[int]:
    """The polynomial's values where OpenFHE's evaluation form has these places."""
    bits = len(coefficients).bit_length() - 1
    points = [pow(root, 2 * int(f"{place:0{bits}b}"[::-1], 2) + 1, prime) for place in places]
    return [reduce(lambda total, c, x=x: (total * x + c) % prime, reversed(coefficients), 0) for x in points]


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


def _coefficients(values: np.ndarray, prime: int, root: int) -> list[int]:
    """Coefficients in (-prime/2, prime/2) of the polynomial with these values, which stand in bit-reversed order."""
    n, x = len(values), [int(value) for value in values]
    inverse, bits = pow(root, -1, prime), len(values).bit_length() - 1
    turns = [pow(inverse, int(f"{i:0{bits}b}"[::-1], 2), prime) for i in range(n)]
    step = 1
    while step < n:
        groups = n // (2 * step)
        for group in range(groups):
            for i in range(2 * step * group, 2 * step * group + step):
                low, high = x[i], x[i + step]
                x[i], x[i + step] = (low + high) % prime, (low - high) * turns[groups + group] % prime
        step *= 2
    shrink = pow(n, -1, prime)
    return [(c * shrink + prime // 2) % prime - prime // 2 for c in x]


def _telling(coefficients: list[int]) -> list[int]:
    """The row of coefficients, none of them -1, that has the most ones."""
    rows = "".join("01-"[c] for c in coefficients).split("-")
    row = max(rows, key=lambda row: row.count("1")).strip("0")
    assert row.count("1") >= 4
    return [int(c) for c in row]
