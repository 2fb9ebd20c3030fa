#!/usr/bin/env python
"""Precision of each set's refreshes at full size, in bits.

    scripts/refreshbits.py [SET ...] [--engine native|openfhe] [--stages S ...] [--repeats N] [--record]

For the number of slots of each stage: values spread evenly over the range that a refresh takes ([-1, 1], of a
functional one [-0.9, 0.9]) are encrypted, refreshed with the ReLU, decrypted and compared, twice.  *Refresh* is the
precision of the scheme: of bootstrapping, the error against its own input; of a functional refresh, which applies the
ReLU's series, against that series in the clear.  *With ReLU* is the error against max(0, x) itself, series included.
Bits are minus log2 of the mean and of the worst absolute error of all slots, and the root of the mean square is what
the simulations in the clear take as noise.  Without SET all sets of both engines; ``--record`` writes the figures down
(see scripts/measurements.py).  Every number of slots has a process of its own that holds everything; of set 1 some
11 GiB.  Errors, unlike times, do not depend on what else runs.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lowmem_resnet20.network.engines import ENGINES
from lowmem_resnet20.network.parameters import PARAMETER_SETS, ParameterSet
from measurements import record, rows_of, table
from origin import OF_A_REFRESH, Origin, stamp
from refreshing import in_a_process, prepare_refresh

SECTION = "refreshes"


def measure(set_: ParameterSet, slots: int, repeats: int) -> dict[str, dict[str, float]]:
    """By what it is compared with: the precision of ``repeats`` refreshes of so many slots each."""
    errors: dict[str, list[np.ndarray]] = defaultdict(list)
    random, reach = np.random.default_rng(0), set_.refresh.reach
    with TemporaryDirectory() as folder:
        prepared = prepare_refresh(set_, slots, Path(folder))
        for _ in range(repeats):
            values, between = random.uniform(-reach, reach, slots), []
            result = prepared.relu(prepared.encrypt(values), between.append)
            found = prepared.decrypt(result)[:slots]
            refreshed = prepared.decrypt(between[0])[:slots] if between else found
            errors["refresh"].append(refreshed - set_.refresh.in_the_clear(values, 1.0))
            errors["relu"].append(found - np.maximum(values, 0))
    return {against: precision(np.concatenate(found)) for against, found in errors.items()}


def precision(errors: np.ndarray) -> dict[str, float]:
    """Minus log2 of the mean and of the worst absolute error, and the root of the mean square."""
    absolute = np.abs(errors)
    bits = {"mean_bits": -np.log2(absolute.mean()), "worst_bits": -np.log2(absolute.max())}
    return {name: float(value) for name, value in (bits | {"rms": np.sqrt(np.mean(errors**2))}).items()}


def stages_by_slots(set_: ParameterSet) -> dict[int, list[int]]:
    """Stages whose ciphertexts have the same number of slots are refreshed in the same way."""
    found: dict[int, list[int]] = defaultdict(list)
    for stage in range(1, len(set_.architecture.channels) + 1):
        found[set_.stage_slots(stage)].append(stage)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=int, nargs="*")
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--stages", type=int, nargs="+", help="only those")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args(argv)
    origin, rows = Origin.here(OF_A_REFRESH), {}
    for (number, engine), set_ in PARAMETER_SETS.items():
        if number not in (given.sets or (number,)) or engine != (given.engine or engine):
            continue
        for slots, stages in stages_by_slots(set_).items():
            if given.stages and not set(given.stages) & set(stages):
                continue
            named: dict[str, Any] = {"set": number, "engine": engine, "slots": slots, "stages": stages}
            row = named | stamp() | in_a_process(measure, set_, slots, given.repeats)
            rows[f"{number} {engine} {stages[0]}"] = row
            print(row, file=sys.stderr, flush=True)
            if given.record:
                record(SECTION, origin, rows_of(SECTION, origin) | rows)
    print(table(SECTION, {SECTION: {name: row | {"origin": asdict(origin)} for name, row in rows.items()}}), end="")


if __name__ == "__main__":
    main()
