"""Polynomials of a ciphertext, by few products and in as few levels as their degree allows.

A polynomial of degree below 2^k takes k levels.  Its parts of low degree are linear combinations of what is at hand;
each quotient by p_(2^j) is evaluated a level before the product it goes into, at just the scale that makes all products
of a sum agree.  So a sum is relinearised and rescaled once, and no scale is ever adjusted.
Source: Paterson and Stockmeyer (1973), by doubling degrees; Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux (Eurocrypt
2021), section 3, for the scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.polynomial import chebyshev, polynomial

from ...errors import PlanError
from ..ring.arithmetic import Arithmetic, X

#: Degrees that linear combinations reach: p_3 is the last polynomial made beside p_1, p_2, p_4, p_8 ..
MOST_LINEAR = 3


def levels(degree: int) -> int:
    """Levels that a polynomial of ``degree`` takes."""
    return degree.bit_length()


class Basis(Protocol):
    """Polynomials p_0 = 1, p_1 = x, p_2 .. in which a series is written."""

    def doubled(self, ev: Arithmetic[X], x: X) -> X:
        """p_(2j) of p_j."""

    def third(self, ev: Arithmetic[X], first: X, second: X) -> X:
        """p_3 of p_1 and p_2."""

    def divide(self, coefficients: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
        """Quotient and remainder of a series by p_power."""


class Chebyshev:
    """T_2j = 2 T_j^2 - 1, T_3 = T_1 (2 T_2 - 1)."""

    def doubled(self, ev: Arithmetic[X], x: X) -> X:
        return ev.sum_of_products([(x, x), (x, x)], constant=-1, rescaled=True)

    def third(self, ev: Arithmetic[X], first: X, second: X) -> X:
        return ev.sum_of_products([(first, second), (first, second)], [(first, -1)], rescaled=True)

    def divide(self, coefficients: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
        return chebyshev.chebdiv(coefficients, np.eye(power + 1)[power])


class Powers:
    """x^j."""

    def doubled(self, ev: Arithmetic[X], x: X) -> X:
        return ev.sum_of_products([(x, x)], rescaled=True)

    def third(self, ev: Arithmetic[X], first: X, second: X) -> X:
        return ev.sum_of_products([(first, second)], rescaled=True)

    def divide(self, coefficients: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
        return polynomial.polydiv(coefficients, np.eye(power + 1)[power])


@dataclass(frozen=True)
class Sum:
    """linear[j] * p_j for each j, and quotient * p_j for each pair (j, quotient)."""

    linear: dict[int, complex]
    parts: tuple[tuple[int, Sum], ...]

    @property
    def products(self) -> int:
        """Relinearisations, those of the powers apart."""
        return bool(self.parts) + sum(part.products for _, part in self.parts)

    def powers(self) -> set[int]:
        """The p_j that it is made of, p_0 apart."""
        own = {j for j in self.linear if j} | {j for j, _ in self.parts}
        return own.union(*(part.powers() for _, part in self.parts))


def decompose(basis: Basis, coefficients: Sequence[complex]) -> Sum:
    """The series as nested sums, in ``levels(degree)`` levels and the fewest products."""
    series = np.asarray(coefficients, complex)
    depth = levels(len(series) - 1)
    choices = [_decompose(basis, series, depth, linear) for linear in range(1, MOST_LINEAR + 1)]
    return min(choices, key=lambda choice: choice.products + len(made(choice.powers())))


def evaluate(
    ev: Arithmetic[X], basis: Basis, x: X, coefficients: Sequence[complex], scale: float, *, rescaled: bool = True
) -> X:
    """sum_j coefficients[j] * p_j(x): rescaled, it has ``scale`` and ``levels(degree)`` towers fewer than ``x``."""
    series = decompose(basis, coefficients)
    powers = {1: x}
    for j in made(series.powers()):
        powers[j] = basis.third(ev, x, powers[2]) if j == 3 else basis.doubled(ev, powers[j // 2])
    return _evaluate(ev, powers, series, ev.towers(x) - levels(len(coefficients) - 1), scale, rescaled)


def _evaluate(
    ev: Arithmetic[X], powers: dict[int, X], series: Sum, towers: int, scale: float, rescaled: bool = True
) -> X:
    """``series`` with ``scale`` and ``towers`` towers, or with a tower more, by which rescaling it gives that."""
    scale *= ev.moduli[towers]
    linear = [(ev.drop(powers[j], towers + 1), c) for j, c in series.linear.items() if j]
    constant = series.linear.get(0, 0)
    if series.parts:
        pairs = []
        for j, part in series.parts:
            power = powers[j]
            pairs.append((_evaluate(ev, powers, part, towers + 1, scale / ev.scale(power)), power))
        return ev.sum_of_products(pairs, linear, constant, rescaled=rescaled)
    assert linear, "a constant is no series"
    handles, constants = zip(*linear, strict=True)
    total = ev.add_constant(ev.combination(handles, constants, scale), constant)
    return ev.rescale(total) if rescaled else total


def _decompose(basis: Basis, coefficients: np.ndarray, depth: int, most_linear: int) -> Sum:
    """In ``depth`` levels, with linear combinations of degree up to ``most_linear`` where p_j is there in time."""
    reach = max(j for j in range(most_linear + 1) if j < 2 or levels(j - 1) < depth)
    parts, further = [], {}
    coefficients = np.trim_zeros(coefficients, "b")
    while len(coefficients) - 1 > reach:
        power = 1 << ((len(coefficients) - 1).bit_length() - 1)
        if levels(power - 1) >= depth:
            raise PlanError(f"a series of degree {len(coefficients) - 1} takes more than {depth} levels")
        quotient, remainder = basis.divide(coefficients, power)
        if len(quotient) > 1:
            parts.append((power, _decompose(basis, quotient, depth - 1, most_linear)))
        else:
            further[power] = complex(quotient[0])
        coefficients = np.trim_zeros(remainder, "b")
    linear = {j: complex(c) for j, c in enumerate(coefficients) if c}
    return Sum({**linear, **further}, tuple(parts))


def made(powers: set[int]) -> list[int]:
    """The p_j to make, in order, so that ``powers`` are there: 2, 3 if it is wanted, 4, 8 .."""
    highest = max(powers, default=1)
    doubled = {1 << k for k in range(1, highest.bit_length()) if 1 << k <= highest}
    if 3 in powers:
        doubled |= {2, 3}
    return sorted(doubled)
