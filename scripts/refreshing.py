"""One refresh at full size in a process that holds everything, secret key included, for the scripts to measure."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lowmem_resnet20.machine.memory import resident_bytes
from lowmem_resnet20.native.kernels.order import ORDER, memory_order
from lowmem_resnet20.native.keys.keyplan import key_bytes, longest, refresh_plan
from lowmem_resnet20.native.keys.keys import MappedKeys, Order
from lowmem_resnet20.native.keys.refreshkeys import refresh_keys
from lowmem_resnet20.native.ring.keynames import automorphism
from lowmem_resnet20.network.engines import NATIVE
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.openfhe.ciphertexts import payload_of
from lowmem_resnet20.openfhe.context import new_context, set_up_bootstrapping
from lowmem_resnet20.openfhe.evaluator import OpenfheEvaluator
from lowmem_resnet20.openfhe.library import BINARY, openfhe
from lowmem_resnet20.openfhe.native_keys import make_native_keys
from lowmem_resnet20.openfhe.secret import client_context


@dataclass(frozen=True)
class Prepared:
    """What one refresh needs, made ready.  encrypt, relu, decrypt: the three steps of one, of (slots,) values, and what
    the second is to be shown between refresh and ReLU, if there is anything between them; keys: their number;
    key_bytes, transform_bytes: memory or disk they take; seconds: to encode the transforms."""

    encrypt: Callable[[np.ndarray], Any]
    relu: Callable[[Any, Callable[[Any], None]], Any]
    decrypt: Callable[[Any], np.ndarray]
    keys: int
    key_bytes: int
    transform_bytes: Callable[[], int]
    seconds: float


def prepare_openfhe(set_: ParameterSet, slots: int) -> Prepared:
    """OpenFHE's bootstrapping."""
    context = new_context(set_)
    pair = context.KeyGen()
    context.EvalMultKeyGen(pair.secretKey)
    started = resident_bytes()
    set_up_bootstrapping(context, set_, slots, precompute=False)
    context.EvalBootstrapKeyGen(pair.secretKey, slots)
    keys = resident_bytes() - started
    count = len(context.GetExistingEvalAutomorphismKeyIndices(pair.secretKey.GetKeyTag()))
    context.ClearBootstrapPrecom()
    started, begun = resident_bytes(), time.monotonic()
    set_up_bootstrapping(context, set_, slots, precompute=True)
    set_up, encoded = time.monotonic() - begun, resident_bytes() - started
    level = set_.multiplicative_depth - set_.reserve_levels
    evaluator = OpenfheEvaluator(set_, context, lambda stage: None)

    def encrypt(values: np.ndarray) -> Any:
        return context.Encrypt(pair.publicKey, context.MakeCKKSPackedPlaintext(values, 1, level, None, slots))

    return Prepared(
        encrypt,
        lambda x, refreshed: set_.refresh.relu(evaluator, x, 1.0, refreshed),
        lambda x: np.array(context.Decrypt(x, pair.secretKey).GetRealPackedValueArray()),
        count,
        keys,
        lambda: encoded,
        set_up,
    )


def prepare_native(set_: ParameterSet, slots: int, folder: Path) -> Prepared:
    """The native evaluator's refresh, with keys in ``folder``."""
    from lowmem_resnet20.native.evaluator import NativeEvaluator
    from lowmem_resnet20.native.keys.openfhe_files import read_ciphertext, write_ciphertext
    from lowmem_resnet20.native.readiness import make_ready
    from lowmem_resnet20.native.refresh.refresh import Refresh, prepare
    from lowmem_resnet20.native.ring.ciphertext import Ciphertext, NativeArithmetic

    plan, n, towers = refresh_plan(set_), set_.ring_dimension, set_.multiplicative_depth + 1
    context = client_context(new_context(set_))
    pair = context.KeyGen()
    degrees = {set_.refresh.degree, set_.refresh.identity_degree}
    needed = longest({degree: refresh_keys(plan, n, slots, towers, degree) for degree in degrees})
    order = Order(ORDER, memory_order(n))
    chain = make_native_keys(context, pair.secretKey, needed, folder, order, lambda name: None)
    make_ready(lambda: None)
    mapped = MappedKeys(folder, needed, chain, ORDER)
    keys = {automorphism(name, n): mapped[name] for name in mapped}
    arithmetic = NativeArithmetic(chain, keys)
    begun = time.monotonic()
    refresh = Refresh(arithmetic, plan, prepare(plan, n, slots))
    set_up = time.monotonic() - begun
    evaluator = NativeEvaluator(set_, arithmetic, lambda stage: refresh)
    evaluator.enter_stage(1)
    level = set_.multiplicative_depth - set_.reserve_levels
    forms = []

    def encrypt(values: np.ndarray) -> Ciphertext:
        plaintext = context.MakeCKKSPackedPlaintext(values, 1, level, None, slots)
        file = read_ciphertext(payload_of(context.Encrypt(pair.publicKey, plaintext)), chain)
        forms[:] = [file.form]
        residues = arithmetic.ring.from_openfhe(file.residues)
        return Ciphertext(residues, file.residues.shape[1], file.scale, file.slots)

    def decrypt(x: Ciphertext) -> np.ndarray:
        residues = arithmetic.ring.to_openfhe(np.ascontiguousarray(x.residues[:, : x.towers]))
        level = towers - x.towers
        payload = write_ciphertext(forms[0], residues, slots=x.slots, level=level, noise_degree=1, scale=x.scale)
        decrypted = context.Decrypt(openfhe.DeserializeCiphertextString(payload, BINARY), pair.secretKey)
        return np.array(decrypted.GetRealPackedValueArray())

    return Prepared(
        encrypt,
        lambda x, refreshed: set_.refresh.relu(evaluator, x, 1.0, refreshed),
        decrypt,
        len(needed),
        sum(key_bytes(set_, count) for count in needed.values()),
        lambda: arithmetic.plaintext_bytes,
        set_up,
    )


def prepare_refresh(set_: ParameterSet, slots: int, folder: Path) -> Prepared:
    """By the set's engine.  folder: empty, for keys."""
    return prepare_native(set_, slots, folder) if set_.engine == NATIVE else prepare_openfhe(set_, slots)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, from a process of its own: OpenFHE's keys and memory end with it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
