#!/usr/bin/env python
"""The rotation keys that each stage of a parameter set needs, and what for.

    scripts/rotations.py SET [--engine native|openfhe]

Found as key generation finds them: by running the network on nothing, and by asking OpenFHE what its bootstrapping
rotates by, or refreshing nothing as the native evaluator does.  Native keys are as long as the level of their uses:
each with its towers and bytes.  The relinearisation and the conjugation key, and with OpenFHE the pair that enters and
leaves the inner secret, are needed besides.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from lowmem_resnet20.native.keys.keyplan import key_bytes, key_plan, longest, refresh_plan
from lowmem_resnet20.native.keys.refreshkeys import refresh_keys
from lowmem_resnet20.native.ring.keynames import rotation_step
from lowmem_resnet20.network.clear import Planned, PlanningEvaluator, signed
from lowmem_resnet20.network.engines import ENGINES, NATIVE
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.openfhe.context import power_of_two_rotations
from lowmem_resnet20.openfhe.secret import bootstrapping_rotations
from lowmem_resnet20.progress.display import format_bytes

#: What a rotation is for, by the function of the network that asks for it.
PURPOSES = {
    "_make_taps": "convolution: neighbours of a pixel",
    "convolve": "convolution: channel shift",
    "_spread": "convolution: channels divided among the copies",
    "_sum_copies": "convolution: sum over the copies",
    "_gather_columns": "downsampling: columns",
    "_gather_rows": "downsampling: rows",
    "_gather_channels": "downsampling: branches",
    "_source": "downsampling: channels, and pictures between them",
    "_halves_joined": "downsampling: halves onto each other",
    "classify": "pooling and fully connected layer",
}
#: By what refreshes.
REFRESH = {True: "refresh", False: "bootstrapping"}


class ExplainingEvaluator(PlanningEvaluator):
    """Records for what each rotation of a stage is."""

    def __init__(self, set_: ParameterSet) -> None:
        super().__init__(set_)
        self.purposes: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))

    def rotate(self, x: Planned, steps: Sequence[int]) -> list[Planned]:
        frame = sys._getframe(1)
        while frame.f_code.co_name not in PURPOSES:
            frame = frame.f_back
        for step in steps:
            if step % self.set.full_slots:
                self.purposes[self.stage][step % self.set.full_slots].add(PURPOSES[frame.f_code.co_name])
        return super().rotate(x, steps)


def explain(set_: ParameterSet) -> dict[int, dict[int, set[str]]]:
    """By stage, by rotation in [1, N/2): what it is for."""
    evaluator = ExplainingEvaluator(set_)
    plan(set_, evaluator)
    purposes = {stage: dict(steps) for stage, steps in evaluator.purposes.items()}
    for stage, steps in refresh_rotations(set_).items():
        for step in steps:
            purposes[stage].setdefault(step, set()).add(REFRESH[set_.engine == NATIVE])
    return purposes


def refresh_rotations(set_: ParameterSet) -> Mapping[int, Iterable[int]]:
    """By stage, what its refresh rotates by, in [1, N/2)."""
    if set_.engine != NATIVE:
        return bootstrapping_rotations(set_)
    degrees = {set_.refresh.degree, set_.refresh.identity_degree}
    towers, n = set_.multiplicative_depth + 1, set_.ring_dimension
    found = {}
    for stage in range(1, len(set_.architecture.channels) + 1):
        slots = set_.stage_slots(stage)
        names = [name for d in degrees for name in refresh_keys(refresh_plan(set_), n, slots, towers, d)]
        found[stage] = {rotation_step(name) for name in names if rotation_step(name)}
    return found


def native_tables(set_: ParameterSet) -> Iterator[Table | str]:
    """A table for each stage, with a line for its sum, and a line for all."""
    stages, purposes = key_plan(set_), explain(set_)
    files = longest(stages)
    for stage, keys in sorted(stages.items()):
        table = Table("key", "what for", "towers", "of the file", "file", title=f"set {set_.number}, stage {stage}")
        for name, towers in sorted(keys.items(), key=lambda key: abs(signed(rotation_step(key[0]), set_.full_slots))):
            step = rotation_step(name)
            why = "; ".join(sorted(purposes[stage][step])) if step else ""
            size = format_bytes(key_bytes(set_, files[name]))
            table.add_row(
                str(signed(step, set_.full_slots)) if step else name, why, str(towers), str(files[name]), size
            )
        yield table
        held = sum(key_bytes(set_, towers) for towers in keys.values())
        yield f"{len(keys)} keys, of which {format_bytes(held)} are read\n"
    total = sum(key_bytes(set_, towers) for towers in files.values())
    whole = len(files) * set_.switching_key_bytes
    yield f"{len(files)} keys in all, {format_bytes(total)}; in OpenFHE's form {format_bytes(whole)}"


def openfhe_tables(set_: ParameterSet) -> Iterator[Table | str]:
    """A table for each stage, with a line for its sum, and a line for all."""
    purposes = explain(set_)
    shared = power_of_two_rotations(set_)
    for stage, steps in sorted(purposes.items()):
        table = Table("rotation", "what for", "also in stages", title=f"set {set_.number}, stage {stage}")
        for step in sorted(steps, key=lambda step: abs(signed(step, set_.full_slots))):
            others = [str(other) for other in purposes if other != stage and step in purposes[other]]
            table.add_row(str(signed(step, set_.full_slots)), "; ".join(sorted(steps[step])), " ".join(others))
        yield table
        network_alone = [step for step, why in steps.items() if REFRESH[False] not in why]
        held = len(set(steps) | shared)
        size = format_bytes(held * set_.switching_key_bytes)
        yield f"{len(steps)} rotations, {len(network_alone)} of them not bootstrapping's; {held} keys loaded, {size}\n"
    every = set().union(*purposes.values()) | shared
    yield f"{len(every)} rotation keys in all, {format_bytes(len(every) * set_.switching_key_bytes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=int)
    parser.add_argument("--engine", choices=ENGINES, default="")
    args = parser.parse_args()
    set_, console = parameter_set(args.set, args.engine), Console(width=120)
    for part in native_tables(set_) if set_.engine == NATIVE else openfhe_tables(set_):
        console.print(part)


if __name__ == "__main__":
    main()
