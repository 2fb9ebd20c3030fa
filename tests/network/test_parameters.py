"""Parameter sets: the arithmetic, and that OpenFHE agrees with it."""

from dataclasses import replace

import openfhe
import pytest

from lowmem_resnet20.errors import PlanError, UsageError
from lowmem_resnet20.fhe.context import clear_relinearisation_keys, new_context, write_relinearisation_key
from lowmem_resnet20.native.refreshplan import PLANS
from lowmem_resnet20.network.engines import NATIVE
from lowmem_resnet20.network.parameters import LOG2_QP_LIMIT, PARAMETER_SETS, SECURE, parameter_set
from lowmem_resnet20.network.refresh import series_levels
from lowmem_resnet20.network.relu import relu_fourier
from miniature import INSECURE_SET

SETS = pytest.mark.parametrize("set_", PARAMETER_SETS.values(), ids=lambda s: f"set {s.number} {s.engine}")


@SETS
def test_shipped_sets_are_secure_and_openfhe_agrees(set_, tmp_path):
    """OpenFHE itself raises where a set exceeds its 128-bit table: new_context asks for that check.  The size of a
    switching key shows that it counts the same primes and digits."""
    assert set_.security == SECURE == "HEStd_128_classic"
    assert set_.log2_ring == 16 and set_.log2_qp <= LOG2_QP_LIMIT[16]
    context = new_context(set_)
    assert context.GetRingDimension() == 1 << 16
    secret = context.KeyGen().secretKey
    context.EvalMultKeyGen(secret)
    write_relinearisation_key(tmp_path / "r.key", context, secret.GetKeyTag())
    clear_relinearisation_keys()
    assert (tmp_path / "r.key").stat().st_size == pytest.approx(set_.switching_key_bytes, rel=1e-3)


@SETS
def test_shipped_sets_allow_for_sparse_secrets(set_):
    """At log2 QP 1613 the cheapest attack known takes 2^129.8 operations, and set 1 with dnum 3 fell short:
    SECURITY.md."""
    assert set_.log2_qp <= 1600


def test_a_digit_less_is_too_much():
    """Sets 1 to 4 have the fewest digits that stay below."""
    for number in (1, 2, 3, 4):
        set_ = parameter_set(number)
        assert replace(set_, large_digits=set_.large_digits - 1).log2_qp > 1600


@SETS
def test_openfhe_spends_the_planned_levels_on_bootstrapping(set_):
    distribution = openfhe.SecretKeyDist.SPARSE_ENCAPSULATED
    budget = list(set_.level_budget)
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
    with pytest.raises(PlanError, match="does not fit"):
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
    assert len({s.fingerprint for s in PARAMETER_SETS.values()}) == len(PARAMETER_SETS)


@pytest.mark.parametrize("bits", [(31, 29), (30, 30), (37, 36)])
def test_primes_longer_than_the_native_evaluator_takes_are_refused(bits):
    native = parameter_set(6, NATIVE)
    with pytest.raises(PlanError, match=r"takes primes of \(30, 29\) bits at most"):
        replace(native, first_modulus_bits=bits[0], scaling_bits=bits[1])
