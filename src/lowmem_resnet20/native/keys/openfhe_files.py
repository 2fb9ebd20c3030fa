"""Ciphertexts and evaluation keys in OpenFHE 1.6's files: read, checked, and, for ciphertexts, written.

OpenFHE's BINARY is an :mod:`.archive`.  Fields in order, as the ``save`` of each class writes them (OpenFHE 1.6.1):

* CiphertextImpl: context, key tag, polynomials, slots u32, level u32, hops u32, noise degree u32, scale f64, integer
  scale u64, encoding u32, metadata (a map, empty here).
* EvalKeyRelinImpl: context, key tag, polynomials a, polynomials b: one a digit, modulo QP.
* Key files: a map of the key tag to a list of keys (relinearisation) or to a map of automorphism indices to keys.

Nothing is believed: sizes are compared with the chain before anything is read, residues with their primes.  A result's
file begins with the bytes that the client's ciphertext began with, so the context in it is the client's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import CiphertextError, KeyFolderError, LowmemError
from ..ring.chain import Chain, Prime
from .archive import Malformed, Reader, Writer
from .openfhe_objects import (
    Basis,
    Polynomial,
    checked_residues,
    read_context,
    read_crypto_object,
    read_polynomials,
    write_polynomials,
)

_CKKS_PACKED = 4
_MOST_DIGITS, _MOST_KEYS = 64, 4096


@dataclass(frozen=True)
class Form:
    """What a ciphertext's file begins with, up to its polynomials; a result's file begins the same.

    beginning: context and key tag; objects: shared objects in it; basis: the context's.
    """

    beginning: bytes
    objects: int
    basis: Basis


@dataclass(frozen=True)
class FileCiphertext:
    """A ciphertext of a file.

    residues: uint64 (polynomials, towers, N), in the order of OpenFHE's evaluation form, each below its prime; slots:
    number of values; level: primes dropped; noise_degree: 1, or 2 before a rescale that FLEXIBLEAUTO puts off; scale:
    of the values.
    """

    form: Form
    residues: np.ndarray
    slots: int
    level: int
    noise_degree: int
    scale: float


@dataclass(frozen=True)
class FileKey:
    """A switching key of a file: a pair (b, a) a digit, modulo QP.  Residues are read when they are asked for.

    primes: of Q, then of P; tag: OpenFHE's name of the pair that it switches to.
    """

    tag: str
    primes: tuple[Prime, ...]
    a: tuple[Polynomial, ...]
    b: tuple[Polynomial, ...]

    @property
    def digits(self) -> int:
        return len(self.a)

    def residues(self, half: str, digit: int, tower: int) -> np.ndarray:
        """uint64 (N,), copied, of the half ``"a"`` or ``"b"``, each below its prime.  Errors: KeyFolderError."""
        with _refusing(KeyFolderError, "the key file"):
            return checked_residues(getattr(self, half)[digit].values[tower], self.primes[tower].value)


def read_chain(context: Any) -> Chain:
    """The chain in the file of a crypto context, without its special primes, which only keys have.

    Errors: KeyFolderError.
    """
    with _refusing(KeyFolderError, "the context file"):
        reader = Reader(context)
        reader.declared()
        found = reader.shared(read_context)
        reader.end()
        return found.chain


def read_ciphertext(data: Any, chain: Chain, *, polynomials: int = 2) -> FileCiphertext:
    """A ciphertext of this chain; before relinearisation it has three polynomials.

    Errors: CiphertextError for whatever is not wholly one.
    """
    with _refusing(CiphertextError, "the ciphertext"):
        reader = Reader(data)
        reader.declared()
        ciphertext = reader.shared(lambda reader: _ciphertext(reader, chain, polynomials))
        reader.end()
        return ciphertext


def read_form(data: Any, chain: Chain) -> Form:
    """What a ciphertext of this chain begins with; no more of it is read.  Errors: CiphertextError."""
    with _refusing(CiphertextError, "the ciphertext"):
        reader = Reader(data)
        reader.declared()
        return reader.shared(lambda reader: _beginning(reader, chain))


def write_ciphertext(
    form: Form, residues: np.ndarray, *, slots: int, level: int, noise_degree: int, scale: float
) -> bytes:
    """The file of a result, as OpenFHE writes it; the arguments are :class:`FileCiphertext`'s."""
    _, towers, dimension = residues.shape
    basis = form.basis
    if (dimension, towers, residues.dtype) != (basis.dimension, len(basis.towers) - level, np.uint64):
        raise ValueError(f"residues {residues.dtype} {residues.shape} at level {level} of {len(basis.towers)} towers")
    writer = Writer(form.beginning, form.objects)
    write_polynomials(writer, basis, residues)
    writer.pack("<4IdQI", slots, level, 0, noise_degree, scale, 1, _CKKS_PACKED)
    writer.new()
    writer.pack("<Q", 0)
    return writer.bytes()


def read_rotation_keys(data: Any, chain: Chain) -> dict[int, FileKey]:
    """By automorphism index, the keys in a file.  ``data`` may be a memory map: no residue is read yet.

    Errors: KeyFolderError.
    """
    with _refusing(KeyFolderError, "the key file"):
        reader = Reader(data)
        tag = _map_tag(reader)
        keys = reader.shared(lambda reader: _key_map(reader, chain))
        reader.end()
        if any(key.tag != tag for key in keys.values()):
            raise Malformed("its keys are of several pairs")
        return keys


def read_relinearisation_key(data: Any, chain: Chain) -> FileKey:
    """The key that brings a product of two ciphertexts back to two polynomials.  Errors: KeyFolderError."""
    with _refusing(KeyFolderError, "the key file"):
        reader = Reader(data)
        tag = _map_tag(reader)
        reader.exactly("<Q", (1,), "the number of relinearisation keys")
        key = _key_pointer(reader, chain)
        reader.end()
        if key.tag != tag:
            raise Malformed("its keys are of several pairs")
        return key


@contextmanager
def _refusing(error: type[LowmemError], subject: str) -> Iterator[None]:
    try:
        yield
    except Malformed as malformed:
        raise error(f"{subject} cannot be read: {malformed}") from malformed


def _beginning(reader: Reader, chain: Chain) -> Form:
    reader.version("CiphertextImpl", 1)
    context, _ = read_crypto_object(reader, chain)
    return Form(reader.before(reader.at), reader.objects, context.basis)


def _ciphertext(reader: Reader, chain: Chain, count: int) -> FileCiphertext:
    form = _beginning(reader, chain)
    polynomials = read_polynomials(reader, chain.dimension, count, "polynomials")
    slots, level, hops, noise_degree, scale, integer_scale, encoding = reader.unpack("<4IdQI")
    reader.shared(_no_metadata)
    primes = chain.q[: max(0, len(chain.q) - level)]
    if len(polynomials) != count or any(polynomial.primes != primes for polynomial in polynomials):
        raise Malformed(f"its polynomials are not {count} of level {level}")
    if (hops, integer_scale, encoding) != (0, 1, _CKKS_PACKED) or noise_degree not in (1, 2):
        raise Malformed("it holds no packed values of CKKS")
    if slots.bit_count() != 1 or 2 * slots > chain.dimension or not (math.isfinite(scale) and scale >= 1):
        raise Malformed(f"{slots} slots of scale {scale:g}")
    residues = np.empty((len(polynomials), len(primes), chain.dimension), np.uint64)
    for i, polynomial in enumerate(polynomials):
        for j, values in enumerate(polynomial.values):
            residues[i, j] = checked_residues(values, primes[j].value)
    return FileCiphertext(form, residues, slots, level, noise_degree, scale)


def _no_metadata(reader: Reader) -> str:
    reader.exactly("<Q", (0,), "the entries of metadata")
    return "metadata"


def _map_tag(reader: Reader) -> str:
    reader.exactly("<Q", (1,), "the number of key pairs")
    return reader.text()


def _key_map(reader: Reader, chain: Chain) -> dict[int, FileKey]:
    keys: dict[int, FileKey] = {}
    for _ in range(reader.count(_MOST_KEYS, "keys")):
        index = reader.u32()
        if index >= 2 * chain.dimension or index in keys:
            raise Malformed(f"an automorphism index {index}")
        keys[index] = _key_pointer(reader, chain)
    return keys


def _key_pointer(reader: Reader, chain: Chain) -> FileKey:
    reader.named("lbcrypto::EvalKeyRelinImpl<lbcrypto::DCRTPoly>")
    return reader.shared(lambda reader: _key(reader, chain))


def _key(reader: Reader, chain: Chain) -> FileKey:
    for class_ in ("EvalKeyRelinImpl", "EvalKeyImpl", "Key"):
        reader.version(class_)
    _, tag = read_crypto_object(reader, chain)
    a, b = (read_polynomials(reader, chain.dimension, _MOST_DIGITS, "digits") for _ in range(2))
    bases = {polynomial.primes for polynomial in (*a, *b)}
    if len(a) != len(b) or len(bases) != 1:
        raise Malformed("the halves of a key do not fit together")
    return FileKey(tag, bases.pop(), a, b)
