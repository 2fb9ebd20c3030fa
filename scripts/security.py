#!/usr/bin/env python
"""What the cheapest known attacks on the shipped parameter sets cost, as the lattice estimator has it.

    git clone https://github.com/malb/lattice-estimator
    pip install passagemath-standard                      # Sage; with CPython 3.12 there are wheels of all of it
    scripts/security.py lattice-estimator
    scripts/security.py lattice-estimator --sets 5 6 --engine native
    scripts/security.py lattice-estimator --log2-ring 16 --log2-qp 1685 1639 1613

Prints log2 of the number of classical operations of each attack, a line for every ring and modulus that a set has, and
for the inner secret under which OpenFHE's evaluator raises moduli; then how likely that raising fails.  ``--sets`` asks
about some sets only.  The estimator is no dependency of the program, may take an hour a line, and its figures change
with its commits, so the commit is printed too.
"""

from __future__ import annotations

import argparse
import importlib
import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowmem_resnet20.native.refresh.exponential import OVERFLOW, log2_failure
from lowmem_resnet20.network.engines import ENGINES, NATIVE, OPENFHE
from lowmem_resnet20.network.parameters import PARAMETER_SETS, WIDE_SETS, ParameterSet
from lowmem_resnet20.network.resnet20 import plan


@dataclass(frozen=True)
class Secret:
    """weight: nonzero coefficients; deviation: the standard deviation of the smallest errors published under it."""

    weight: int
    deviation: float


#: OpenFHE 1.6.1's: that of ciphertexts and keys, and of SPARSE_ENCAPSULATED that under which moduli are raised.
#: Switching keys under the first have smaller errors than OpenFHE's parameter says.
MAIN, INNER = Secret(192, 1.0), Secret(32, 3.19)
#: Bits of the special primes of the key into the inner secret, in OpenFHE 1.6.1.
INNER_SPECIAL_BITS = 2 * 33
#: How far beyond a message the raise may bring a coefficient, in units of q_0, and the secret that it is done under.
RAISES = {NATIVE: (MAIN, OVERFLOW), OPENFHE: (INNER, 16)}
#: The shipped sets by name; those in a longer ring for networks that do not fit into the set's own are called wide.
SETS = {
    **{f"{number} {engine}": set_ for (number, engine), set_ in PARAMETER_SETS.items()},
    **{f"{set_.number} {set_.engine} wide": set_ for set_ in WIDE_SETS.values()},
}
COST_MODELS = ("BDGL16", "MATZOV")
#: By name, the attack: of the estimator's module LWE, the parameters and how lattice reduction is costed.
ATTACKS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "primal hybrid": lambda lwe, it, model: lwe.primal_hybrid(it, mitm=True, babai=True, red_cost_model=model),
    "uSVP": lambda lwe, it, model: lwe.primal_usvp(it, red_cost_model=model),
    "dual hybrid": lambda lwe, it, model: lwe.dual_hybrid(it, red_cost_model=model),
}


@dataclass(frozen=True)
class Instance:
    """Ring LWE as the attacks see it.  name: of what."""

    name: str
    log2_ring: int
    log2_modulus: int
    secret: Secret

    def parameters(self, estimator: Any) -> Any:
        """In the estimator's terms, with as many samples as an attacker likes: keys and ciphertexts give them."""
        ones = self.secret.weight // 2
        n = 1 << self.log2_ring
        secret = estimator.ND.SparseTernary(ones, self.secret.weight - ones, n)
        error = estimator.ND.DiscreteGaussian(self.secret.deviation)
        return estimator.LWE.Parameters(n=n, q=1 << self.log2_modulus, Xs=secret, Xe=error, tag=self.name)


def instances(sets: Mapping[str, ParameterSet]) -> list[Instance]:
    """Those of the sets, the largest first, and of their inner secrets where there are any: of equal ones, one."""
    found: dict[tuple[Secret, int, int], list[str]] = defaultdict(list)
    for name, set_ in sets.items():
        found[MAIN, set_.log2_ring, set_.log2_qp].append(name)
        if RAISES[set_.engine][0] is INNER:
            found[INNER, set_.log2_ring, set_.first_modulus_bits + INNER_SPECIAL_BITS].append(name)
    kinds = {MAIN: "set", INNER: "inner secret of set"}
    return [
        Instance(f"{kinds[secret]} {', '.join(names)}", *sizes, secret)
        for (secret, *sizes), names in sorted(found.items(), key=lambda item: item[0][1:], reverse=True)
    ]


def estimate(estimator: Any, instance: Instance) -> dict[tuple[str, str], float]:
    """log2 of the operations, by attack and cost model."""
    parameters = instance.parameters(estimator)
    models = {name: getattr(estimator.RC, name) for name in COST_MODELS}
    return {
        (attack, name): log2(run(estimator.LWE, parameters, model)["rop"])
        for attack, run in ATTACKS.items()
        for name, model in models.items()
    }


def log2(number: Any) -> float:
    """Of a number of the estimator's, which may be beyond every float, or infinite where it found no such attack."""
    short = float(number)
    if math.isfinite(short):
        return math.log2(short)
    return float(number.log(2)) if hasattr(number, "log") else math.inf


def table(estimator: Any, found: Sequence[Instance]) -> Iterator[str]:
    """Lines of Markdown, as they come."""
    columns = [f"{attack}, {model}" for attack in ATTACKS for model in COST_MODELS]
    yield f"| of | log2 N | weight | error | log2 of the modulus | {' | '.join(columns)} | least |"
    yield "|---" * (len(columns) + 6) + "|"
    for instance in found:
        costs = list(estimate(estimator, instance).values())
        secret = instance.secret
        cells = [instance.name, instance.log2_ring, secret.weight, secret.deviation, instance.log2_modulus]
        cells += [f"{cost:.1f}" for cost in (*costs, min(costs))]
        yield f"| {' | '.join(map(str, cells))} |"


def failures(sets: Mapping[str, ParameterSet]) -> Iterator[str]:
    """By engine and ring, a line on the set that is likeliest to fail."""
    worst: dict[tuple[str, int], tuple[float, str]] = {}
    for name, set_ in sets.items():
        secret, overflow = RAISES[set_.engine]
        once, refreshes = set_.log2_ring + log2_failure(secret.weight, overflow), refreshes_of_a_group(set_)
        most = once + math.log2(refreshes)
        line = f"set {name}, N = 2^{set_.log2_ring}: raising the modulus fails with probability 2^{once:.1f}, "
        kind = set_.engine, set_.log2_ring
        worst[kind] = max(worst.get(kind, (-math.inf, "")), (most, f"{line}any of {refreshes} with 2^{most:.1f}"))
    yield from (line for _, line in worst.values())


def load_estimator(checkout: Path) -> Any:
    """The estimator's package, with ND, LWE and RC.  Exits with a line where it, or Sage, is missing."""
    if not (checkout / "estimator" / "__init__.py").is_file():
        sys.exit(f"security.py: error: {checkout} is no checkout of the lattice estimator")
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module("estimator")
    except ImportError as error:
        sys.exit(f"security.py: error: {error}; the estimator needs Sage: pip install passagemath-standard")


def commit_of(checkout: Path) -> str:
    git = ("git", "-C", str(checkout), "rev-parse", "--short", "HEAD")
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def refreshes_of_a_group(set_: ParameterSet) -> int:
    """Those of a picture, or of the pictures that are evaluated together."""
    return sum(plan(set_).refreshes.values())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("estimator", type=Path, help="a checkout of the lattice estimator")
    parser.add_argument("--sets", type=int, nargs="+", metavar="SET", help="these alone")
    parser.add_argument("--engine", choices=ENGINES, help="those of this engine alone")
    parser.add_argument("--log2-qp", type=int, nargs="+", metavar="BITS", help="these moduli instead of the sets'")
    parser.add_argument("--log2-ring", type=int, default=16, metavar="BITS", help="the ring of these moduli")
    given = parser.parse_args(argv)
    sets = {
        name: set_
        for name, set_ in SETS.items()
        if set_.number in (given.sets or (set_.number,)) and set_.engine == (given.engine or set_.engine)
    }
    if given.log2_qp:
        found = [Instance("a modulus", given.log2_ring, bits, MAIN) for bits in given.log2_qp]
    else:
        found = instances(sets)
    estimator = load_estimator(given.estimator)
    print(f"lattice estimator, commit {commit_of(given.estimator)}\n", flush=True)
    for line in table(estimator, found):
        print(line, flush=True)
    print()
    for line in failures(sets):
        print(line)


if __name__ == "__main__":
    main()
