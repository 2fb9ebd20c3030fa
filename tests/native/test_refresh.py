"""The native refresh on ciphertexts, with the keys that its plan names: against the function, and OpenFHE's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openfhe
import pytest
from smallring import insecure_context, serialised

from lowmem_resnet20.native.kernels.order import ORDER, memory_order
from lowmem_resnet20.native.keys.keys import Order, key_path, open_key
from lowmem_resnet20.native.keys.openfhe_files import read_ciphertext, write_ciphertext
from lowmem_resnet20.native.keys.refreshkeys import refresh_keys
from lowmem_resnet20.native.refresh.refresh import Refresh, prepare
from lowmem_resnet20.native.ring.chain import Chain
from lowmem_resnet20.native.ring.ciphertext import Ciphertext, NativeArithmetic
from lowmem_resnet20.native.ring.keynames import automorphism
from lowmem_resnet20.network.refreshplan import Grouping, RefreshPlan, Steps
from lowmem_resnet20.network.relu import FOURIER_REACH, IDENTITY_REACH, evaluate_fourier, identity_fourier, relu_fourier
from lowmem_resnet20.openfhe.context import clear_relinearisation_keys, clear_rotation_keys
from lowmem_resnet20.openfhe.library import BINARY
from lowmem_resnet20.openfhe.native_keys import make_native_keys

LOG2_RING = 11
RING, DEGREE = 1 << LOG2_RING, 15
GROUPING = Grouping((2, 2, 5), (4, 4, 8))  # three matrices for every number of slots below
PLANS = {steps.value: RefreshPlan(GROUPING, GROUPING, steps) for steps in Steps}
SLOTS = [RING // 2, RING // 4, RING // 16]
#: The most that a slot may be off, and all but FAR of them.  Where raising the modulus brings a coefficient beyond 15,
#: 3.7 deviations, as it does one in 5,000, :mod:`.exponential` is off by up to 0.018, and a series of degree 15 by 1.4
#: times that; seen is 0.006.  More than FAR such slots of 1024 are there once in ten million times.
WORST, OTHERS, FAR = 3e-2, 2e-3, 5


@dataclass(frozen=True)
class Party:
    """OpenFHE with the secret, and the native arithmetic with keys cut to the refresh's use of them."""

    context: Any
    pair: Any
    chain: Chain
    arithmetic: NativeArithmetic
    plan: RefreshPlan
    depth: int

    def encrypt(self, values: np.ndarray) -> Any:
        """With the levels that a refresh asks for."""
        level = self.depth - self.plan.reserve
        plaintext = self.context.MakeCKKSPackedPlaintext(values, 1, level, None, len(values))
        return self.context.Encrypt(self.pair.publicKey, plaintext)

    def imported(self, values: np.ndarray) -> Ciphertext:
        """Encrypted by OpenFHE, for the native arithmetic."""
        file = read_ciphertext(serialised(self.encrypt(values)), self.chain)
        residues = self.arithmetic.ring.from_openfhe(file.residues)
        return Ciphertext(residues, residues.shape[1], file.scale, file.slots)

    def refreshed(self, values: np.ndarray, coefficients: tuple[complex, ...]) -> tuple[Ciphertext, np.ndarray]:
        """The native refresh's result, and what OpenFHE decrypts it to."""
        ev, x = self.arithmetic, self.imported(values)
        y = Refresh(ev, self.plan, prepare(self.plan, RING, len(values)))(x, coefficients)
        data = write_ciphertext(
            read_ciphertext(serialised(self.encrypt(values)), self.chain).form,
            ev.ring.to_openfhe(np.ascontiguousarray(y.residues[:, : y.towers])),
            slots=y.slots,
            level=self.depth + 1 - y.towers,
            noise_degree=1,
            scale=y.scale,
        )
        return y, self.decrypt(openfhe.DeserializeCiphertextString(data, BINARY), len(values))

    def decrypt(self, ciphertext: Any, slots: int) -> np.ndarray:
        plaintext = self.context.Decrypt(ciphertext, self.pair.secretKey)
        plaintext.SetLength(slots)
        return np.array(plaintext.GetRealPackedValue()[:slots])


@pytest.fixture(scope="module", params=PLANS)
def party(request, tmp_path_factory) -> Party:
    plan = PLANS[request.param]
    depth = plan.reserve + 2 + plan.levels(DEGREE)
    folder = tmp_path_factory.mktemp("keys")
    context = insecure_context(LOG2_RING, depth)
    pair = context.KeyGen()
    clear_rotation_keys()
    clear_relinearisation_keys()
    needed: dict[str, int] = {}
    for slots in SLOTS:
        for name, towers in refresh_keys(plan, RING, slots, depth + 1, DEGREE).items():
            needed[name] = max(towers, needed.get(name, 0))

    order = Order(ORDER, memory_order(RING))
    chain = make_native_keys(context, pair.secretKey, needed, folder, order, lambda name: None)
    keys = {
        automorphism(name, RING): open_key(key_path(folder, name), name, chain, towers, ORDER)
        for name, towers in needed.items()
    }
    return Party(context, pair, chain, NativeArithmetic(chain, keys, 1), plan, depth)


def sample(slots: int, reach: float) -> np.ndarray:
    values = np.random.default_rng(slots).uniform(-reach, reach, slots)
    values[:3] = 0, reach, -reach
    return values


def within_noise(found: np.ndarray, expected: np.ndarray) -> bool:
    errors = np.sort(np.abs(found - expected))
    return bool(errors[-1] < WORST and errors[-1 - FAR] < OTHERS)


@pytest.mark.parametrize("slots", SLOTS)
def test_function_of_every_slot(party, slots):
    values = sample(slots, FOURIER_REACH)
    result, decrypted = party.refreshed(values, relu_fourier(DEGREE))
    assert within_noise(decrypted, evaluate_fourier(relu_fourier(DEGREE), values))
    assert result.towers == party.depth + 1 - party.plan.levels(DEGREE)
    assert result.scale == pytest.approx(party.arithmetic.scale_at(result.towers), rel=1e-12)


def test_identity_leaves_a_level_more(party):
    values = sample(SLOTS[1], IDENTITY_REACH)
    result, decrypted = party.refreshed(values, identity_fourier(5))
    assert within_noise(decrypted, evaluate_fourier(identity_fourier(5), values))
    assert result.towers == party.depth + 1 - party.plan.levels(DEGREE) + 1


def test_kept_plaintexts_change_nothing(party):
    """The same residues with plaintexts made afresh, given again, and forgotten; only hoisted transforms keep any."""
    ev, transforms = party.arithmetic, prepare(party.plan, RING, SLOTS[1])
    x, results = party.imported(sample(SLOTS[1], FOURIER_REACH)), []
    for forgets in (True, False, True):
        if forgets:
            ev.forget_plaintexts()
            assert ev.plaintext_bytes == 0
        results.append(Refresh(ev, party.plan, transforms).slots_to_coefficients(x).residues)
    assert all((result == results[0]).all() for result in results[1:])
    vectors = sum(len(transform.vectors) for transform in transforms.to_coefficients)
    assert (ev.plaintext_bytes >= 8 * vectors * SLOTS[1]) is (party.plan.steps is Steps.HOISTED)


def test_no_worse_than_openfhe(party):
    """The same function of the same values by EvalFEFuncBootstrap: alike within its noise, which is the larger."""
    slots = SLOTS[1]
    values, coefficients = sample(slots, FOURIER_REACH), relu_fourier(13)
    context = party.context
    context.EvalFEFuncBootstrapSetup([2, 2], [0, 0], slots)
    context.EvalBootstrapKeyGen(party.pair.secretKey, slots)
    context.EvalMultKeyGen(party.pair.secretKey)
    theirs = party.decrypt(context.EvalFEFuncBootstrap(party.encrypt(values), list(coefficients)), slots)
    _, ours = party.refreshed(values, coefficients)
    expected = evaluate_fourier(coefficients, values)
    assert np.abs(ours - theirs).max() < WORST
    assert np.std(ours - expected) < np.std(theirs - expected)
