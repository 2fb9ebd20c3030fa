"""OpenFHE's context for a parameter set, and its objects in files.

OpenFHE reports a failed read by a boolean, by an exception or on stderr alone, and of a write to a full disk it may say
nothing; here every failure raises.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import KeyFolderError, PlanError
from ..machine.files import os_errors
from ..network.parameters import KEY_SWITCHING, SCALING_TECHNIQUE, ParameterSet
from .library import BINARY, Context, PublicKey, openfhe, openfhe_errors

T = TypeVar("T")
_PIPE_BYTES = 1 << 20
_FEATURES = ("PKE", "KEYSWITCH", "LEVELEDSHE", "ADVANCEDSHE", "FHE")


def new_context(set_: ParameterSet) -> Context:
    """Make a CKKS context of the set's parameters; OpenFHE checks them against the set's security level."""
    return make_context(set_, set_.multiplicative_depth, set_.large_digits)


#: By its parameters, the bytes of each context as it was first made.  OpenFHE keeps one of each a process, and setting
#: up bootstrapping alters it.
_as_made: dict[tuple[int | str, ...], bytes] = {}


def context_bytes(set_: ParameterSet) -> bytes:
    """Return the set's context in OpenFHE's binary form, the same in every process."""
    key = _choices(set_, set_.multiplicative_depth, set_.large_digits)
    if key not in _as_made:
        new_context(set_)
    return _as_made[key]


def checked_context(path: Path, set_: ParameterSet) -> Context:
    """Make the set's context anew, once the file from someone else is seen to hold the same; OpenFHE never reads it.

    Errors: KeyFolderError if it holds another; EnvironmentFault.
    """
    context, made = new_context(set_), context_bytes(set_)
    with os_errors("read", path), open(path, "rb") as file:
        found = file.read(len(made) + 1)
    if found != made:
        raise KeyFolderError(
            f"{path} is not the context of parameter set {set_.number}: {_difference(found, made)}",
            "whoever made these keys altered it, or has another program: ask for new ones",
        )
    return context


def _difference(found: bytes, made: bytes) -> str:
    if len(found) != len(made):
        return f"it is {'longer' if len(found) > len(made) else 'shorter'} than {len(made)} bytes"
    return f"byte {next(i for i, (one, other) in enumerate(zip(found, made, strict=True)) if one != other)} differs"


def make_context(set_: ParameterSet, multiplicative_depth: int, large_digits: int) -> Context:
    """Make a context of the set's parameters, but for the length of its modulus and the number of its digits."""
    parameters = openfhe.CCParamsCKKSRNS()
    parameters.SetSecurityLevel(getattr(openfhe.SecurityLevel, set_.security))
    parameters.SetRingDim(set_.ring_dimension)
    parameters.SetMultiplicativeDepth(multiplicative_depth)
    parameters.SetFirstModSize(set_.first_modulus_bits)
    parameters.SetScalingModSize(set_.scaling_bits)
    parameters.SetNumLargeDigits(large_digits)
    parameters.SetScalingTechnique(getattr(openfhe.ScalingTechnique, SCALING_TECHNIQUE))
    parameters.SetKeySwitchTechnique(getattr(openfhe.KeySwitchTechnique, KEY_SWITCHING))
    parameters.SetSecretKeyDist(getattr(openfhe.SecretKeyDist, set_.key_distribution))
    parameters.SetBatchSize(set_.full_slots)  # no network's: each ciphertext has a number of slots of its own
    with openfhe_errors(lambda reason: PlanError(f"OpenFHE refuses parameter set {set_.number}: {reason}")):
        context = enable(openfhe.GenCryptoContext(parameters))
    _as_made.setdefault(_choices(set_, multiplicative_depth, large_digits), openfhe.Serialize(context, BINARY))
    return context


def _choices(set_: ParameterSet, multiplicative_depth: int, large_digits: int) -> tuple[int | str, ...]:
    """Return all that one of this program's contexts differs in from another."""
    sizes = set_.ring_dimension, set_.first_modulus_bits, set_.scaling_bits, set_.security
    return *sizes, set_.key_distribution, multiplicative_depth, large_digits


def enable(context: Context) -> Context:
    """Switch on what the network uses: encryption, key switching, levelled arithmetic, bootstrapping."""
    for feature in _FEATURES:
        context.Enable(getattr(openfhe.PKESchemeFeature, feature))
    return context


def set_up_bootstrapping(context: Context, set_: ParameterSet, slots: int, *, precompute: bool) -> None:
    """Prepare the set's refresh of ``slots`` slots; ``precompute`` also encodes its linear transforms (GiB).

    Without, it is what key generation needs, which is the same for both kinds of refresh.
    """
    budgets = list(set_.level_budget), list(set_.dim1)
    if set_.refresh.functional and precompute:
        context.EvalFEFuncBootstrapSetup(*budgets, slots)
    else:
        context.EvalBootstrapSetup(*budgets, slots, set_.correction_bits, precompute)


def power_of_two_rotations(set_: ParameterSet) -> frozenset[int]:
    """Return the rotations that bootstrapping of any number of slots needs."""
    return frozenset(1 << i for i in range(set_.full_slots.bit_length() - 1))


def clear_rotation_keys() -> None:
    """Forget all rotation keys of this process (OpenFHE keeps them process-wide)."""
    openfhe.CryptoContext.ClearEvalAutomorphismKeys()


def held_rotation_keys() -> Mapping[str, object]:
    """Return the rotation keys of this process, by tag, to be held again once they have been cleared."""
    return openfhe.CryptoContext.GetAllEvalAutomorphismKeys()


def hold_rotation_keys(keys: Mapping[str, object]) -> None:
    """Add ``keys`` to those this process holds.  OpenFHE adds to the collection it was given first, so that has to
    be another than ``keys``."""
    for tag, collection in keys.items():
        openfhe.CryptoContext.InsertEvalAutomorphismKey(collection, tag)


def clear_relinearisation_keys() -> None:
    """Forget all relinearisation keys of this process."""
    openfhe.ClearEvalMultKeys()


def write_object(path: Path, obj: object) -> None:
    """Write a context, key or ciphertext in OpenFHE's binary form.  Errors: OSError, as of all that write here."""
    _write(path, lambda name: openfhe.SerializeToFile(name, obj, BINARY))


def write_relinearisation_key(path: Path, context: Context, key_tag: str) -> None:
    _write(path, lambda name: context.SerializeEvalMultKey(name, BINARY, key_tag))


def write_rotation_keys(path: Path, context: Context, key_tag: str) -> None:
    """Write all rotation keys that this process holds under a tag."""
    _write(path, lambda name: context.SerializeEvalAutomorphismKey(name, BINARY, key_tag))


def _write(path: Path, serialise: Callable[[str], bool]) -> None:
    """Have OpenFHE write into a pipe, and bring to the disk what comes out of it: what it fails to write itself at the
    end of a file, because the disk is full, it does not notice."""
    source, sink = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(_copy, source, path)
        complete = False
        try:
            with suppress(_Unwritten), openfhe_errors(_Unwritten):
                complete = serialise(f"/proc/self/fd/{sink}")
        finally:
            os.close(sink)
        copied = copying.result()
    if not complete or path.stat().st_size != copied:
        raise OSError(f"OpenFHE could not write it (the {copied} bytes of {path.name} are not all)")


class _Unwritten(Exception):
    """Says that OpenFHE could not write."""


def _copy(source: int, path: Path) -> int:
    """Return the number of bytes copied.  Where that fails, closing the pipe is what ends OpenFHE's writing to it."""
    with open(source, "rb", buffering=0) as pipe, open(path, "wb") as file:
        shutil.copyfileobj(pipe, file, _PIPE_BYTES)
        return file.tell()


def read_context(path: Path) -> Context:
    return enable(_read(openfhe.DeserializeCryptoContext, path))


def read_public_key(path: Path) -> PublicKey:
    return _read(openfhe.DeserializePublicKey, path)


def load_relinearisation_key(path: Path, context: Context) -> None:
    _load(context.DeserializeEvalMultKey, path)


def load_rotation_keys(path: Path, context: Context) -> None:
    """Add the rotation keys in a file to those this process holds."""
    _load(context.DeserializeEvalAutomorphismKey, path)


def _read(reader: Callable[[str | bytes, object], tuple[T, bool]], path: Path) -> T:
    with _reading(path):
        obj, read = reader(os.fsencode(path), BINARY)
    if not read:
        raise KeyFolderError(f"{path} cannot be read")
    return obj


def _load(reader: Callable[[str | bytes, object], bool], path: Path) -> None:
    with _reading(path):
        read = reader(os.fsencode(path), BINARY)
    if not read:
        raise KeyFolderError(f"{path} cannot be read")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell a file that the system does not open from one that OpenFHE cannot read, of which OpenFHE says the same."""
    with os_errors("read", path), open(path, "rb"):
        pass
    with openfhe_errors(lambda reason: KeyFolderError(f"{path} cannot be read: {reason}")):
        yield
