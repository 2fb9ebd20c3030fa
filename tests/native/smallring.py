"""A small OpenFHE context with its keys, and their files, for tests of the native evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openfhe

from lowmem_resnet20.native.keys.openfhe_files import read_chain
from lowmem_resnet20.native.ring.chain import Chain
from lowmem_resnet20.openfhe.context import clear_relinearisation_keys, clear_rotation_keys, enable
from lowmem_resnet20.openfhe.library import BINARY

LOG2_DIMENSION, SLOTS, DEPTH = 10, 256, 10
STEPS = (1, 2, -3)


def insecure_context(log2_dimension: int = LOG2_DIMENSION, depth: int = DEPTH, digits: int = 2) -> Any:
    """Primes as long as native sets may have, in a ring too small to be secure."""
    parameters = openfhe.CCParamsCKKSRNS()
    parameters.SetSecurityLevel(openfhe.SecurityLevel.HEStd_NotSet)
    parameters.SetRingDim(1 << log2_dimension)
    parameters.SetMultiplicativeDepth(depth)
    parameters.SetFirstModSize(30)
    parameters.SetScalingModSize(29)
    parameters.SetNumLargeDigits(digits)
    parameters.SetScalingTechnique(openfhe.ScalingTechnique.FLEXIBLEAUTO)
    parameters.SetKeySwitchTechnique(openfhe.KeySwitchTechnique.HYBRID)
    parameters.SetSecretKeyDist(openfhe.SecretKeyDist.SPARSE_TERNARY)
    parameters.SetBatchSize(SLOTS)
    return enable(openfhe.GenCryptoContext(parameters))


@dataclass(frozen=True)
class SmallRing:
    """context, pair: OpenFHE's, with keys held; relinearisation, rotations: files of keys, conjugation among the
    rotations."""

    context: Any
    pair: Any
    chain: Chain
    relinearisation: Path
    rotations: Path

    def encrypt(self, values: np.ndarray, level: int = 0) -> Any:
        plaintext = self.context.MakeCKKSPackedPlaintext(values, 1, level, None, SLOTS)
        return self.context.Encrypt(self.pair.publicKey, plaintext)

    def decrypt(self, ciphertext: Any) -> np.ndarray:
        return self.context.Decrypt(ciphertext, self.pair.secretKey).GetRealPackedValueArray()[:SLOTS]


def small_ring(folder: Path) -> SmallRing:
    context = insecure_context()
    pair = context.KeyGen()
    tag = pair.secretKey.GetKeyTag()
    clear_rotation_keys()
    clear_relinearisation_keys()
    context.EvalMultKeyGen(pair.secretKey)
    context.EvalBootstrapSetup([8, 8], [0, 0], SLOTS, 0, False)
    context.EvalBootstrapKeyGen(pair.secretKey, SLOTS)
    context.EvalRotateKeyGen(pair.secretKey, list(STEPS))
    relinearisation, rotations = folder / "relinearisation.key", folder / "rotations.key"
    assert context.SerializeEvalMultKey(str(relinearisation), BINARY, tag)
    assert context.SerializeEvalAutomorphismKey(str(rotations), BINARY, tag)
    return SmallRing(context, pair, read_chain(serialised(context)), relinearisation, rotations)


def serialised(obj: Any) -> bytes:
    return openfhe.Serialize(obj, BINARY)
