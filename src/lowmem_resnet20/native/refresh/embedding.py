"""The canonical embedding: between a real polynomial's coefficients and its N/2 complex slots.

Slot J holds the value at xi^(5^J), xi = exp(i pi / N).  A vector that repeats with period n is a polynomial in
X^(N/(2n)), so n slots and 2n coefficients are a ring of their own, with N = 2n.
"""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def slot_exponents(slots: int) -> np.ndarray:
    """(slots,) 5^J modulo 4 * slots: the power of exp(2 pi i / (4 slots)) at which slot J is the value."""
    exponents = np.empty(slots, np.int64)
    power = 1
    for j in range(slots):
        exponents[j] = power
        power = power * 5 % (4 * slots)
    return exponents


def slots_of_coefficients(coefficients: np.ndarray) -> np.ndarray:
    """(2n,) real -> (n,) complex."""
    size = len(coefficients)
    twisted = coefficients * np.exp(1j * np.pi / size * np.arange(size))
    values = np.fft.ifft(twisted) * size  # at xi^(2k + 1)
    return values[slot_exponents(size // 2) // 2]


def coefficients_of_slots(slots: np.ndarray) -> np.ndarray:
    """(n,) complex -> (2n,) real."""
    size = 2 * len(slots)
    values = np.empty(size, complex)
    places = slot_exponents(len(slots)) // 2
    values[places] = slots
    values[size - 1 - places] = np.conj(slots)
    return (np.fft.fft(values) / size * np.exp(-1j * np.pi / size * np.arange(size))).real
