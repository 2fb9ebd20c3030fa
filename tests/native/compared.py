"""An OpenFHE context in a small ring and the native arithmetic with the same keys, so that both do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openfhe
from smallring import SLOTS, insecure_context, serialised

from lowmem_resnet20.native.kernels.order import ORDER, memory_order
from lowmem_resnet20.native.keys.keys import Order, key_path, open_key, write_keys
from lowmem_resnet20.native.keys.openfhe_files import (
    FileKey,
    read_chain,
    read_ciphertext,
    read_relinearisation_key,
    read_rotation_keys,
    write_ciphertext,
)
from lowmem_resnet20.native.ring.chain import Chain
from lowmem_resnet20.native.ring.ciphertext import RELINEARISATION_INDEX, Ciphertext, NativeArithmetic
from lowmem_resnet20.native.ring.keynames import CONJUGATION, RELINEARISATION, automorphism, rotation_name
from lowmem_resnet20.openfhe.context import clear_relinearisation_keys, clear_rotation_keys
from lowmem_resnet20.openfhe.library import BINARY

STEPS = (1, 2, 3, 5, 8, -3, 16)


@dataclass(frozen=True)
class Compared:
    """context, pair: OpenFHE's, which holds its keys; native: with the same ones, which it never divides;
    openfhe_keys: as read from files, by automorphism index."""

    context: Any
    pair: Any
    native: NativeArithmetic
    chain: Chain
    openfhe_keys: dict[int, FileKey]

    def encrypt(self, values: np.ndarray, level: int = 0) -> Any:
        plaintext = self.context.MakeCKKSPackedPlaintext(values, 1, level, None, len(values))
        return self.context.Encrypt(self.pair.publicKey, plaintext)

    def imported(self, ciphertext: Any) -> Ciphertext:
        """OpenFHE's ciphertext as a native one."""
        read = read_ciphertext(serialised(ciphertext), self.chain)
        residues = self.native.ring.from_openfhe(read.residues)
        return Ciphertext(residues, residues.shape[1], read.scale, read.slots)

    def residues(self, ciphertext: Any) -> np.ndarray:
        """uint64 (polynomials, towers, N) of an OpenFHE ciphertext."""
        return read_ciphertext(serialised(ciphertext), self.chain).residues

    def native_residues(self, ciphertext: Ciphertext) -> np.ndarray:
        """The same of a native one."""
        return self.native.ring.to_openfhe(ciphertext.residues[:, : ciphertext.towers])

    def same(self, ciphertext: Any, native: Ciphertext) -> bool:
        """Whether both are equal, residue for residue."""
        mine, theirs = self.native_residues(native), self.residues(ciphertext)
        return mine.shape == theirs.shape and bool((mine == theirs).all())

    def decrypted(self, native: Ciphertext) -> np.ndarray:
        """Complex slots.  OpenFHE shows real ones, so both parts are made real first, by conjugation."""
        real, imaginary = (
            self._real(self.native.add_conjugate(self.native.combination([native], [factor], native.scale)))
            for factor in (1, -1j)
        )
        return (real + 1j * imaginary) / 2

    def _real(self, native: Ciphertext) -> np.ndarray:
        form = read_ciphertext(serialised(self.encrypt(np.zeros(native.slots))), self.chain).form
        fields = {
            "slots": native.slots,
            "level": len(self.chain.q) - native.towers,
            "noise_degree": 1,
            "scale": native.scale,
        }
        data = write_ciphertext(form, self.native_residues(native), **fields)
        ciphertext = openfhe.DeserializeCiphertextString(data, BINARY)
        return self.context.Decrypt(ciphertext, self.pair.secretKey).GetRealPackedValueArray()[: native.slots]


def compared(folder: Path, *, log2_dimension: int, depth: int, digits: int, steps: Sequence[int] = STEPS,
             cut: int = 0, threads: int = 1) -> Compared:  # fmt: skip
    """cut: towers that all keys are cut to; 0: none."""
    context = insecure_context(log2_dimension, depth, digits)
    pair = context.KeyGen()
    clear_rotation_keys()
    clear_relinearisation_keys()
    context.EvalMultKeyGen(pair.secretKey)
    context.EvalBootstrapSetup([8, 8], [0, 0], SLOTS, 0, False)
    context.EvalBootstrapKeyGen(pair.secretKey, SLOTS)
    context.EvalRotateKeyGen(pair.secretKey, list(steps))
    tag = pair.secretKey.GetKeyTag()
    files = folder / "relinearisation", folder / "rotations"
    assert context.SerializeEvalMultKey(str(files[0]), BINARY, tag)
    assert context.SerializeEvalAutomorphismKey(str(files[1]), BINARY, tag)
    chain = read_chain(serialised(context))
    rotations = read_rotation_keys(files[1].read_bytes(), chain)
    relinearisation = read_relinearisation_key(files[0].read_bytes(), chain)
    n = chain.dimension
    chain = replace(chain, p=relinearisation.primes[len(chain.q) :])
    towers = cut or len(chain.q)
    plan = {rotation_name(step, n): towers for step in steps} | {RELINEARISATION: towers, CONJUGATION: towers}
    keys = {**rotations, RELINEARISATION_INDEX: relinearisation}
    write_keys(folder, keys, plan, chain, Order(ORDER, memory_order(n)))
    opened = {automorphism(name, n): open_key(key_path(folder, name), name, chain, plan[name], ORDER) for name in plan}
    native = NativeArithmetic(chain, opened, threads)
    vars(native.ring)["special"] = lambda towers: native.ring.p  # all of them at any number of towers, as OpenFHE
    return Compared(context, pair, native, chain, keys)
