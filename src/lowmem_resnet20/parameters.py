"""Parameter sets: from a few design choices to every size OpenFHE needs, checked before it is called.

A set states what was chosen (prime sizes, level budgets, ReLU degree ...); everything else - the number
of levels, the digits of key switching, log2 QP - is computed from it and from the network's description.

Levels.  One refresh (bootstrapping) costs ``refresh_levels`` of the modulus chain.  What it leaves must
last until the next one: at most a ReLU and a convolution.  One more level stays below, because
OpenFHE's EvalBootstrap wants its input on two towers.

Security.  The homomorphic encryption standard allows log2 QP up to 1747 at N = 2^16 for 128 bits against
classical attacks with ternary secrets; OpenFHE enforces it (``HEStd_128_classic``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from .architecture import RESNET20, Architecture
from .errors import PlanError, UsageError

SECURE = "HEStd_128_classic"
#: log2 QP allowed at log2 N for 128-bit classical security, ternary secrets (OpenFHE 1.6.1's table).
LOG2_QP_LIMIT = {15: 881, 16: 1747, 17: 3523}
#: Bits of OpenFHE's special primes P for hybrid key switching.
SPECIAL_PRIME_BITS = 60
#: Levels a Chebyshev series of at most this degree consumes (Paterson-Stockmeyer, OpenFHE 1.6.1).
SERIES_LEVELS = ((5, 3), (13, 4), (27, 5), (59, 6), (119, 7), (247, 8))
#: Levels bootstrapping spends on the modular reduction, for sparse-encapsulated secrets.
MODULAR_REDUCTION_LEVELS = 10
CONVOLUTION_LEVELS = 1
GATHER_LEVELS = 3
#: Multiplications that must remain possible when a ciphertext is refreshed.
RESERVE_LEVELS = 1


def series_levels(degree: int) -> int:
    """Levels consumed by a Chebyshev series of ``degree`` on [-1, 1]."""
    for largest, levels in SERIES_LEVELS:
        if degree <= largest:
            return levels
    raise PlanError(f"a series of degree {degree} is deeper than any parameter set allows")


@dataclass(frozen=True)
class ParameterSet:
    """The choices that make a set; properties derive the rest.

    number: name on the command line; log2_ring: log2 N; first_modulus_bits, scaling_bits: size of the
    last prime and of the others; large_digits: dnum of hybrid key switching; level_budget, dim1: levels and
    baby steps of coefficients-to-slots and slots-to-coefficients; relu_degree: of the Chebyshev ReLU.
    refresh_deviation: rms error of a refresh, measured at full size (see README), to simulate it in the clear.
    ``security`` names OpenFHE's security level; only tests use another than the default.
    """

    number: int
    relu_degree: int
    scaling_bits: int
    first_modulus_bits: int
    large_digits: int
    level_budget: tuple[int, int]
    dim1: tuple[int, int]
    refresh_deviation: float = field(default=0.0, repr=False)
    log2_ring: int = 16
    architecture: Architecture = RESNET20
    security: str = SECURE

    def __post_init__(self) -> None:
        largest = max(self.architecture.stage_slots(s + 1) for s in range(len(self.architecture.channels)))
        if largest > self.full_slots:
            raise PlanError(f"a layer of {largest} slots does not fit in a ring of dimension {self.ring_dimension}")
        if self.multiplicative_depth + 1 <= self.digit_towers * (self.large_digits - 1):
            raise PlanError(f"{self.large_digits} digits are too many for {self.multiplicative_depth + 1} towers")
        limit = LOG2_QP_LIMIT.get(self.log2_ring, 0)
        if self.security == SECURE and self.log2_qp > limit:
            raise PlanError(f"log2 QP = {self.log2_qp} exceeds {limit}, the limit for 128 bits at N = 2^{self.log2_ring}")

    @property
    def ring_dimension(self) -> int:
        return 1 << self.log2_ring

    @property
    def full_slots(self) -> int:
        return self.ring_dimension // 2

    @property
    def relu_levels(self) -> int:
        return series_levels(self.relu_degree)

    @property
    def refresh_levels(self) -> int:
        """Levels one bootstrapping consumes."""
        return sum(self.level_budget) + MODULAR_REDUCTION_LEVELS

    @property
    def usable_levels(self) -> int:
        """Levels left to the network after a refresh: a ReLU and a convolution, or a gather."""
        return max(self.relu_levels + CONVOLUTION_LEVELS, GATHER_LEVELS)

    @property
    def multiplicative_depth(self) -> int:
        """OpenFHE's MultiplicativeDepth L; the chain has L + 1 primes."""
        return self.refresh_levels + self.usable_levels + RESERVE_LEVELS

    @property
    def correction_bits(self) -> int:
        """OpenFHE's correction factor of bootstrapping: log2 of first modulus over scale, its least legal value.

        Each bit above it halves the input before the modular reduction and doubles the noise after.
        """
        return self.first_modulus_bits - self.scaling_bits

    @property
    def digit_towers(self) -> int:
        return -(-(self.multiplicative_depth + 1) // self.large_digits)

    @property
    def special_towers(self) -> int:
        """Primes of P: enough to exceed the largest digit."""
        digit_bits = self.first_modulus_bits + (self.digit_towers - 1) * self.scaling_bits + 1
        return -(-digit_bits // SPECIAL_PRIME_BITS)

    @property
    def log2_q(self) -> int:
        return self.first_modulus_bits + self.multiplicative_depth * self.scaling_bits

    @property
    def log2_qp(self) -> int:
        return self.log2_q + 1 + SPECIAL_PRIME_BITS * self.special_towers

    @property
    def switching_key_bytes(self) -> int:
        """Size of one rotation key: two polynomials a digit over all primes of QP."""
        towers = self.multiplicative_depth + 1 + self.special_towers
        return 2 * self.large_digits * towers * self.ring_dimension * 8

    @property
    def fingerprint(self) -> str:
        """Changes when any choice of the set changes; a key folder is refused under another."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def summary(self) -> str:
        """The set on a few lines, for the terminal."""
        budget = ", ".join(map(str, self.level_budget))
        primes = f"{self.first_modulus_bits} + {self.multiplicative_depth} x {self.scaling_bits} bits"
        refresh = f"refresh {self.refresh_levels} ({{{budget}}} + {MODULAR_REDUCTION_LEVELS})"
        levels = f"{refresh}, network {self.usable_levels}, reserve {RESERVE_LEVELS}"
        return "\n".join(
            (
                f"parameter set {self.number}: N = 2^{self.log2_ring}, log2 QP = {self.log2_qp} ({self.security})",
                f"  primes       {primes}, {self.special_towers} special primes, {self.large_digits} digits",
                f"  levels       {self.multiplicative_depth}: {levels}",
                f"  ReLU         Chebyshev, degree {self.relu_degree}, {self.relu_levels} levels",
                f"  rotation key {self.switching_key_bytes / 2**20:.0f} MiB each",
            )
        )


PARAMETER_SETS: dict[int, ParameterSet] = {
    s.number: s
    for s in (
        ParameterSet(1, 59, 48, 52, 3, level_budget=(3, 3), dim1=(8, 4), refresh_deviation=2.4e-5),
        ParameterSet(2, 200, 46, 50, 5, level_budget=(4, 4), dim1=(4, 4)),
        ParameterSet(3, 119, 46, 50, 5, level_budget=(5, 4), dim1=(4, 4)),
        ParameterSet(4, 59, 44, 48, 3, level_budget=(4, 4), dim1=(4, 4)),
    )
}


def parameter_set(number: int) -> ParameterSet:
    """The shipped set of that number."""
    try:
        return PARAMETER_SETS[number]
    except KeyError:
        known = ", ".join(map(str, PARAMETER_SETS))
        raise UsageError(f"there is no parameter set {number}", f"the sets are {known}") from None
