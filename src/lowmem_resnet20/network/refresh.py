"""The ways to refresh a ciphertext and apply the ReLU to it.

All say what they cost in levels, in which range they take their input, and how to do it on an evaluator; the network
and the parameter sets know no more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..errors import PlanError
from . import refreshplan
from .evaluator import Evaluator
from .fingerprint import Choice
from .relu import (
    FIT_CHOICES,
    FOURIER_REACH,
    IDENTITY_REACH,
    evaluate_fourier,
    evaluate_series,
    identity_fourier,
    relu_fourier,
    relu_series,
)

X = TypeVar("X")
#: Levels a series of at most this degree consumes (Paterson-Stockmeyer, OpenFHE 1.6.1), Chebyshev or Fourier.
SERIES_LEVELS = ((5, 3), (13, 4), (27, 5), (59, 6), (119, 7), (247, 8))
#: Levels that removing the multiples of the first modulus takes, for sparse-encapsulated secrets: by approximate
#: modular reduction in bootstrapping, by the complex exponential in a functional refresh.
MODULAR_LEVELS = 10


def series_levels(degree: int) -> int:
    """Levels consumed by a series of ``degree`` on its own range, evaluated by OpenFHE."""
    for largest, levels in SERIES_LEVELS:
        if degree <= largest:
            return levels
    raise PlanError(f"a series of degree {degree} is deeper than any parameter set allows")


@dataclass(frozen=True)
class ChebyshevRefresh:
    """Bootstrapping, then the ReLU as a Chebyshev series of ``degree`` on [-1, 1].

    Levels: coefficients-to-slots, modular reduction and slots-to-coefficients are spent by bootstrapping, the
    series' by the network.  Source: Rovida and Leporati (2024), section 5.
    """

    degree: int

    #: Inputs lie in [-reach, reach], of a refresh without ReLU in [-identity_reach, identity_reach]; ``checkpoint``
    #: names the one that shows the refresh's result.
    reach = identity_reach = 1.0
    #: How far beyond its calibrated bound a pre-activation may reach; out of range the series grows without bound.
    margin = 1.25
    functional = False
    checkpoint = "refresh"
    modular_levels = MODULAR_LEVELS

    @staticmethod
    def series_levels(degree: int) -> int:
        """Levels that a series of ``degree`` takes."""
        return series_levels(degree)

    @property
    def relu_levels(self) -> int:
        """Levels that the ReLU takes from those a refresh leaves."""
        return series_levels(self.degree)

    def levels(self, level_budget: tuple[int, int]) -> int:
        """Levels from the raised modulus to the refreshed ciphertext."""
        return sum(level_budget) + self.modular_levels

    def reserve(self, level_budget: tuple[int, int]) -> int:
        """Multiplications that must remain possible in what is refreshed: EvalBootstrap wants two towers."""
        return 1

    def identity_gain(self) -> int:
        """Levels that a refresh without ReLU leaves beyond those of one with it."""
        return 0

    def identity(self, ev: Evaluator[X], x: X) -> X:
        """The same values, refreshed."""
        return ev.bootstrap(x)

    def relu(self, ev: Evaluator[X], x: X, factor: float, refreshed: Callable[[X], None]) -> X:
        """factor * max(0, x), refreshed; ``refreshed`` is shown x between the two steps."""
        x = ev.bootstrap(x)
        refreshed(x)
        return ev.chebyshev(x, tuple(factor * c for c in relu_series(self.degree)))

    @property
    def choices(self) -> dict[str, Choice]:
        """All that decides what is computed, for fingerprints: how the series are made, never what comes of it."""
        return _choices(self, "Chebyshev", self.degree)

    def approximated_relu(self, x: np.ndarray) -> np.ndarray:
        """The series at ``x``, in the clear."""
        return evaluate_series(relu_series(self.degree), x)

    def in_the_clear(self, x: np.ndarray, factor: float) -> np.ndarray:
        """What the checkpoint after the refresh would hold without its noise."""
        return x

    def __str__(self) -> str:
        return f"Chebyshev, degree {self.degree}, {self.relu_levels} levels after the refresh"


@dataclass(frozen=True)
class FunctionalRefresh:
    """One functional bootstrapping: slots to coefficients, modulus raise, coefficients to slots, complex exponential
    and the ReLU as a Fourier series of ``degree`` and period 2.

    Source: ePrint 2026/367, as OpenFHE 1.6 implements it (EvalFEFuncBootstrap).
    """

    degree: int

    reach, identity_reach = FOURIER_REACH, IDENTITY_REACH
    #: Less than a Chebyshev series', for this one stays small out of range.
    margin = 1.15
    functional = True
    checkpoint = "relu"
    relu_levels = 0
    modular_levels = MODULAR_LEVELS
    #: Degree of the series that only refreshes: off by 3.2e-5 at most.
    identity_degree = 5

    @staticmethod
    def series_levels(degree: int) -> int:
        """Levels that a series of ``degree`` takes."""
        return series_levels(degree)

    def levels(self, level_budget: tuple[int, int]) -> int:
        """Levels from the raised modulus to the refreshed ciphertext, ReLU included."""
        return level_budget[0] + self.modular_levels + self.series_levels(self.degree)

    def reserve(self, level_budget: tuple[int, int]) -> int:
        """Multiplications that must remain possible in what is refreshed: slots to coefficients comes first."""
        return level_budget[1] + 1

    def identity_gain(self) -> int:
        """Levels that a refresh without ReLU leaves beyond those of one with it: a shorter series does."""
        return self.series_levels(self.degree) - self.series_levels(self.identity_degree)

    def identity(self, ev: Evaluator[X], x: X) -> X:
        """The same values, refreshed."""
        return ev.bootstrap_function(x, identity_fourier(self.identity_degree))

    def relu(self, ev: Evaluator[X], x: X, factor: float, refreshed: Callable[[X], None]) -> X:
        """factor * max(0, x), refreshed.  There is nothing between the two to show."""
        return ev.bootstrap_function(x, tuple(factor * c for c in relu_fourier(self.degree)))

    @property
    def choices(self) -> dict[str, Choice]:
        """As :attr:`ChebyshevRefresh.choices`."""
        return _choices(self, "Fourier", self.degree, self.identity_degree)

    def approximated_relu(self, x: np.ndarray) -> np.ndarray:
        """The series at ``x``, in the clear."""
        return evaluate_fourier(relu_fourier(self.degree), x)

    def in_the_clear(self, x: np.ndarray, factor: float) -> np.ndarray:
        """What the checkpoint after the refresh would hold without its noise."""
        return factor * self.approximated_relu(x)

    def __str__(self) -> str:
        return f"Fourier, degree {self.degree}, inside the refresh"


@dataclass(frozen=True)
class NativeRefresh(FunctionalRefresh):
    """The same function by the native evaluator, whose series of degree below 2^k take k levels.

    transforms: how coefficients-to-slots and back are split and applied: a name of :data:`.refreshplan.PLANS`.
    """

    transforms: str

    modular_levels = refreshplan.MODULAR_LEVELS
    #: Off by 1e-6 at most.
    identity_degree = 7

    @property
    def choices(self) -> dict[str, Choice]:
        """As :attr:`ChebyshevRefresh.choices`."""
        return super().choices | {"transforms": self.transforms}

    @staticmethod
    def series_levels(degree: int) -> int:
        """Levels that a series of ``degree`` takes."""
        return refreshplan.series_levels(degree)

    @property
    def plan(self) -> refreshplan.RefreshPlan:
        return refreshplan.PLANS[self.transforms]

    def reserve(self, level_budget: tuple[int, int]) -> int:
        """Multiplications that must remain possible in what is refreshed: slots to coefficients comes first."""
        return level_budget[1]


Refresh = ChebyshevRefresh | FunctionalRefresh


def _choices(refresh: Refresh, series: str, *degrees: int) -> dict[str, Choice]:
    return {
        "series": series,
        "degrees": degrees,
        "fit": FIT_CHOICES,
        "reach": refresh.reach,
        "identity reach": refresh.identity_reach,
        "margin": refresh.margin,
    }
