"""The network's operations on native ciphertexts: :class:`..network.evaluator.Evaluator`.

Between operations a ciphertext is rescaled and has the scale that the chain prescribes at its towers; of its towers
``reserve_levels`` + 1 are not the network's to spend, so that a refresh finds what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import PlanError
from ..network.evaluator import VectorOf
from ..network.parameters import ParameterSet
from .refresh.refresh import Refresh
from .ring.ciphertext import Ciphertext, NativeArithmetic

#: Towers that hold any logit, with nothing to compute on left.
ANSWER_TOWERS = 2


class NativeEvaluator:
    """Holds no keys: those of a stage are the arithmetic's, made ready by ``load_stage``, which returns its refresh."""

    def __init__(
        self, set_: ParameterSet, arithmetic: NativeArithmetic, load_stage: Callable[[int], Refresh[Ciphertext]]
    ) -> None:
        self.set, self.arithmetic = set_, arithmetic
        self._load_stage = load_stage
        self._refresh: Refresh[Ciphertext] | None = None

    def enter_stage(self, stage: int) -> None:
        self._refresh = None  # its matrices' memory is free for those of the next
        self._refresh = self._load_stage(stage)

    def slots(self, x: Ciphertext) -> int:
        return x.slots

    def levels(self, x: Ciphertext) -> int:
        return x.towers - 1 - self.set.reserve_levels

    def with_slots(self, x: Ciphertext, slots: int) -> Ciphertext:
        return self.arithmetic.with_slots(x, slots)

    def rotate(self, x: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        return self.arithmetic.rotate(x, steps)

    def add(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        towers = min(x.towers, y.towers)
        return self.arithmetic.add(self._to_towers(x, towers), self._to_towers(y, towers))

    def add_vector(self, x: Ciphertext, vector: Callable[[], np.ndarray]) -> Ciphertext:
        return self.arithmetic.add_vector(x, vector())

    def products(self, xs: Sequence[Ciphertext], vector_of: VectorOf) -> Ciphertext:
        if min(map(self.levels, xs)) < 1:
            raise PlanError("no level is left for a product")
        towers = min(x.towers for x in xs)
        scale = self.arithmetic.scale_at(towers - 1) * self.arithmetic.moduli[towers - 1]
        return self.arithmetic.rescale(self.arithmetic.weighted_sum(xs, vector_of, scale))

    def lower(self, x: Ciphertext, levels: int) -> Ciphertext:
        if self.levels(x) < levels:
            raise PlanError(f"a ciphertext with {self.levels(x)} levels cannot be lowered to {levels}")
        return self._to_towers(x, levels + self.set.reserve_levels + 1)

    def answer(self, x: Ciphertext) -> Ciphertext:
        """The same values on the fewest primes that hold them, for the client."""
        return self._to_towers(x, ANSWER_TOWERS)

    def bootstrap(self, x: Ciphertext) -> Ciphertext:
        raise PlanError("the native evaluator refreshes by a function alone")

    def bootstrap_function(self, x: Ciphertext, coefficients: tuple[complex, ...]) -> Ciphertext:
        assert self._refresh is not None, "no stage has been entered"
        if self.levels(x) < 0:
            raise PlanError("a ciphertext has too few primes left to be refreshed")
        return self._refresh(x, coefficients)

    def chebyshev(self, x: Ciphertext, coefficients: tuple[float, ...]) -> Ciphertext:
        raise PlanError("the native evaluator has no series outside a refresh")

    def _to_towers(self, x: Ciphertext, towers: int) -> Ciphertext:
        """The same values at the chain's scale of fewer towers: a product with 1, encoded to bring just that scale."""
        if x.towers == towers:
            return x
        arithmetic = self.arithmetic
        scale = arithmetic.scale_at(towers) * arithmetic.moduli[towers]
        return arithmetic.rescale(arithmetic.combination([arithmetic.drop(x, towers + 1)], [1.0], scale))
