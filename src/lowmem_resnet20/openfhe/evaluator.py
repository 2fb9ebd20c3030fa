"""The network's operations on OpenFHE ciphertexts.  Holds evaluation keys only.

Levels here are those left to the network (see :mod:`..network.parameters`): OpenFHE counts the primes dropped, and a
product is rescaled only when it is next used, so a pending rescale counts as a level spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from ..errors import PlanError
from ..network.evaluator import Incomputable, VectorOf
from ..network.parameters import ParameterSet
from ..network.refresh import series_levels
from .library import Ciphertext, Context, Plaintext, openfhe_errors


class _Calls:
    """A context's operations, of which OpenFHE's refusals come as Incomputable."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._context, name)

        def called(*arguments: Any) -> Any:
            with openfhe_errors(Incomputable):
                return operation(*arguments)

        return called


class OpenfheEvaluator:
    """:class:`..network.evaluator.Evaluator` on ciphertexts.

    load_stage: makes the rotation keys and bootstrapping of a stage ready, and frees those of the last one.
    """

    def __init__(self, set_: ParameterSet, context: Context, load_stage: Callable[[int], None]) -> None:
        self.set = set_
        self.context: Context = cast(Context, _Calls(context))
        self.enter_stage = load_stage

    def slots(self, x: Ciphertext) -> int:
        return x.GetSlots()

    def levels(self, x: Ciphertext) -> int:
        spent = x.GetLevel() + x.GetNoiseScaleDeg() - 1
        return self.set.multiplicative_depth - self.set.reserve_levels - spent

    def with_slots(self, x: Ciphertext, slots: int) -> Ciphertext:
        x = x.Clone()
        x.SetSlots(slots)
        return x

    def rotate(self, x: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        steps = [step % self.set.full_slots for step in steps]
        if len(steps) == 1:
            return [self.context.EvalRotate(x, steps[0])]
        digits = self.context.EvalFastRotationPrecompute(x)
        order = 2 * self.set.ring_dimension
        return [self.context.EvalFastRotation(x, step, order, digits) for step in steps]

    def add(self, x: Ciphertext, y: Ciphertext) -> Ciphertext:
        return self.context.EvalAdd(x, y)

    def add_vector(self, x: Ciphertext, vector: Callable[[], np.ndarray]) -> Ciphertext:
        return self.context.EvalAdd(x, self._encode(x, vector()))

    def products(self, xs: Sequence[Ciphertext], vector_of: VectorOf) -> Ciphertext:
        if any(x.GetNoiseScaleDeg() != 1 for x in xs):
            raise PlanError("a factor is waiting to be rescaled: lower it before its products")
        if min(map(self.levels, xs)) < 1:
            raise PlanError("no level is left for a product")
        products = (self.context.EvalMult(x, self._encode(x, vector_of(i))) for i, x in enumerate(xs))
        total = next(products)
        for product in products:
            self.context.EvalAddInPlace(total, product)
        return total

    def lower(self, x: Ciphertext, levels: int) -> Ciphertext:
        if self.levels(x) < levels:
            raise PlanError(f"a ciphertext with {self.levels(x)} levels cannot be lowered to {levels}")
        lowered = self.context.Compress(x, levels + self.set.reserve_levels + 1)
        if self.levels(lowered) != levels or lowered.GetNoiseScaleDeg() != 1:
            raise PlanError(f"OpenFHE lowered a ciphertext to {self.levels(lowered)} levels instead of {levels}")
        return lowered

    def answer(self, x: Ciphertext) -> Ciphertext:
        """Return the same values on two primes, which hold any logit: what is left to compute with need not be sent."""
        return self.context.Compress(x, 2)

    def bootstrap(self, x: Ciphertext) -> Ciphertext:
        return self._refreshed(x, lambda: self.context.EvalBootstrap(x))

    def bootstrap_function(self, x: Ciphertext, coefficients: tuple[complex, ...]) -> Ciphertext:
        return self._refreshed(x, lambda: self.context.EvalFEFuncBootstrap(x, list(coefficients)))

    def chebyshev(self, x: Ciphertext, coefficients: tuple[float, ...]) -> Ciphertext:
        needed = series_levels(len(coefficients) - 1)
        if self.levels(x) < needed:
            raise PlanError(f"a series of {needed} levels has only {self.levels(x)}")
        first, *rest = coefficients
        return self.context.EvalChebyshevSeries(x, [2 * first, *rest], -1.0, 1.0)

    def _refreshed(self, x: Ciphertext, bootstrap: Callable[[], Ciphertext]) -> Ciphertext:
        if self.levels(x) < 0:
            raise PlanError("a ciphertext has too few primes left to be refreshed")
        fresh = bootstrap()
        if self.levels(fresh) < self.set.usable_levels:
            raise PlanError(f"bootstrapping left {self.levels(fresh)} levels instead of {self.set.usable_levels}")
        return fresh

    def _encode(self, x: Ciphertext, vector: np.ndarray) -> Plaintext:
        """Return a plaintext at the level and scale of ``x``."""
        return self.context.MakeCKKSPackedPlaintext(vector, x.GetNoiseScaleDeg(), x.GetLevel(), None, x.GetSlots())
