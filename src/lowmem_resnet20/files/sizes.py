"""How large the files of a parameter set are, before there are any: keys, encrypted pictures, results.

Most is residues; the rest is what OpenFHE 1.6.1 writes around them (:mod:`..native.keys.openfhe_objects`).
"""

from __future__ import annotations

from ..native.keys.keyplan import key_bytes, key_plan, longest
from ..network.engines import OPENFHE
from ..network.parameters import PICTURE_LEVELS, ParameterSet
from .envelope import LOGITS, PICTURE, Belonging, Facts, sealed
from .group import join

#: Towers of a result.
RESULT_TOWERS = 2
_ID, _DIGEST = "0" * 16, "0" * 64
_INTEGER_BYTES, _LIMB_BITS = 8, 64
#: Of a context, but for its primes; of a prime in it; of a public key and of a ciphertext, but for what is below; of a
#: polynomial and of its basis; of a tower in each polynomial, in each basis, and where it is not the context's own.
_CONTEXT, _PRIME = 505, 48
_PUBLIC_KEY, _CIPHERTEXT = 120, 124
_POLYNOMIAL, _TOWER, _TOWER_OF_BASIS, _OWN_TOWER = 108, 33, 8, 40
#: What OpenFHE's context has more of, once it has evaluated: something, and a set-up of bootstrapping a stage.
_SET_UP, _SET_UP_OF_A_STAGE = 14, 33


def native_folder_bytes(set_: ParameterSet) -> int:
    """Return the bytes of the keys that a server has, of a native set: switching keys, public key and context.  The
    manifest and the chain of primes beside them take some 10 KB."""
    switching = sum(key_bytes(set_, towers) for towers in longest(key_plan(set_)).values())
    return switching + public_key_bytes(set_) + context_bytes(set_)


def context_bytes(set_: ParameterSet) -> int:
    """Return the bytes of a context's file."""
    return _CONTEXT + _PRIME * (set_.multiplicative_depth + 1) + _limbs(set_, set_.multiplicative_depth + 1)


def public_key_bytes(set_: ParameterSet) -> int:
    """Return the bytes of a public key's file: two polynomials modulo Q."""
    towers = set_.multiplicative_depth + 1
    return 2 * _residues(set_, towers) + context_bytes(set_) + _PUBLIC_KEY


def picture_bytes(set_: ParameterSet) -> int:
    """Return the bytes of an encrypted picture, or group."""
    towers = set_.reserve_levels + PICTURE_LEVELS + 1
    payload = _ciphertext(set_, towers) + _OWN_TOWER * towers
    return _file_bytes(set_, PICTURE, "", [payload] * set_.ciphertexts(1))


def result_bytes(set_: ParameterSet) -> int:
    """Return the bytes of its encrypted result."""
    payload = _ciphertext(set_, RESULT_TOWERS)
    if set_.engine == OPENFHE:
        payload += _OWN_TOWER * RESULT_TOWERS + _SET_UP + _SET_UP_OF_A_STAGE * len(set_.architecture.channels)
    return _file_bytes(set_, LOGITS, _DIGEST, [payload])


def _file_bytes(set_: ParameterSet, kind: str, picture: str, payloads: list[int]) -> int:
    facts = Facts.of(Belonging(str(set_.number), _ID, _ID, _ID), kind, picture)
    between = len(join([b""] * len(payloads)))
    return len(sealed(b"", facts)) + between + sum(payloads)


def _ciphertext(set_: ParameterSet, towers: int) -> int:
    """Two polynomials, each with a basis of its own."""
    basis = _limbs(set_, towers) + _TOWER_OF_BASIS * towers
    return 2 * (_residues(set_, towers) + _POLYNOMIAL + basis) + context_bytes(set_) + _CIPHERTEXT


def _residues(set_: ParameterSet, towers: int) -> int:
    return towers * (8 * set_.ring_dimension + _TOWER)


def _limbs(set_: ParameterSet, towers: int) -> int:
    """The product of the first primes, in words."""
    bits = set_.first_modulus_bits + (towers - 1) * set_.scaling_bits
    return _INTEGER_BYTES * -(-bits // _LIMB_BITS)
