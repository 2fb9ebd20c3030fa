"""Parameter sets: the arithmetic, and that OpenFHE agrees with it."""

import math
from dataclasses import replace

import openfhe
import pytest

from lowmem_resnet20.errors import PlanError, UsageError
from lowmem_resnet20.native.keys.keyplan import key_plan, longest
from lowmem_resnet20.native.keys.openfhe_files import read_chain
from lowmem_resnet20.network.architecture import RESNET20, Architecture
from lowmem_resnet20.network.engines import NATIVE
from lowmem_resnet20.network.parameters import LOG2_QP_LIMIT, PARAMETER_SETS, SECURE, WIDE_SETS, parameter_set
from lowmem_resnet20.network.refresh import ChebyshevRefresh, series_levels
from lowmem_resnet20.network.refreshplan import PLANS
from lowmem_resnet20.network.relu import FIT_CHOICES, relu_fourier
from lowmem_resnet20.network.resnet20 import computation, plan
from lowmem_resnet20.openfhe.context import (
    clear_relinearisation_keys,
    context_bytes,
    new_context,
    write_relinearisation_key,
)
from miniature import ARCHITECTURE, INSECURE_FUNCTIONAL_SET, INSECURE_SET

SETS = pytest.mark.parametrize(
    "set_", [*PARAMETER_SETS.values(), *WIDE_SETS.values()], ids=lambda s: f"set {s.number} {s.engine} 2^{s.log2_ring}"
)
WIDE = Architecture(channels=(32, 64, 128))
#: ResNet-8 to ResNet-110, and others of their kind.
NETWORKS = [
    *(Architecture(blocks_per_stage=blocks) for blocks in (1, 2, 3, 5, 7, 9, 18)),
    *(Architecture(input_channels=1, classes=classes) for classes in (2, 43, 64, 65, 100, 128)),
    Architecture(channels=(8, 16, 32), classes=100),
    Architecture(width=16),
    WIDE,
    replace(WIDE, classes=128, blocks_per_stage=1),
]


@SETS
def test_shipped_sets_are_secure_and_openfhe_agrees(set_, tmp_path):
    """OpenFHE itself raises where a set exceeds its 128-bit table: new_context asks for that check.  The size of a
    switching key shows that it counts the same primes and digits."""
    assert set_.security == SECURE == "HEStd_128_classic"
    assert set_.log2_qp <= LOG2_QP_LIMIT[set_.log2_ring]
    context = new_context(set_)
    assert context.GetRingDimension() == set_.ring_dimension
    secret = context.KeyGen().secretKey
    context.EvalMultKeyGen(secret)
    write_relinearisation_key(tmp_path / "r.key", context, secret.GetKeyTag())
    clear_relinearisation_keys()
    assert (tmp_path / "r.key").stat().st_size == pytest.approx(set_.switching_key_bytes, rel=1e-3)


@SETS
def test_shipped_sets_allow_for_sparse_secrets(set_):
    """At log2 QP 1613 the cheapest attack known takes 2^129.8 operations, and set 1 with dnum 3 fell short; at N = 2^15
    it takes 2^129.9 at 795: SECURITY.md."""
    assert set_.log2_qp <= {15: 800, 16: 1600}[set_.log2_ring]


def test_a_digit_less_is_too_much():
    """Sets 1 to 4 have the fewest digits that stay below."""
    for number in (1, 2, 3, 4):
        set_ = parameter_set(number)
        assert replace(set_, large_digits=set_.large_digits - 1).log2_qp > 1600


@SETS
def test_openfhe_spends_the_planned_levels_on_bootstrapping(set_):
    distribution = openfhe.SecretKeyDist.SPARSE_ENCAPSULATED
    budget = list(set_.budget)
    if set_.engine == "native":
        assert set_.refresh_levels == PLANS[set_.refresh.transforms].levels(set_.refresh.degree)
        assert set_.reserve_levels == PLANS[set_.refresh.transforms].reserve
    elif set_.refresh.functional:  # slots-to-coefficients comes first, on levels kept in reserve
        series = relu_fourier(set_.refresh.degree)
        depth = openfhe.CryptoContext.GetFEFBTDepth(budget, series, distribution, set_.first_modulus_bits)
        assert depth == set_.refresh_levels + budget[1]
    else:
        assert openfhe.CryptoContext.GetBootstrapDepth(budget, distribution) == set_.refresh_levels


def test_degrees_are_the_originals():
    assert [parameter_set(n).refresh.degree for n in (1, 2, 3, 4)] == [59, 200, 119, 59]


def test_a_set_beyond_the_limit_is_refused():
    with pytest.raises(PlanError, match="exceeds 1747"):
        replace(parameter_set(1), large_digits=2)


def test_a_ring_too_small_for_a_layer_is_refused():
    with pytest.raises(PlanError, match="slots, a ring holds"):
        replace(parameter_set(1), log2_ring=14, security="HEStd_NotSet")


def test_more_digits_than_towers_are_refused():
    with pytest.raises(PlanError, match="too many"):
        replace(INSECURE_SET, large_digits=20)


def test_openfhes_refusal_is_an_error():
    """An insecure set that slips past Python's table (it knows no ring of 2^12) is refused by OpenFHE."""
    insecure = replace(INSECURE_SET)
    object.__setattr__(insecure, "security", SECURE)
    with pytest.raises(PlanError, match="OpenFHE refuses"):
        new_context(insecure)


@SETS
def test_log2_qp_is_no_less_than_the_primes(set_):
    """Of Q as the context has them, of P of 60 bits; and no more than two above."""
    q = read_chain(context_bytes(set_)).q
    log2_q = sum(math.log2(prime.value) for prime in q)
    assert set_.log2_qp - 4 < log2_q + 60 * set_.special_towers <= set_.log2_qp
    if set_.engine == "native":
        assert max(prime.value for prime in q) < 1 << 30  # as 32-bit lanes want it


@pytest.mark.parametrize(("bits", "alpha", "special"), [(28, 4, 2), (29, 4, 3), (38, 3, 2), (39, 3, 3), (36, 5, 4)])
def test_special_primes_are_as_many_as_openfhe_takes(bits, alpha, special, tmp_path):
    """Where a digit comes near a multiple of 60 bits, OpenFHE takes one more."""
    towers = INSECURE_FUNCTIONAL_SET.multiplicative_depth + 1
    set_ = replace(
        INSECURE_FUNCTIONAL_SET, scaling_bits=bits, first_modulus_bits=bits + 1, large_digits=-(-towers // alpha)
    )
    assert (set_.digit_towers, set_.special_towers) == (alpha, special)
    context = new_context(set_)
    secret = context.KeyGen().secretKey
    context.EvalMultKeyGen(secret)
    write_relinearisation_key(tmp_path / "r.key", context, secret.GetKeyTag())
    clear_relinearisation_keys()
    assert (tmp_path / "r.key").stat().st_size == pytest.approx(set_.switching_key_bytes, rel=1e-2)


@pytest.mark.parametrize("number", [5, 6])
def test_the_ring_follows_from_set_and_network(number):
    """Wide networks, whose first stage has 32768 values, take the longer ring; of OpenFHE's there is one."""
    assert parameter_set(number).log2_ring == 15
    assert parameter_set(number, architecture=Architecture(channels=(8, 16, 32))).log2_ring == 15
    wide = parameter_set(number, architecture=WIDE)
    assert (wide.log2_ring, wide.architecture, wide.number, wide.engine) == (16, WIDE, number, "native")
    assert key_plan(wide)  # its transforms reach
    assert parameter_set(number, "openfhe", WIDE).log2_ring == 16
    with pytest.raises(
        PlanError,
        match=r"this is a ResNet-20 with 32x32 pictures and channels 64/128/256: 65,536 slots, a ring holds 32,768",
    ):
        parameter_set(number, architecture=Architecture(channels=(64, 128, 256)))
    assert "16384" in parameter_set(number).networks and "32768" in wide.networks


def test_a_group_is_as_large_as_the_last_stage_of_the_network_allows():
    assert parameter_set(7, architecture=WIDE).pictures == 4
    for architecture in (RESNET20, Architecture(channels=(8, 16, 32)), Architecture(blocks_per_stage=1, classes=100)):
        assert parameter_set(7, architecture=architecture).pictures == 8
    plan(parameter_set(7, architecture=WIDE))


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("architecture", NETWORKS, ids=str)
def test_every_set_has_a_plan_for_every_network(number, architecture):
    assert plan(parameter_set(number, architecture=architecture)).output_levels == 0


@pytest.mark.parametrize("number", [5, 6, 7])
def test_networks_of_any_depth_colours_and_classes_need_the_same_keys(number):
    """Those of equal channels, so that one folder serves them; those of more classes than a channel has slots too."""
    least, most = Architecture(blocks_per_stage=1, input_channels=1, classes=2), Architecture(blocks_per_stage=18)
    needed = [
        longest(key_plan(parameter_set(number, architecture=architecture)))
        for architecture in (RESNET20, least, most, Architecture(classes=43), Architecture(classes=128))
    ]
    assert all(keys == needed[0] for keys in needed)


def test_unknown_set():
    with pytest.raises(UsageError, match="no parameter set 8"):
        parameter_set(8)


@pytest.mark.parametrize("degree, levels", [(5, 3), (6, 4), (59, 6), (60, 7), (119, 7), (200, 8)])
def test_series_levels(degree, levels):
    assert series_levels(degree) == levels


def test_series_deeper_than_any_set():
    with pytest.raises(PlanError):
        series_levels(248)


def test_fingerprints_differ():
    """Of what is computed; keys that are made for the same ring and primes have one, as OpenFHE's sets 6 and 7."""
    assert len({computation(s) for s in PARAMETER_SETS.values()}) == len(PARAMETER_SETS)
    assert len({s.keys_fingerprint for s in PARAMETER_SETS.values()}) == len(PARAMETER_SETS) - 1


#: Of keys and of what is computed, as users' folders and files have them.
FINGERPRINTS = {
    (1, "openfhe"): ("32ec8b235067c6a0", "d95f28d519175ad0"),
    (2, "openfhe"): ("09033b61554d3985", "a9874d02505a977a"),
    (3, "openfhe"): ("1ff2fc9d90229309", "bb506939d50539b4"),
    (4, "openfhe"): ("008aac6b2a12adde", "d45c5278ad4348cf"),
    (5, "openfhe"): ("6c73fb8142513509", "5e487ebb877180bc"),
    (6, "openfhe"): ("26f9c7ef07789f3c", "46ed611d371b22a2"),
    (7, "openfhe"): ("26f9c7ef07789f3c", "b5933f1198358b5e"),
    (5, "native"): ("23573bf26750a767", "c700ebfc04daa808"),
    (6, "native"): ("919fe5cf639387e8", "b622b175aee134a5"),
    (7, "native"): ("6e8239502ed37c9d", "2a6492eeb09e48dd"),
}


def test_fingerprints_change_with_choices_alone():
    """Not with a field's name, a figure that was measured, a processor or a library: where they change, users make new
    keys, or encrypt anew."""
    assert {key: (s.keys_fingerprint, computation(s)) for key, s in PARAMETER_SETS.items()} == FINGERPRINTS
    measured = replace(INSECURE_SET, server_bytes=1, refresh_deviation=1.0)
    assert computation(measured) == computation(INSECURE_SET)
    assert measured.keys_fingerprint == INSECURE_SET.keys_fingerprint


KEY_CHANGES = [{"log2_ring": 13}, {"scaling_bits": 47}, {"first_modulus_bits": 53}, {"large_digits": 4}]
KEY_CHANGES += [{"security": SECURE, "log2_ring": 16}, {"level_budget": (4, 3)}, {"dim1": (4, 4)}]
NETWORK_CHANGES = [{"architecture": replace(ARCHITECTURE, blocks_per_stage=2)}, {"most_copies": 2}, {"pictures": 2}]
NETWORK_CHANGES += [{"architecture": replace(ARCHITECTURE, classes=9)}, {"refresh": ChebyshevRefresh(58)}]


@pytest.mark.parametrize("change", [*KEY_CHANGES, *NETWORK_CHANGES], ids=str)
def test_every_choice_is_in_a_fingerprint(change):
    """Of what is computed all; of keys those of ring and primes, and no network's."""
    changed = replace(INSECURE_SET, **change)
    assert computation(changed) != computation(INSECURE_SET)
    longer_chain = changed.multiplicative_depth != INSECURE_SET.multiplicative_depth
    assert (changed.keys_fingerprint != INSECURE_SET.keys_fingerprint) == (change in KEY_CHANGES or longer_chain)
    assert not longer_chain or change in ({"level_budget": (4, 3)}, {"most_copies": 2})


@pytest.mark.parametrize("name", ["reach", "identity_reach", "margin"])
def test_a_refreshs_range_is_in_the_fingerprint(name, monkeypatch):
    before = computation(INSECURE_SET)
    monkeypatch.setattr(ChebyshevRefresh, name, 1.5)
    assert computation(INSECURE_SET) != before


def test_how_series_are_fitted_is_in_the_fingerprint(monkeypatch):
    before = {computation(s) for s in PARAMETER_SETS.values()}
    monkeypatch.setitem(FIT_CHOICES, "version", FIT_CHOICES["version"] + 1)
    assert before.isdisjoint({computation(s) for s in PARAMETER_SETS.values()})


@pytest.mark.parametrize("bits", [(31, 29), (30, 30), (37, 36)])
def test_primes_longer_than_the_native_evaluator_takes_are_refused(bits):
    native = parameter_set(6, NATIVE)
    with pytest.raises(PlanError, match=r"takes primes of \(30, 29\) bits at most"):
        replace(native, first_modulus_bits=bits[0], scaling_bits=bits[1])
