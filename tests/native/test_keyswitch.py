"""Steps of key switching, in rings without OpenFHE."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from rings import ring

from lowmem_resnet20.native.kernels.memory import aligned
from lowmem_resnet20.native.ring.keyswitch import Extended, KeyInMemory, KeySwitcher


def extended(ring_, towers, values):
    """Of two polynomials modulo QP, residues as ``values`` gives them for a prime."""
    small = aligned(2, towers, ring_.dimension, dtype=np.uint32)
    large = aligned(2, len(ring_.special(towers)), ring_.dimension, dtype=np.uint64)
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
    acc, p = x.small[:, last:], prod(ring_.special(towers))
    one, plus, minus = (modulo.whole(factor, 1) for factor in (1, p, -p))
    modulo.sum_of_products(acc, [[(one, acc), (plus, found), (minus, lowered)]])

    both = switcher.mod_down(x)
    modulo.to_coefficients(found, both[:, last:])
    assert (found == r).all()
    before = x.small.copy(), x.large.copy()
    result = switcher.mod_down_and_rescale(x)
    assert result.shape == (2, last, n) and (result == switcher.rescale(both, towers)).all()
    assert (x.small == before[0]).all() and (x.large == before[1]).all()


@pytest.mark.parametrize("towers", [1, 3, 4])
def test_a_divided_key_is_the_quotient_rounded(towers):
    """Coefficients of both keys, put together modulo all their primes: the key less the quotient times the primes that
    it was divided by is no more than half their product, and what each rounding after the first adds."""
    ring_ = ring(1024, 6, 4, 6)
    switcher, n, left = KeySwitcher(ring_), ring_.dimension, ring_.special(towers)
    random = np.random.default_rng(towers)
    small, large = (aligned(2, 1, len(primes), n, dtype=dtype) for primes, dtype in
                    ((ring_.q, np.uint32), (ring_.p, np.uint64)))  # fmt: skip
    for array, primes in ((small, ring_.q), (large, ring_.p)):
        for t, prime in enumerate(primes):
            array[:, :, t] = random.integers(0, prime, (2, 1, n))
    found = switcher.divided(KeyInMemory(5, small, large), towers)
    assert found.automorphism == 5 and found.small.shape[2] == towers and found.special.shape[2] == len(left) < 4

    divisor, modulus = prod(ring_.p[len(left) :]), prod((*ring_.q[:towers], *ring_.p))
    for half in range(2):
        key = composed(ring_, small[half, 0, :towers], large[half, 0])
        quotient = composed(ring_, found.small[half, 0], found.special[half, 0])
        rest = (key - quotient * divisor + modulus // 2) % modulus - modulus // 2
        assert abs(rest).max() <= divisor // 2 + divisor // min(ring_.p) < 0.51 * divisor < 2 * abs(rest).max()


def composed(ring_, small, large):
    """(N,) Python integers: the coefficients of evaluation form, modulo the product of the primes."""
    primes = (*ring_.q[: len(small)], *ring_.p[: len(large)])
    low, halves = (aligned(1, rows, ring_.dimension, dtype=np.uint32) for rows in (len(small), 2 * len(large)))
    ring_.mod_q.to_coefficients(low, small[None])
    ring_.mod_p.to_coefficients(halves, large[None])
    wide = halves[0].astype(object)
    residues, product, total = [*low[0].astype(object), *(wide[::2] + (wide[1::2] << 30))], prod(primes), 0
    for residue, prime in zip(residues, primes, strict=True):
        cofactor = product // prime
        total = total + residue * pow(cofactor, -1, prime) % prime * cofactor
    return total % product
