"""Chains of moduli for arithmetic in the clear: no primes, but as near to the scale and as uneven."""

from __future__ import annotations

import numpy as np

from lowmem_resnet20.native.refresh.clear import ClearArithmetic
from lowmem_resnet20.native.refresh.noise import Noise
from lowmem_resnet20.native.ring.chain import Chain, Prime


def moduli(towers: int, bits: int = 36) -> list[int]:
    """q_0 of bits + 1, then primes' stand-ins that keep the scale s^2 / q near 2^bits, off by 2^-16 up or down."""
    chain, scale = [(1 << bits) + 12345], float((1 << bits) + 12345)
    while len(chain) < towers - 1:
        scale = scale**2 / chain[-1]
        chain.append(round(scale) + (-1) ** len(chain) * (1 << bits - 16))
    return [(1 << bits + 1) - 54321, *reversed(chain)]


def clear_arithmetic(ring_dimension: int, towers: int, noise: Noise | None = None, bits: int = 36) -> ClearArithmetic:
    primes = tuple(Prime(modulus, 0) for modulus in moduli(towers, bits))
    return ClearArithmetic(Chain(ring_dimension, 2, primes), noise or Noise())


def worst(difference: np.ndarray) -> float:
    return float(np.abs(difference).max())
