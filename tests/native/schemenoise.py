"""The noise of ciphertext operations as the scheme makes it."""

from __future__ import annotations

import numpy as np

from lowmem_resnet20.native.refresh.embedding import slots_of_coefficients
from lowmem_resnet20.native.refresh.noise import Noise

#: Hamming weight of OpenFHE's secrets.
WEIGHT = 192


class Overflows(Noise):
    """Exact operations, but the modulus is raised as under a secret: see :meth:`overflows`."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def overflows(self, residues: np.ndarray) -> np.ndarray:
        """c_0 + c_1 s = residue + overflow with c_0, c_1 in [-1/2, 1/2), c_1 uniform, s of WEIGHT ones."""
        mask = sum(self.random.uniform(-0.5, 0.5, len(residues)) for _ in range(WEIGHT))
        return -np.round(residues - mask)


class SchemeNoise(Overflows):
    """What rounding leaves, under a secret of OpenFHE's weight.

    A rescale rounds both polynomials to the nearest: variance 1/12 a coefficient, times 1 + s for the second.
    Lowering from QP, uncentred, leaves a sum of ``special_towers`` uniforms in (-1, 0]: their mean is the polynomial of
    equal coefficients, which is large at slots whose root is near 1.  The keys' own errors are divided by P and far
    below both.
    """

    def __init__(self, ring_dimension: int, special_towers: int, random: np.random.Generator) -> None:
        super().__init__(random)
        self.size, self.special_towers = ring_dimension, special_towers
        drawn = np.zeros(ring_dimension)
        places = random.choice(ring_dimension, min(WEIGHT, ring_dimension // 2), replace=False)
        drawn[places] = random.choice((-1, 1), len(places))
        ones = slots_of_coefficients(np.ones(ring_dimension))
        self._mean = -special_towers / 2 * ones * (1 + slots_of_coefficients(drawn))

    def rescaling(self) -> np.ndarray:
        return self._gaussian((1 + WEIGHT) / 12)

    def switching(self) -> np.ndarray:
        return self._gaussian(self.special_towers * (1 + WEIGHT) / 12) + self._mean

    def encoding(self, period: int) -> np.ndarray:
        return slots_of_coefficients(self.random.uniform(-0.5, 0.5, 2 * period))

    def _gaussian(self, variance: float) -> np.ndarray:
        return slots_of_coefficients(self.random.normal(0, np.sqrt(variance), self.size))
