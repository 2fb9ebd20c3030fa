"""OpenFHE's context for a parameter set, and its objects in files.

OpenFHE reports a failed read by a boolean, by an exception or on stderr alone; here every failure raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from ..errors import KeyFolderError, PlanError, on_one_line
from ..network.parameters import ParameterSet
from .library import BINARY, ERRORS, Context, PublicKey, openfhe

T = TypeVar("T")
_FEATURES = ("PKE", "KEYSWITCH", "LEVELEDSHE", "ADVANCEDSHE", "FHE")


def openfhe_version() -> str:
    """The library's version, without the part that tells for which Python the wheel was built."""
    return ".".join(version("openfhe").split(".")[:3])


def new_context(set_: ParameterSet) -> Context:
    """A CKKS context of the set's parameters; OpenFHE checks them against the set's security level."""
    return make_context(set_, set_.multiplicative_depth, set_.large_digits)


def make_context(set_: ParameterSet, multiplicative_depth: int, large_digits: int) -> Context:
    """A context of the set's parameters, but for the length of its modulus and the number of its digits."""
    parameters = openfhe.CCParamsCKKSRNS()
    parameters.SetSecurityLevel(getattr(openfhe.SecurityLevel, set_.security))
    parameters.SetRingDim(set_.ring_dimension)
    parameters.SetMultiplicativeDepth(multiplicative_depth)
    parameters.SetFirstModSize(set_.first_modulus_bits)
    parameters.SetScalingModSize(set_.scaling_bits)
    parameters.SetNumLargeDigits(large_digits)
    parameters.SetScalingTechnique(openfhe.ScalingTechnique.FLEXIBLEAUTO)
    parameters.SetKeySwitchTechnique(openfhe.KeySwitchTechnique.HYBRID)
    parameters.SetSecretKeyDist(openfhe.SecretKeyDist.SPARSE_ENCAPSULATED)
    parameters.SetBatchSize(set_.architecture.stage_slots(1))
    try:
        return enable(openfhe.GenCryptoContext(parameters))
    except RuntimeError as error:
        raise PlanError(f"OpenFHE refuses parameter set {set_.number}: {on_one_line(error)}") from error


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
    """Those among the keys that bootstrapping of any number of slots needs."""
    return frozenset(1 << i for i in range(set_.full_slots.bit_length() - 1))


def clear_rotation_keys() -> None:
    """Forget all rotation keys of this process (OpenFHE keeps them process-wide)."""
    openfhe.CryptoContext.ClearEvalAutomorphismKeys()


def held_rotation_keys() -> Mapping[str, object]:
    """The rotation keys of this process, by tag, to be held again once they have been cleared."""
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
    """A context, key or ciphertext in OpenFHE's binary form."""
    if not openfhe.SerializeToFile(str(path), obj, BINARY):
        raise OSError(f"OpenFHE could not write {path}")


def write_relinearisation_key(path: Path, context: Context, key_tag: str) -> None:
    if not context.SerializeEvalMultKey(str(path), BINARY, key_tag):
        raise OSError(f"OpenFHE could not write {path}")


def write_rotation_keys(path: Path, context: Context, key_tag: str) -> None:
    """All rotation keys this process holds under a tag."""
    if not context.SerializeEvalAutomorphismKey(str(path), BINARY, key_tag):
        raise OSError(f"OpenFHE could not write {path}")


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
    obj, read = _trying(lambda: reader(str(path), BINARY), path)
    if not read:
        raise KeyFolderError(f"{path} cannot be read")
    return obj


def _load(reader: Callable[[str | bytes, object], bool], path: Path) -> None:
    if not _trying(lambda: reader(str(path), BINARY), path):
        raise KeyFolderError(f"{path} cannot be read")


def _trying(call: Callable[[], T], path: Path) -> T:
    try:
        return call()
    except ERRORS as error:
        raise KeyFolderError(f"{path} cannot be read: {on_one_line(error)}") from error
