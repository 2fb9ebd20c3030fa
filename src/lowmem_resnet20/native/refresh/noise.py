"""The noise of ciphertext operations, for simulations in the clear: here there is none.

All in units of a plaintext's integers, in the N/2 slots.
"""

from __future__ import annotations

import numpy as np


class Noise:
    """None: every operation is exact, and raising the modulus adds no multiple of it."""

    def rescaling(self) -> np.ndarray | float:
        return 0.0

    def switching(self) -> np.ndarray | float:
        return 0.0

    def encoding(self, period: int) -> np.ndarray | float:
        return 0.0

    def overflows(self, residues: np.ndarray) -> np.ndarray | float:
        """(N,) the multiples of q_0 that raising the modulus of coefficients / q_0 = residues adds."""
        return 0.0
