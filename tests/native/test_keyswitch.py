"""Steps of key switching, in rings without OpenFHE."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from rings import ring

from lowmem_resnet20.native.kernels.memory import aligned
from lowmem_resnet20.native.ring.keyswitch import Extended, KeySwitcher


def extended(ring_, towers, values):
    """Of two polynomials modulo QP, residues as ``values`` gives them for a prime."""
    small, large = (aligned(2, len(primes), ring_.dimension, dtype=dtype)
                    for primes, dtype in ((ring_.q[:towers], np.uint32), (ring_.p, np.uint64)))  # fmt: skip
    for array, primes in ((small, ring_.q), (large, ring_.p)):
        for t in range(array.shape[1]):
            array[:, t] = values(primes[t])
    return Extended(small, large)


@pytest.mark.parametrize("kind", ["random", "zero", "largest"])
@pytest.mark.parametrize("towers", range(2, 7))
@pytest.mark.parametrize("special", [1, 2, 5])
def test_lowering_and_rescaling_in_one_is_both_steps(special, towers, kind):
    """Bit for bit; the residue that rescaling centres is random and also at all ends."""
    ring_ = ring(1024, 6, special, special, bits=29)
    switcher, n, prime, last = KeySwitcher(ring_), ring_.dimension, ring_.q[towers - 1], towers - 1
    random = np.random.default_rng(towers)
    values = {
        "random": lambda p: random.integers(0, p, (2, n), np.uint64),
        "zero": lambda p: 0,
        "largest": lambda p: p - 1,
    }
    x = extended(ring_, towers, values[kind])

    r, found = (aligned(2, 1, n, dtype=np.uint32) for _ in range(2))
    r[...] = random.integers(0, prime, r.shape)
    r[:, 0, :5] = 0, prime // 2, prime // 2 + 1, prime - 1, 1
    r[1] = np.roll(r[1], 700)
    modulo = ring_.mod_q.modulo(last)
    modulo.to_evaluation(found, r)
    lowered = switcher.mod_down(x)[:, last:]
    acc, p = x.small[:, last:], prod(ring_.p)
    one, plus, minus = (modulo.whole(factor, 1) for factor in (1, p, -p))
    modulo.sum_of_products(acc, [[(one, acc), (plus, found), (minus, lowered)]])

    both = switcher.mod_down(x)
    modulo.to_coefficients(found, both[:, last:])
    assert (found == r).all()
    before = x.small.copy(), x.large.copy()
    result = switcher.mod_down_and_rescale(x)
    assert result.shape == (2, last, n) and (result == switcher.rescale(both, towers)).all()
    assert (x.small == before[0]).all() and (x.large == before[1]).all()
