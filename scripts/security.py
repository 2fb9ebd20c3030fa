#!/usr/bin/env python
"""What the cheapest known attacks on the shipped parameter sets cost, as the lattice estimator has it.

    git clone https://github.com/malb/lattice-estimator
    pip install passagemath-standard                      # Sage; with CPython 3.12 there are wheels of all of it
    scripts/security.py lattice-estimator
    scripts/security.py lattice-estimator --log2-qp 1685 1639 1613

Prints log2 of the number of classical operations of each attack, a line for every modulus that a set has, and for the
sparse secret that moduli are raised under; then how likely that raising fails.  The estimator is no dependency of the
program, may take an hour a line, and its figures change with its commits, so the commit is printed too.
"""

from __future__ import annotations

import argparse
import importlib
import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowmem_resnet20.native.exponential import OVERFLOW
from lowmem_resnet20.network.parameters import PARAMETER_SETS, ParameterSet
from lowmem_resnet20.network.resnet20 import plan


@dataclass(frozen=True)
class Secret:
    """weight: nonzero coefficients; deviation: the standard deviation of the smallest errors published under it."""

    weight: int
    deviation: float


#: OpenFHE 1.6.1's for SPARSE_ENCAPSULATED: that of ciphertexts and nearly all keys, and that moduli are raised under.
#: Switching keys under the first have smaller errors than OpenFHE's parameter says.
DENSE, SPARSE = Secret(192, 1.0), Secret(32, 3.19)
#: Bits of the special primes of the key into the sparse secret, in OpenFHE 1.6.1.
SPARSE_SPECIAL_BITS = 2 * 33
LOG2_RING = 16
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
    log2_modulus: int
    secret: Secret

    def parameters(self, estimator: Any) -> Any:
        """In the estimator's terms, with as many samples as an attacker likes: keys and ciphertexts give them."""
        ones = self.secret.weight // 2
        n = 1 << LOG2_RING
        secret = estimator.ND.SparseTernary(ones, self.secret.weight - ones, n)
        error = estimator.ND.DiscreteGaussian(self.secret.deviation)
        return estimator.LWE.Parameters(n=n, q=1 << self.log2_modulus, Xs=secret, Xe=error, tag=self.name)


def instances(sets: Sequence[ParameterSet]) -> list[Instance]:
    """Those of the sets, the largest modulus first, and of their sparse secrets: of equal ones, one."""
    moduli: dict[tuple[Secret, int], list[str]] = defaultdict(list)
    for set_ in sets:
        assert set_.log2_ring == LOG2_RING
        moduli[DENSE, set_.log2_qp].append(f"{set_.number} {set_.engine}")
    for set_ in sets:
        moduli[SPARSE, set_.first_modulus_bits + SPARSE_SPECIAL_BITS].append(f"{set_.number} {set_.engine}")
    kinds = {DENSE: "set", SPARSE: "sparse secret of set"}
    return [
        Instance(f"{kinds[secret]} {', '.join(names)}", log2_modulus, secret)
        for (secret, log2_modulus), names in sorted(moduli.items(), key=lambda item: -item[0][1])
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
    yield f"| of | weight | error | log2 of the modulus | {' | '.join(columns)} | least |"
    yield "|---" * (len(columns) + 5) + "|"
    for instance in found:
        costs = list(estimate(estimator, instance).values())
        cells = [instance.name, instance.secret.weight, instance.secret.deviation, instance.log2_modulus]
        cells += [f"{cost:.1f}" for cost in (*costs, min(costs))]
        yield f"| {' | '.join(map(str, cells))} |"


def log2_failure(weight: int = SPARSE.weight, log2_ring: int = LOG2_RING) -> float:
    """log2 of a bound on the probability that one raising of the modulus fails.

    In units of q_0 a coefficient is a sum of weight + 1 uniforms in [-1/2, 1/2], and wrong beyond weight / 2, which is
    1/2 less than all of it: 2 (1/2)^(weight + 1) / (weight + 1)! by Irwin and Hall, for each of N coefficients.
    """
    assert weight != SPARSE.weight or weight / 2 == OVERFLOW
    return log2_ring + 1 - (weight + 1) - math.log2(math.factorial(weight + 1))


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


def refreshes_of_a_picture(set_: ParameterSet) -> int:
    """Those that one picture goes through: of a group's other ciphertexts nothing comes to it."""
    return sum(count // set_.ciphertexts(stage) for stage, count in plan(set_).refreshes.items())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("estimator", type=Path, help="a checkout of the lattice estimator")
    parser.add_argument("--log2-qp", type=int, nargs="+", metavar="BITS", help="these moduli instead of the sets'")
    given = parser.parse_args(argv)
    if given.log2_qp:
        found = [Instance("a modulus", bits, DENSE) for bits in given.log2_qp]
    else:
        found = instances(list(PARAMETER_SETS.values()))
    estimator = load_estimator(given.estimator)
    print(f"lattice estimator, commit {commit_of(given.estimator)}; N = 2^{LOG2_RING}\n", flush=True)
    for line in table(estimator, found):
        print(line, flush=True)
    refreshes = max(map(refreshes_of_a_picture, PARAMETER_SETS.values()))
    once = log2_failure()
    print(f"\nraising the modulus fails with probability 2^{once:.1f}; of a picture's {refreshes} refreshes, ", end="")
    print(f"any with 2^{once + math.log2(refreshes):.1f}")


if __name__ == "__main__":
    main()
