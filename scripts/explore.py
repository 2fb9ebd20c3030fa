#!/usr/bin/env python
"""What a refresh costs at full size under variations of a parameter set: time, keys, memory, error.

    scripts/explore.py 6 --engine openfhe --stage 1 --vary dim1=0-0,16-8 --vary large_digits=2,3
    scripts/explore.py 6 --stage 1 --vary degree=15,31 --vary "transforms=least time,hoisted:4.4.5/8.8.8:4.4.5/8.8.8"

Every combination of the values is tried, each in a process of its own that holds everything: secret key, the keys
that one stage's refresh needs, its encoded transforms.  Values of pairs (level_budget, dim1) are written A-B.
``degree`` is that of the ReLU.  ``transforms`` is the native evaluator's way to do them: the name of one, or
hoisted or Horner, then for slots to coefficients and for the way back the layers of each matrix and its baby steps; the
level budget follows.  A combination that is not secure, or deeper than its primes allow, is left out.
Nothing else should run meanwhile.  Printed: median time of a refresh with ReLU after one that is discarded, error
against the exact ReLU on values spread evenly over the range, and resident memory.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.fhe.ciphertexts import payload_of
from lowmem_resnet20.fhe.context import new_context, set_up_bootstrapping
from lowmem_resnet20.fhe.library import BINARY, openfhe
from lowmem_resnet20.fhe.native_keys import make_native_keys
from lowmem_resnet20.fhe.openfhe_evaluator import OpenfheEvaluator
from lowmem_resnet20.fhe.secret import client_context, make_shared_bootstrapping_keys
from lowmem_resnet20.machine.memory import resident_bytes
from lowmem_resnet20.native.keyplan import key_bytes, longest, refresh_plan
from lowmem_resnet20.native.keys import MappedKeys, Order, openfhe_index
from lowmem_resnet20.native.order import ORDER, memory_order
from lowmem_resnet20.native.refreshkeys import refresh_keys
from lowmem_resnet20.native.refreshplan import PLANS, Grouping, RefreshPlan, Steps
from lowmem_resnet20.network.engines import ENGINES, NATIVE
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.terminal.progress import format_bytes


def variation(set_: ParameterSet, changes: dict[str, str]) -> ParameterSet:
    """The set with some of its choices replaced."""
    fields: dict = {}
    for name, value in changes.items():
        if name == "degree":
            fields["refresh"] = replace(fields.get("refresh", set_.refresh), degree=int(value))
        elif name == "transforms":
            plan = transforms(value)
            fields["refresh"] = replace(fields.get("refresh", set_.refresh), transforms=value)
            fields["level_budget"] = (plan.coefficients_to_slots.levels, plan.slots_to_coefficients.levels)
        elif name == "scaling_bits":
            fields |= {name: int(value), "first_modulus_bits": int(value) + set_.correction_bits}
        else:
            fields[name] = tuple(map(int, value.split("-"))) if "-" in value else int(value)
    return replace(set_, **fields)


def transforms(text: str) -> RefreshPlan:
    """The plan of that name; STEPS:LAYERS/BABIES:LAYERS/BABIES becomes one, by its own text.

    Errors: PlanError.
    """
    if text not in PLANS:
        try:
            steps, *groupings = text.split(":")
            down, up = (Grouping(*(tuple(map(int, part.split("."))) for part in g.split("/"))) for g in groupings)
            PLANS[text] = RefreshPlan(down, up, Steps(steps))
        except (ValueError, TypeError) as error:
            raise PlanError(f"{text!r} describes no transforms, such as {', '.join(PLANS)}: {error}") from None
    return PLANS[text]


@dataclass(frozen=True)
class Prepared:
    """What one refresh needs, made ready.  encrypt, refresh, decrypt: the three steps of one, of (slots,) values; keys:
    their number; key_bytes, transform_bytes: memory or disk they take; seconds: to encode the transforms."""

    encrypt: Callable[[np.ndarray], Any]
    refresh: Callable[[Any], Any]
    decrypt: Callable[[Any], np.ndarray]
    keys: int
    key_bytes: int
    transform_bytes: Callable[[], int]
    seconds: float


def measure(set_: ParameterSet, stage: int, repeats: int) -> dict[str, str]:
    """Refresh one ciphertext of a stage's slots; returns the columns of the table."""
    slots = set_.stage_slots(stage)
    with TemporaryDirectory() as folder:
        prepared = prepare_native(set_, slots, Path(folder)) if set_.engine == NATIVE else prepare_openfhe(set_, slots)
        reach = set_.refresh.reach
        values = np.random.default_rng(0).uniform(-reach, reach, slots)
        times = []
        for _ in range(repeats + 1):
            ciphertext = prepared.encrypt(values)
            begun = time.monotonic()
            result = prepared.refresh(ciphertext)
            times.append(time.monotonic() - begun)
        error = (prepared.decrypt(result)[:slots] - np.maximum(values, 0)) / reach
    return {
        "levels": str(set_.multiplicative_depth),
        "log2 QP": str(set_.log2_qp),
        "keys": str(prepared.keys),
        "keys, memory": format_bytes(prepared.key_bytes),
        "transforms, memory": format_bytes(prepared.transform_bytes()),
        "set-up, s": f"{prepared.seconds:.1f}",
        "refresh, s": f"{statistics.median(times[1:]):.2f}",
        "rms error": f"{np.sqrt(np.mean(error**2)):.1e}",
        "worst": f"{np.abs(error).max():.1e}",
    }


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
        lambda x: set_.refresh.relu(evaluator, x, 1.0, lambda x: None),
        lambda x: np.array(context.Decrypt(x, pair.secretKey).GetRealPackedValueArray()),
        count,
        keys,
        lambda: encoded,
        set_up,
    )


def prepare_native(set_: ParameterSet, slots: int, folder: Path) -> Prepared:
    """The native evaluator's refresh, with keys in ``folder``."""
    from lowmem_resnet20.native.ciphertext import Ciphertext, NativeArithmetic
    from lowmem_resnet20.native.evaluator import NativeEvaluator
    from lowmem_resnet20.native.openfhe_files import read_ciphertext, write_ciphertext
    from lowmem_resnet20.native.readiness import make_ready
    from lowmem_resnet20.native.refresh import Refresh, prepare

    transforms(set_.refresh.transforms)  # in this process too
    plan, n, towers = refresh_plan(set_), set_.ring_dimension, set_.multiplicative_depth + 1
    context = client_context(new_context(set_))
    pair = context.KeyGen()
    degrees = {set_.refresh.degree, set_.refresh.identity_degree}
    needed = longest({degree: refresh_keys(plan, n, slots, towers, degree) for degree in degrees})
    bootstrapping = lambda: make_shared_bootstrapping_keys(context, set_, pair.secretKey)
    order = Order(ORDER, memory_order(n))
    chain = make_native_keys(context, pair.secretKey, needed, folder, order, bootstrapping, lambda name: None)
    make_ready(lambda: None)
    mapped = MappedKeys(folder, needed, chain, ORDER)
    keys = {openfhe_index(name, n): mapped[name] for name in mapped}
    arithmetic = NativeArithmetic(chain, keys)
    begun = time.monotonic()
    refresh = Refresh(arithmetic, plan, prepare(plan, n, slots))
    set_up = time.monotonic() - begun
    evaluator = NativeEvaluator(set_, arithmetic, lambda stage: refresh)
    evaluator.enter_stage(1)
    level = set_.multiplicative_depth - set_.reserve_levels
    envelopes = []

    def encrypt(values: np.ndarray) -> Ciphertext:
        plaintext = context.MakeCKKSPackedPlaintext(values, 1, level, None, slots)
        file = read_ciphertext(payload_of(context.Encrypt(pair.publicKey, plaintext)), chain)
        envelopes[:] = [file.envelope]
        residues = arithmetic.ring.from_openfhe(file.residues)
        return Ciphertext(residues, file.residues.shape[1], file.scale, file.slots)

    def decrypt(x: Ciphertext) -> np.ndarray:
        residues = arithmetic.ring.to_openfhe(np.ascontiguousarray(x.residues[:, : x.towers]))
        level = towers - x.towers
        payload = write_ciphertext(envelopes[0], residues, slots=x.slots, level=level, noise_degree=1, scale=x.scale)
        decrypted = context.Decrypt(openfhe.DeserializeCiphertextString(payload, BINARY), pair.secretKey)
        return np.array(decrypted.GetRealPackedValueArray())

    return Prepared(
        encrypt,
        lambda x: set_.refresh.relu(evaluator, x, 1.0, lambda x: None),
        decrypt,
        len(needed),
        sum(key_bytes(set_, name, count) for name, count in needed.items()),
        lambda: arithmetic.plaintext_bytes,
        set_up,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=int)
    parser.add_argument("--engine", choices=ENGINES, default="")
    parser.add_argument("--stage", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUE,..")
    args = parser.parse_args()
    names, choices = [], []
    for text in args.vary:
        name, _, values = text.partition("=")
        names.append(name)
        choices.append(values.split(","))
    console, table = Console(width=150), None
    for values in itertools.product(*choices):
        changes = dict(zip(names, values, strict=True))
        try:
            set_ = variation(parameter_set(args.set, args.engine), changes)
        except PlanError as error:
            console.print(f"{changes}: {error}")
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            columns = pool.apply(measure, (set_, args.stage, args.repeats))
        table = table or Table(*names, *columns, title=f"set {args.set}, {set_.engine}, stage {args.stage}")
        table.add_row(*values, *columns.values())
        console.print(" ".join(f"{k} {v}," for k, v in (changes | columns).items()))
    if table:
        console.print(table)


if __name__ == "__main__":
    main()
