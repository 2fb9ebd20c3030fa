#!/usr/bin/env python
"""The rotation keys that each stage of a parameter set needs, and what for.

    scripts/rotations.py SET

Found as key generation finds them: by running the network on nothing, and by asking OpenFHE what its bootstrapping
rotates by.  The conjugation key and the pair that enters and leaves the sparse secret are needed besides.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from lowmem_resnet20.fhe.context import power_of_two_rotations
from lowmem_resnet20.fhe.secret import bootstrapping_rotations
from lowmem_resnet20.network.clear import Planned, PlanningEvaluator, signed
from lowmem_resnet20.network.parameters import ParameterSet, parameter_set
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.terminal.progress import format_bytes

#: What a rotation is for, by the function of the network that asks for it.
PURPOSES = {
    "_make_taps": "convolution: neighbours of a pixel",
    "convolve": "convolution: channel shift",
    "_spread": "convolution: channels divided among the copies",
    "_sum_copies": "convolution: sum over the copies",
    "_gather_columns": "downsampling: columns",
    "_gather_rows": "downsampling: rows",
    "_gather_channels": "downsampling: channels, and halves onto each other",
    "classify": "pooling and fully connected layer",
}
BOOTSTRAPPING = "bootstrapping"


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
    for stage, steps in bootstrapping_rotations(set_).items():
        for step in steps:
            purposes[stage].setdefault(step, set()).add(BOOTSTRAPPING)
    return purposes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=int)
    set_ = parameter_set(parser.parse_args().set)
    console, purposes = Console(width=120), explain(set_)
    shared = power_of_two_rotations(set_)
    for stage, steps in sorted(purposes.items()):
        table = Table("rotation", "what for", "also in stages", title=f"set {set_.number}, stage {stage}")
        for step in sorted(steps, key=lambda step: abs(signed(step, set_.full_slots))):
            others = [str(other) for other in purposes if other != stage and step in purposes[other]]
            table.add_row(str(signed(step, set_.full_slots)), "; ".join(sorted(steps[step])), " ".join(others))
        console.print(table)
        network_alone = [step for step, why in steps.items() if BOOTSTRAPPING not in why]
        held = len(set(steps) | shared)
        size = format_bytes(held * set_.switching_key_bytes)
        console.print(
            f"{len(steps)} rotations, {len(network_alone)} of them not bootstrapping's; {held} keys loaded, {size}\n"
        )
    every = set().union(*purposes.values()) | shared
    console.print(f"{len(every)} rotation keys in all, {format_bytes(len(every) * set_.switching_key_bytes)}")


if __name__ == "__main__":
    main()
