"""Parameter sets: from a few design choices to every size OpenFHE needs, checked before it is called.

A set states what was chosen (prime sizes, level budgets, ReLU degree ...); everything else - the number
of levels, the digits of key switching, log2 QP - is computed from it and from the network's description.

Rings.  A native set is as it says for networks whose layers fit into its ring; for wider ones there is a second of the
same number in a ring twice as long (:func:`parameter_set`).

Levels.  One refresh (see :mod:`.refresh`) costs ``refresh_levels`` of the modulus chain.  What it leaves must last
until the next one: at most a ReLU and a convolution, or a gather.  ``reserve_levels`` more stay below, because a
refresh wants its input on so many towers.

Security.  OpenFHE allows log2 QP up to 1747 at N = 2^16 for 128 bits against classical attacks with uniform ternary
secrets, and 881 at N = 2^15, and enforces it (``HEStd_128_classic``).  Our secrets are sparse, which helps hybrid
attacks: the shipped sets stay below 1600 and 800, for reasons and figures in SECURITY.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import PlanError, UsageError
from .architecture import RESNET20, Architecture
from .engines import NATIVE, OPENFHE
from .fingerprint import Choice, fingerprint
from .refresh import ChebyshevRefresh, FunctionalRefresh, NativeRefresh, Refresh

SECURE = "HEStd_128_classic"
#: OpenFHE's names of what all sets have: how scales are kept and keys switched.
SCALING_TECHNIQUE, KEY_SWITCHING = "FLEXIBLEAUTO", "HYBRID"
#: log2 QP allowed at log2 N for 128-bit classical security, ternary secrets (OpenFHE 1.6.1's table).
LOG2_QP_LIMIT = {15: 881, 16: 1747, 17: 3523}
#: Bits of OpenFHE's special primes P for hybrid key switching.
SPECIAL_PRIME_BITS = 60
#: Bits of the first prime, and of the others, that the native evaluator takes at most: OpenFHE chooses the first below
#: its power of two and the others around theirs, and all have to lie below 2^30 (:mod:`..native.kernels.residues`).
NATIVE_BITS = 30, 29
#: Levels that gathering the strided result of a downsampling convolution consumes.
GATHER_LEVELS = 3
#: Levels that an encrypted picture needs: one convolution on one copy of its few blocks.
PICTURE_LEVELS = 1


@dataclass(frozen=True)
class ParameterSet:
    """The choices that make a set; properties derive the rest.

    number: name on the command line; log2_ring: log2 N; first_modulus_bits, scaling_bits: size of the
    last prime and of the others; large_digits: dnum of hybrid key switching; level_budget, dim1: levels and
    baby steps of coefficients-to-slots and slots-to-coefficients; refresh: how ciphertexts are refreshed and the ReLU
    applied; most_copies: copies of a layer, as far as the ring holds them, that a convolution works on; pictures: of a
    *group*, which is evaluated together, as many in a ciphertext as the ring holds and in the last stage all in one.
    refresh_deviation, server_bytes: rms error of a refresh and memory of the server, measured at full size (see
    scripts/README.md): to simulate it in the clear, and to see whether a machine will do.
    ``security`` names OpenFHE's security level; only tests use another than the default.
    """

    number: int
    refresh: Refresh
    scaling_bits: int
    first_modulus_bits: int
    large_digits: int
    level_budget: tuple[int, int] = (0, 0)
    dim1: tuple[int, int] = (0, 0)
    most_copies: int = 1
    pictures: int = 1
    refresh_deviation: float = 0.0
    server_bytes: int = 0
    log2_ring: int = 16
    architecture: Architecture = RESNET20
    security: str = SECURE

    def __post_init__(self) -> None:
        if self.architecture.largest_layer > self.full_slots:
            slots = f"{self.architecture.largest_layer:,} slots, a ring holds {self.full_slots:,}"
            width, channels = self.architecture.width, "/".join(map(str, self.architecture.channels))
            raise PlanError(
                f"this is a {self.architecture.title} with {width}x{width} pictures and channels {channels}: {slots}"
            )
        if self.pictures.bit_count() != 1 or self.ciphertexts(len(self.architecture.channels)) > 1:
            raise PlanError(f"{self.pictures} pictures do not make a group that ends in one ciphertext")
        if self.multiplicative_depth + 1 <= self.digit_towers * (self.large_digits - 1):
            raise PlanError(f"{self.large_digits} digits are too many for {self.multiplicative_depth + 1} towers")
        bits = self.first_modulus_bits, self.scaling_bits
        if self.engine == NATIVE and any(found > most for found, most in zip(bits, NATIVE_BITS, strict=True)):
            raise PlanError(f"the native evaluator takes primes of {NATIVE_BITS} bits at most, not {bits}")
        limit = LOG2_QP_LIMIT.get(self.log2_ring, 0)
        if self.security == SECURE and self.log2_qp > limit:
            raise PlanError(
                f"log2 QP = {self.log2_qp} exceeds {limit}, the limit for 128 bits at N = 2^{self.log2_ring}"
            )

    def serving(self, architecture: Architecture) -> ParameterSet:
        """Return this set for networks of another architecture, with as many pictures in a group as its last stage
        holds.  Errors: PlanError where the ring does not hold its layers."""
        room = self.full_slots // architecture.stage_slots(len(architecture.channels))
        return replace(self, architecture=architecture, pictures=min(self.pictures, room))

    @property
    def ring_dimension(self) -> int:
        return 1 << self.log2_ring

    @property
    def full_slots(self) -> int:
        return self.ring_dimension // 2

    def pictures_in(self, stage: int) -> int:
        """Pictures of a group that share a ciphertext in a stage, counted from 1: as many as the ring holds."""
        return min(self.pictures, self.full_slots // self.architecture.stage_slots(stage))

    def ciphertexts(self, stage: int) -> int:
        """Ciphertexts that hold a layer of a group in a stage."""
        return self.pictures // self.pictures_in(stage)

    def stage_slots(self, stage: int) -> int:
        """Slots of each of them."""
        return self.pictures_in(stage) * self.architecture.stage_slots(stage)

    def copies(self, slots: int) -> int:
        """Copies of a layer of so many slots that its convolutions work on."""
        return min(self.most_copies, self.full_slots // slots)

    def convolution_levels(self, slots: int) -> int:
        """Levels a convolution of so many slots consumes: one more to prepare several copies."""
        return 2 if self.copies(slots) > 1 else 1

    @property
    def deepest_convolution(self) -> int:
        """Levels of the deepest convolution of any stage."""
        stages = range(1, len(self.architecture.channels) + 1)
        return max(self.convolution_levels(self.stage_slots(stage)) for stage in stages)

    @property
    def budget(self) -> tuple[int, int]:
        """Levels of coefficients-to-slots and of slots-to-coefficients; a native refresh's follow from its plan."""
        return self.refresh.plan.level_budget if isinstance(self.refresh, NativeRefresh) else self.level_budget

    @property
    def refresh_levels(self) -> int:
        """Levels one refresh consumes."""
        return self.refresh.levels(self.budget)

    @property
    def reserve_levels(self) -> int:
        """Multiplications that must remain possible when a ciphertext is refreshed."""
        return self.refresh.reserve(self.budget)

    @property
    def usable_levels(self) -> int:
        """Levels left to the network after a refresh with ReLU: the ReLU's own and a convolution's; or, where it is
        without, a gather's."""
        after_identity = GATHER_LEVELS - self.refresh.identity_gain()
        return max(self.refresh.relu_levels + self.deepest_convolution, after_identity)

    @property
    def multiplicative_depth(self) -> int:
        """OpenFHE's MultiplicativeDepth L; the chain has L + 1 primes."""
        return self.refresh_levels + self.usable_levels + self.reserve_levels

    @property
    def correction_bits(self) -> int:
        """OpenFHE's correction factor of bootstrapping: log2 of first modulus over scale, its least legal value.  A
        functional refresh has none: its first modulus is one bit longer than the scale.

        Each bit above it halves the input before the modular reduction and doubles the noise after.
        """
        return self.first_modulus_bits - self.scaling_bits

    @property
    def digit_towers(self) -> int:
        return -(-(self.multiplicative_depth + 1) // self.large_digits)

    @property
    def special_towers(self) -> int:
        """Primes of P: enough to exceed the largest digit by four bits, as OpenFHE 1.6.1 has it."""
        digit_bits = self.first_modulus_bits + (self.digit_towers - 1) * self.scaling_bits
        return -(-(digit_bits + 4) // SPECIAL_PRIME_BITS)

    @property
    def log2_q(self) -> int:
        return self.first_modulus_bits + self.multiplicative_depth * self.scaling_bits

    @property
    def log2_qp(self) -> int:
        """Rounded up: some primes of Q are a little larger than their power of two, and none of P is.  Short ones are
        few, so further from it."""
        return self.log2_q + (2 if self.scaling_bits < 32 else 1) + SPECIAL_PRIME_BITS * self.special_towers

    @property
    def switching_key_bytes(self) -> int:
        """Size of one rotation key: two polynomials a digit over all primes of QP."""
        towers = self.multiplicative_depth + 1 + self.special_towers
        return 2 * self.large_digits * towers * self.ring_dimension * 8

    @property
    def key_choices(self) -> dict[str, Choice]:
        """What keys are made for: ring and chain of primes, and no network.  Which rotations there are and at how many
        towers, the manifest of a key folder says.  OpenFHE's bootstrapping does rotations by budgets and baby steps."""
        choices: dict[str, Choice] = {
            "security": self.security,
            "secret": self.key_distribution,
            "scaling": SCALING_TECHNIQUE,
            "key switching": KEY_SWITCHING,
            "log2 N": self.log2_ring,
            "bits of q_0": self.first_modulus_bits,
            "bits of the others": self.scaling_bits,
            "primes of Q": self.multiplicative_depth + 1,
            "bits of P's": SPECIAL_PRIME_BITS,
            "digits": self.large_digits,
        }
        if self.engine == OPENFHE:
            choices |= {"level budget": self.budget, "baby steps": self.dim1}
        return choices

    @property
    def keys_fingerprint(self) -> str:
        """Of the key choices: a key folder is refused under another."""
        return fingerprint(self.key_choices)

    @property
    def choices(self) -> dict[str, Choice]:
        """All that decides what is computed, the network included, for :func:`.resnet20.computation`."""
        return {
            "engine": self.engine,
            "keys": self.key_choices,
            "level budget": self.budget,
            "refresh": self.refresh.choices,
            "most copies": self.most_copies,
            "pictures": self.pictures,
            "network": self.architecture.choices,
        }

    @property
    def engine(self) -> str:
        """What evaluates the set: NATIVE or OPENFHE."""
        return NATIVE if isinstance(self.refresh, NativeRefresh) else OPENFHE

    @property
    def networks(self) -> str:
        """Which networks keys of this set can be made for."""
        return f"those whose layers have at most {self.full_slots} values"

    @property
    def key_distribution(self) -> str:
        """OpenFHE's name of how secrets are drawn: ternary, of weight 192; to raise a modulus, OpenFHE's evaluator
        switches to one of weight 32."""
        return "SPARSE_TERNARY" if self.engine == NATIVE else "SPARSE_ENCAPSULATED"

    def summary(self, key_size: str) -> str:
        """The set on a few lines, for the terminal.  key_size: of a rotation key, see :mod:`..native.keys.keyplan`."""
        budget = ", ".join(map(str, self.budget))
        primes = f"{self.first_modulus_bits} + {self.multiplicative_depth} x {self.scaling_bits} bits"
        refresh = f"refresh {self.refresh_levels} (budgets {{{budget}}}, {self.refresh.modular_levels} modular)"
        levels = f"{refresh}, network {self.usable_levels}, reserve {self.reserve_levels}"
        return "\n".join(
            (
                f"parameter set {self.number}: N = 2^{self.log2_ring}, log2 QP = {self.log2_qp} ({self.security})",
                f"  networks     {self.networks}",
                f"  primes       {primes}, {self.special_towers} special primes, {self.large_digits} digits",
                f"  levels       {self.multiplicative_depth}: {levels}",
                f"  ReLU         {self.refresh}",
                f"  engine       {self.engine}",
                *([f"  pictures     {self.pictures} together"] if self.pictures > 1 else []),
                f"  rotation key {key_size}",
            )
        )


_GIB = 1 << 30

#: The shipped sets by number and engine; refresh_deviation and server_bytes are as measured (scripts/README.md), or a
#: little more.
PARAMETER_SETS: dict[tuple[int, str], ParameterSet] = {
    (s.number, s.engine): s
    for s in (
        ParameterSet(
            number=1,
            refresh=ChebyshevRefresh(59),
            scaling_bits=48,
            first_modulus_bits=52,
            large_digits=4,
            level_budget=(3, 3),
            dim1=(8, 4),
            refresh_deviation=2.6e-5,
            server_bytes=round(11.0 * _GIB),
        ),
        ParameterSet(
            number=2,
            refresh=ChebyshevRefresh(200),
            scaling_bits=46,
            first_modulus_bits=50,
            large_digits=6,
            level_budget=(4, 4),
            dim1=(4, 4),
            refresh_deviation=8.3e-5,
            server_bytes=round(9.3 * _GIB),
        ),
        ParameterSet(
            number=3,
            refresh=ChebyshevRefresh(119),
            scaling_bits=46,
            first_modulus_bits=50,
            large_digits=6,
            level_budget=(5, 4),
            dim1=(4, 4),
            refresh_deviation=8.3e-5,
            server_bytes=round(10.0 * _GIB),
        ),
        ParameterSet(
            number=4,
            refresh=ChebyshevRefresh(59),
            scaling_bits=44,
            first_modulus_bits=48,
            large_digits=4,
            level_budget=(4, 4),
            dim1=(4, 4),
            refresh_deviation=9.4e-5,
            server_bytes=round(7.2 * _GIB),
        ),
        ParameterSet(
            number=5,
            refresh=FunctionalRefresh(27),
            scaling_bits=36,
            first_modulus_bits=37,
            large_digits=2,
            level_budget=(4, 4),
            dim1=(2, 2),
            most_copies=8,
            refresh_deviation=1.3e-4,
            server_bytes=round(4.9 * _GIB),
        ),
        ParameterSet(
            number=6,
            refresh=FunctionalRefresh(13),
            scaling_bits=36,
            first_modulus_bits=37,
            large_digits=2,
            level_budget=(5, 3),
            dim1=(4, 8),
            most_copies=8,
            refresh_deviation=1.3e-4,
            server_bytes=round(5.7 * _GIB),
        ),
        ParameterSet(
            number=5,
            refresh=NativeRefresh(31, "fewest keys"),
            scaling_bits=28,
            first_modulus_bits=29,
            large_digits=6,
            most_copies=8,
            refresh_deviation=5.3e-4,
            server_bytes=round(0.7 * _GIB),
            log2_ring=15,
        ),
        ParameterSet(
            number=6,
            refresh=NativeRefresh(31, "least time"),
            scaling_bits=28,
            first_modulus_bits=29,
            large_digits=6,
            most_copies=8,
            refresh_deviation=4.9e-4,
            server_bytes=round(1.85 * _GIB),
            log2_ring=15,
        ),
        ParameterSet(
            number=7,
            refresh=NativeRefresh(31, "least time, all slots"),
            scaling_bits=29,
            first_modulus_bits=30,
            large_digits=2,
            pictures=8,
            refresh_deviation=4.1e-4,
            server_bytes=round(2.65 * _GIB),
        ),
        ParameterSet(
            number=7,
            refresh=FunctionalRefresh(13),
            scaling_bits=36,
            first_modulus_bits=37,
            large_digits=2,
            level_budget=(5, 3),
            dim1=(4, 8),
            pictures=8,
            refresh_deviation=1.8e-4,
            server_bytes=round(5.8 * _GIB),
        ),
    )
}

#: Memory of the server in the longer ring, by the number of the set: as that of the others.
_WIDE_SERVER_BYTES = {5: round(0.95 * _GIB), 6: round(2.65 * _GIB)}
#: By the native set, what it is for networks whose layers do not fit into its ring: as it is, in one twice as long,
#: where security leaves room for fewer digits and primes a bit longer: those of set 7, whose noise they have.
WIDE_SETS: dict[ParameterSet, ParameterSet] = {
    set_: replace(
        set_,
        refresh=replace(set_.refresh, transforms=f"{set_.refresh.transforms}, all slots"),
        scaling_bits=29,
        first_modulus_bits=30,
        large_digits=2,
        log2_ring=16,
        refresh_deviation=PARAMETER_SETS[7, NATIVE].refresh_deviation,
        server_bytes=_WIDE_SERVER_BYTES[set_.number],
    )
    for set_ in PARAMETER_SETS.values()
    if isinstance(set_.refresh, NativeRefresh) and set_.log2_ring == 15
}


def rings(number: int, engine: str) -> list[ParameterSet]:
    """Return the sets of that number and engine, the shortest ring's first."""
    set_ = PARAMETER_SETS[number, engine]
    return [set_, WIDE_SETS[set_]] if set_ in WIDE_SETS else [set_]


def parameter_set(number: int, engine: str = "", architecture: Architecture | None = None) -> ParameterSet:
    """The shipped set of that number, for ``engine`` or by default the native one where there is one; for networks of
    ``architecture``, which decides the ring, or by default for the shipped one.

    Errors: UsageError; PlanError where no ring holds the network's layers.
    """
    found = {s.engine: s for s in PARAMETER_SETS.values() if s.number == number}
    if not found:
        known = ", ".join(map(str, sorted({number for number, _ in PARAMETER_SETS})))
        raise UsageError(f"there is no parameter set {number}", f"the sets are {known}")
    if engine not in ("", *found):
        raise UsageError(f"parameter set {number} is not for engine {engine}", f"leave out engine {engine}")
    set_ = found[engine] if engine else found.get(NATIVE, found.get(OPENFHE, next(iter(found.values()))))
    if architecture is None:
        return set_
    wide = architecture.largest_layer > set_.full_slots
    return (WIDE_SETS.get(set_, set_) if wide else set_).serving(architecture)
