#!/usr/bin/env python
"""Measure what a refresh costs at full size under variations of a parameter set: time, keys, memory, error.

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
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.network.engines import ENGINES, NATIVE
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.refreshplan import PLANS, Grouping, RefreshPlan, Steps
from lowmem_resnet20.progress.display import format_bytes
from refreshing import in_a_process, prepare_refresh


def variation(set_: ParameterSet, changes: dict[str, str]) -> ParameterSet:
    """The set with some of its choices replaced."""
    fields: dict = {}
    for name, value in changes.items():
        if name == "degree":
            fields["refresh"] = replace(fields.get("refresh", set_.refresh), degree=int(value))
        elif name == "transforms":
            transforms(value)
            fields["refresh"] = replace(fields.get("refresh", set_.refresh), transforms=value)
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


def measure(set_: ParameterSet, stage: int, repeats: int) -> dict[str, str]:
    """Refresh one ciphertext of a stage's slots; returns the columns of the table."""
    slots = set_.stage_slots(stage)
    with TemporaryDirectory() as folder:
        if set_.engine == NATIVE:
            transforms(set_.refresh.transforms)  # in this process too
        prepared = prepare_refresh(set_, slots, Path(folder))
        reach = set_.refresh.reach
        values = np.random.default_rng(0).uniform(-reach, reach, slots)
        times = []
        for _ in range(repeats + 1):
            ciphertext = prepared.encrypt(values)
            begun = time.monotonic()
            result = prepared.relu(ciphertext, lambda x: None)
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
        columns = in_a_process(measure, set_, args.stage, args.repeats)
        table = table or Table(*names, *columns, title=f"set {args.set}, {set_.engine}, stage {args.stage}")
        table.add_row(*values, *columns.values())
        console.print(" ".join(f"{k} {v}," for k, v in (changes | columns).items()))
    if table:
        console.print(table)


if __name__ == "__main__":
    main()
