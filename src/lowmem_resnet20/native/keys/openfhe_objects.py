"""The objects of OpenFHE 1.6 that its ciphertexts and keys are made of: contexts, bases, polynomials.

Fields in order, as the ``save`` of each class writes them (OpenFHE 1.6.1, big integers of 64-bit limbs):

* Context: parameters (a basis, the encoding, 25 settings and 12 more of key switching and scaling), scheme (what was
  set up for bootstrapping), features u32, scheme number u32.
* Basis: 2N u32, N u32, modulus and three unused big integers, its towers.
* Tower: 2N u32, N u32, modulus u64, psi u64, two unused u64.
* DCRTPoly: vectors, format u32 (0: evaluation), basis.  Vector: present u8, N values u64, modulus u64, format, tower.

Contexts, bases and towers are shared: written once, then referred to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..ring.chain import LARGEST_DIMENSION, MOST_PRIMES, SMALLEST_DIMENSION, Chain, Prime
from .archive import DECLARED, Malformed, Reader, Writer

_EVALUATION_FORMAT = 0
_HYBRID, _FLEXIBLEAUTO = 2, 2
#: PKE, key switching, levelled and advanced arithmetic, bootstrapping; the number of CKKSRNS.
_FEATURES, _CKKSRNS = 0x5B, 1
_MOST_SETUPS = 32


class Tower(NamedTuple):
    """A prime and the number of its pointer."""

    number: int
    prime: Prime


class Basis(NamedTuple):
    number: int
    dimension: int
    towers: tuple[Tower, ...]

    @property
    def primes(self) -> tuple[Prime, ...]:
        return tuple(tower.prime for tower in self.towers)


class Context(NamedTuple):
    basis: Basis
    digits: int

    @property
    def chain(self) -> Chain:
        """Without the special primes, which no context holds."""
        return Chain(self.basis.dimension, self.digits, self.basis.primes)


class Polynomial(NamedTuple):
    """values: by prime, N residues of 8 bytes, neither copied nor checked."""

    primes: tuple[Prime, ...]
    values: tuple[memoryview, ...]


def read_context(reader: Reader) -> Context:
    reader.version("CryptoContextImpl", 1)
    reader.named("lbcrypto::CryptoParametersCKKSRNS")
    context = reader.shared(_crypto_parameters)
    reader.named("lbcrypto::SchemeCKKSRNS")
    reader.shared(_scheme)
    reader.exactly("<2I", (_FEATURES, _CKKSRNS), "the features of the context")
    return context


def read_crypto_object(reader: Reader, chain: Chain) -> tuple[Context, str]:
    """The base of ciphertexts and keys: the context, which has to be this chain's, and the key tag."""
    reader.version("CryptoObject")
    reader.declared()
    context = reader.shared(read_context)
    found = context.chain
    if (found.dimension, found.q, found.digits) != (chain.dimension, chain.q, chain.digits):
        raise Malformed("it belongs to other parameters")
    return context, reader.text()


def read_polynomials(reader: Reader, dimension: int, most: int, of: str) -> tuple[Polynomial, ...]:
    return tuple(_polynomial(reader, dimension) for _ in range(reader.count(most, of)))


def checked_residues(values: memoryview, prime: int) -> np.ndarray:
    """uint64 (N,), copied, if all are below the prime."""
    residues = np.frombuffer(values, "<u8").astype(np.uint64)
    if residues.max() >= prime:
        raise Malformed(f"a residue is not below its prime {prime}")
    return residues


def write_polynomials(writer: Writer, context: Basis, residues: np.ndarray) -> None:
    """Polynomials behind a context: residues uint64 (polynomials, towers, N) modulo its first primes.

    They are the first polynomials of the archive, so the versions of their classes stand before the first.
    """
    polynomials, towers, _ = residues.shape
    writer.pack("<Q", polynomials)
    for i in range(polynomials):
        writer.pack("<IQ" if i == 0 else "<Q", *[0, towers][i > 0 :])
        for j, tower in enumerate(context.towers[:towers]):
            _write_vector(writer, tower, residues[i, j], first=i == j == 0)
        writer.pack("<2I", _EVALUATION_FORMAT, DECLARED)
        if towers == len(context.towers):
            writer.pack("<I", context.number)
        else:
            _write_basis(writer, context.dimension, context.towers[:towers])


def _write_vector(writer: Writer, tower: Tower, values: np.ndarray, *, first: bool) -> None:
    if first:
        writer.pack("<2IBIQ", 0, DECLARED, 1, 0, len(values))
    else:
        writer.pack("<IBQ", DECLARED, 1, len(values))
    writer.raw(np.ascontiguousarray(values, "<u8"))
    writer.pack("<Q3I", tower.prime.value, _EVALUATION_FORMAT, DECLARED, tower.number)


def _write_basis(writer: Writer, dimension: int, towers: tuple[Tower, ...]) -> None:
    writer.new()
    writer.pack("<2I", 2 * dimension, dimension)
    for number in (math.prod(tower.prime.value for tower in towers), 0, 0, 0):
        limbs = max(1, -(-number.bit_length() // 64))
        writer.pack("<Q", limbs)
        writer.raw(number.to_bytes(8 * limbs, "little"))
        writer.pack("<I", number.bit_length())
    writer.pack("<Q", len(towers))
    for tower in towers:
        writer.pack("<2I", DECLARED, tower.number)


def _polynomial(reader: Reader, dimension: int) -> Polynomial:
    reader.version("DCRTPoly")
    vectors = [_vector(reader, dimension) for _ in range(reader.count(MOST_PRIMES, "towers"))]
    reader.exactly("<I", (_EVALUATION_FORMAT,), "the format of a polynomial")
    reader.declared()
    basis = reader.shared(_basis)
    if basis.dimension != dimension or basis.primes != tuple(prime for prime, _ in vectors):
        raise Malformed("a polynomial's towers are not those of its basis")
    return Polynomial(basis.primes, tuple(values for _, values in vectors))


def _vector(reader: Reader, dimension: int) -> tuple[Prime, memoryview]:
    reader.version("Poly")
    reader.declared()
    reader.exactly("<B", (1,), "the presence of a tower's values")
    reader.version("NativeVector")
    reader.exactly("<Q", (dimension,), "the length of a tower")
    values = reader.take(8 * dimension)
    modulus, format_ = reader.unpack("<QI")
    reader.declared()
    prime = reader.shared(_tower).prime
    if (modulus, format_) != (prime.value, _EVALUATION_FORMAT):
        raise Malformed("a tower has another modulus than its parameters say")
    return prime, values


def _crypto_parameters(reader: Reader) -> Context:
    """Of the many settings those that tell how keys are made; the others are OpenFHE's own affair."""
    for class_ in ("CryptoParametersCKKSRNS", "CryptoParametersRNS", "CryptoParametersRLWE", "CryptoParametersBase"):
        reader.version(class_)
    reader.declared()
    basis = reader.shared(_basis)
    reader.declared()
    reader.shared(_encoding)
    reader.unpack("<2fQ7I7I3dI")  # distributions, depth, security, multiparty settings
    key_switching, scaling, _, _, digits, *_ = reader.unpack("<11I")
    if (key_switching, scaling) != (_HYBRID, _FLEXIBLEAUTO) or not 1 <= digits <= len(basis.towers):
        raise Malformed("its context is without hybrid key switching and FLEXIBLEAUTO scaling")
    return Context(basis, digits)


def _encoding(reader: Reader) -> str:
    reader.version("EncodingParamsImpl")
    reader.unpack("<4Q2I")
    return "encoding"


def _scheme(reader: Reader) -> str:
    for class_ in ("SchemeCKKSRNS", "SchemeRNS", "SchemeBase"):
        reader.version(class_)
    reader.named("lbcrypto::FHECKKSRNS")
    return reader.shared(_bootstrapping)


def _bootstrapping(reader: Reader) -> str:
    """What was set up when the context was written, by number of slots.  Nothing of it is used here."""
    for _ in range(reader.count(_MOST_SETUPS, "set-ups of bootstrapping")):
        reader.u32()
        reader.declared()
        reader.shared(_setup)
    reader.unpack("<2I")
    return "scheme"


def _setup(reader: Reader) -> str:
    reader.unpack("<5IB")
    return "set-up"


def _basis(reader: Reader) -> Basis:
    number = reader.objects
    dimension = _ring_dimension(reader, ("ILDCRTParams", "ElemParamsBig"))
    reader.version("BigInteger")
    modulus, *unused = (_big_integer(reader) for _ in range(4))
    towers = []
    for _ in range(reader.count(MOST_PRIMES, "primes")):
        reader.declared()
        towers.append(reader.shared(_tower))
    values = [tower.prime.value for tower in towers]
    if not values or math.prod(values) != modulus or any(unused) or len(set(values)) != len(values):
        raise Malformed("a modulus is not the product of its primes")
    return Basis(number, dimension, tuple(towers))


def _tower(reader: Reader) -> Tower:
    number = reader.objects
    dimension = _ring_dimension(reader, ("ILNativeParams", "ElemParamsNative"))
    reader.version("NativeInteger")
    value, root, *unused = reader.unpack("<4Q")
    prime = Prime(value, root)
    if any(unused) or not prime.fits(dimension):
        raise Malformed(f"a modulus {value} does not fit the ring")
    return Tower(number, prime)


def _ring_dimension(reader: Reader, classes: tuple[str, ...]) -> int:
    for class_ in classes:
        reader.version(class_)
    order, dimension = reader.unpack("<2I")
    if dimension.bit_count() != 1 or not SMALLEST_DIMENSION <= dimension <= LARGEST_DIMENSION or order != 2 * dimension:
        raise Malformed(f"a ring of dimension {dimension} and order {order}")
    return dimension


def _big_integer(reader: Reader) -> int:
    """Limbs of 64 bits, least first, and the number of bits."""
    value = int.from_bytes(reader.take(8 * reader.count(MOST_PRIMES, "limbs")), "little")
    reader.exactly("<I", (value.bit_length(),), "the length of an integer")
    return value
