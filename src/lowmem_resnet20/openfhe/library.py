"""OpenFHE itself, and the types of its objects as far as a server may use them.

The only module that imports openfhe, which brings no types.  What a holder of the secret key can do with the same
objects stands in :mod:`.secret`, which the server does not import.  Names are OpenFHE's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NewType, Protocol

import numpy as np

from ..errors import on_one_line
from ..machine.libraries import openfhe_fault
from ..native.kernels.threads import available_processors

# OpenMP itself sees no quota of a control group.
os.environ.setdefault("OMP_NUM_THREADS", str(available_processors()))
try:
    import openfhe
except ImportError as error:  # it is not installed, of another Python, or wants another glibc
    raise openfhe_fault(error) from error

__all__ = ["BINARY", "Ciphertext", "Context", "Plaintext", "PublicKey", "openfhe", "openfhe_errors"]

#: The form of all files.
BINARY: object = openfhe.BINARY
#: What OpenFHE's exceptions, and those of the C++ library below it, come as: the latter where a file names absurd
#: sizes.
_ERRORS = (RuntimeError, ValueError, IndexError, OverflowError)
#: Of these kinds too, and not OpenFHE's.
_PYTHONS = (RecursionError, NotImplementedError, UnicodeError)


@contextmanager
def openfhe_errors(error_of: Callable[[str], Exception]) -> Iterator[None]:
    """Inside this context, which is to hold calls of OpenFHE and nothing else, its exceptions are the error that
    ``error_of`` makes of their text on one line.

    Python's own exceptions have the same types, and want of threads or of memory is nobody's ciphertext or key.
    """
    try:
        yield
    except _ERRORS as error:
        if isinstance(error, _PYTHONS):
            raise
        raise error_of(on_one_line(error)) from error


PublicKey = NewType("PublicKey", object)


class Plaintext(Protocol):
    """Encoded slots."""

    def GetRealPackedValue(self) -> list[float]: ...


class Ciphertext(Protocol):
    """Encrypted slots."""

    def Clone(self) -> Ciphertext: ...

    def GetLevel(self) -> int:
        """Primes dropped so far."""

    def GetNoiseScaleDeg(self) -> int:
        """1, or 2 where a product waits to be rescaled."""

    def GetSlots(self) -> int: ...

    def SetSlots(self, slots: int) -> None: ...

    def NumberCiphertextElements(self) -> int: ...


class Context(Protocol):
    """A crypto context: parameters, and all operations that need evaluation keys at most."""

    def Enable(self, feature: object) -> None: ...

    def GetRingDimension(self) -> int: ...

    def MakeCKKSPackedPlaintext(
        self, values: np.ndarray | Sequence[float], noise_scale_degree: int, level: int, parameters: None, slots: int
    ) -> Plaintext: ...

    def Encrypt(self, key: PublicKey, plaintext: Plaintext) -> Ciphertext: ...

    def EvalAdd(self, x: Ciphertext, y: Ciphertext | Plaintext) -> Ciphertext: ...

    def EvalAddInPlace(self, x: Ciphertext, y: Ciphertext) -> None: ...

    def EvalMult(self, x: Ciphertext, y: Ciphertext | Plaintext) -> Ciphertext: ...

    def EvalRotate(self, x: Ciphertext, step: int) -> Ciphertext: ...

    def EvalFastRotationPrecompute(self, x: Ciphertext) -> Ciphertext: ...

    def EvalFastRotation(self, x: Ciphertext, step: int, order: int, digits: Ciphertext) -> Ciphertext: ...

    def EvalChebyshevSeries(self, x: Ciphertext, coefficients: list[float], a: float, b: float) -> Ciphertext: ...

    def Compress(self, x: Ciphertext, towers: int) -> Ciphertext: ...

    def EvalBootstrap(self, x: Ciphertext) -> Ciphertext: ...

    def EvalBootstrapSetup(
        self, level_budget: list[int], dim1: list[int], slots: int, correction: int, precompute: bool
    ) -> None: ...

    def EvalFEFuncBootstrap(self, x: Ciphertext, coefficients: list[complex]) -> Ciphertext: ...

    def EvalFEFuncBootstrapSetup(self, level_budget: list[int], dim1: list[int], slots: int) -> None: ...

    def ClearBootstrapPrecom(self) -> None: ...

    def SerializeEvalMultKey(self, path: str | bytes, form: object, key_tag: str) -> bool: ...

    def SerializeEvalAutomorphismKey(self, path: str | bytes, form: object, key_tag: str) -> bool: ...

    def DeserializeEvalMultKey(self, path: str | bytes, form: object) -> bool: ...

    def DeserializeEvalAutomorphismKey(self, path: str | bytes, form: object) -> bool: ...
