#!/usr/bin/env python
"""What a refresh costs at full size under variations of a parameter set: time, keys, memory, error.

    scripts/explore.py 6 --stage 1 --vary dim1=0-0,16-8 --vary large_digits=2,3

Every combination of the values is tried, each in a process of its own that holds everything: secret key, the keys
that one stage's refresh needs, its encoded transforms.  Values of pairs (level_budget, dim1) are written A-B.
``degree`` is that of the ReLU.  A combination that is not secure, or deeper than its primes allow, is left out.
Nothing else should run meanwhile.  Printed: median time of a refresh with ReLU after one that is discarded, error
against the exact ReLU on values spread evenly over the range, and resident memory.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import time
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.fhe.context import new_context, set_up_bootstrapping
from lowmem_resnet20.fhe.openfhe_evaluator import OpenfheEvaluator
from lowmem_resnet20.machine.memory import resident_bytes
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.terminal.progress import format_bytes


def variation(set_: ParameterSet, changes: dict[str, str]) -> ParameterSet:
    """The set with some of its choices replaced."""
    fields: dict = {}
    for name, value in changes.items():
        if name == "degree":
            fields["refresh"] = replace(set_.refresh, degree=int(value))
        elif name == "scaling_bits":
            fields |= {name: int(value), "first_modulus_bits": int(value) + set_.correction_bits}
        else:
            fields[name] = tuple(map(int, value.split("-"))) if "-" in value else int(value)
    return replace(set_, **fields)


def measure(set_: ParameterSet, stage: int, repeats: int) -> dict[str, str]:
    """Refresh one ciphertext of a stage's slots; returns the columns of the table."""
    slots = set_.architecture.stage_slots(stage)
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
    reach = set_.refresh.reach
    values = np.random.default_rng(0).uniform(-reach, reach, slots)
    level = set_.multiplicative_depth - set_.reserve_levels
    plaintext = context.MakeCKKSPackedPlaintext(values, 1, level, None, slots)
    evaluator = OpenfheEvaluator(set_, context, lambda stage: None)
    times = []
    for _ in range(repeats + 1):
        ciphertext = context.Encrypt(pair.publicKey, plaintext)
        begun = time.monotonic()
        result = set_.refresh.relu(evaluator, ciphertext, 1.0, lambda x: None)
        times.append(time.monotonic() - begun)
    found = np.array(context.Decrypt(result, pair.secretKey).GetRealPackedValueArray())[:slots]
    error = (found - np.maximum(values, 0)) / reach
    return {
        "levels": str(set_.multiplicative_depth),
        "log2 QP": str(set_.log2_qp),
        "keys": str(count),
        "keys, memory": format_bytes(keys),
        "transforms, memory": format_bytes(encoded),
        "set-up, s": f"{set_up:.1f}",
        "refresh, s": f"{statistics.median(times[1:]):.2f}",
        "rms error": f"{np.sqrt(np.mean(error**2)):.1e}",
        "worst": f"{np.abs(error).max():.1e}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=int)
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
            set_ = variation(parameter_set(args.set), changes)
        except PlanError as error:
            console.print(f"{changes}: {error}")
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            columns = pool.apply(measure, (set_, args.stage, args.repeats))
        table = table or Table(*names, *columns, title=f"set {args.set}, stage {args.stage}")
        table.add_row(*values, *columns.values())
        console.print(" ".join(f"{k} {v}," for k, v in (changes | columns).items()))
    if table:
        console.print(table)


if __name__ == "__main__":
    main()
