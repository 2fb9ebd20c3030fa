"""How long a network would take on this machine, from a trial of each kind of operation on random numbers.

How long an operation takes does not depend on values, so that it needs no keys: chain, keys and ciphertexts are made of
any primes of the right sizes and any residues.  Nothing is encrypted, and nothing is secret.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from ..machine.memory import return_freed_memory
from ..network.clear import Planned, PlanningEvaluator
from ..network.evaluator import VectorOf
from ..network.parameters import ParameterSet
from ..network.resnet20 import plan
from .evaluator import NativeEvaluator
from .kernels.compilation import is_compiled
from .kernels.memory import aligned
from .kernels.threads import available_processors
from .kernels.workers import AHEAD
from .keys.keyplan import key_plan, refresh_plan
from .readiness import make_ready
from .refresh.refresh import Refresh, prepare
from .ring.chain import Chain, Prime
from .ring.ciphertext import RELINEARISATION_INDEX, Ciphertext, NativeArithmetic
from .ring.keynames import RELINEARISATION, automorphism
from .ring.keyswitch import KeyInMemory

#: Bits that special primes are below.
_SPECIAL_BITS = 60
_HASHED_BYTES = 1 << 25


def evaluation_seconds(set_: ParameterSet, key_folder_bytes: int, compiling: Callable[[], None]) -> float:
    """Return the seconds that a server's process of its own would take here for a picture, or for a group.

    To be called once, early in a process: what this one has taken until it can begin, the server's takes too; but for
    compiling, the first time on a machine, of which ``compiling`` is told.  It takes the memory of an evaluation.
    """
    plan(set_), key_plan(set_)
    before, ready = time.process_time(), is_compiled()
    make_ready(compiling)
    preparing = time.process_time() if ready else before
    trial = Trial(set_)
    plan(set_, trial)
    return preparing + _hashing_seconds(key_folder_bytes) + trial.seconds


def _hashing_seconds(size: int) -> float:
    """Return the seconds to check so many bytes of keys, with a thread for each processor."""
    started = time.monotonic()
    hashlib.sha256(bytes(_HASHED_BYTES))
    return (time.monotonic() - started) * size / _HASHED_BYTES / available_processors()


def trial_chain(set_: ParameterSet) -> Chain:
    """Return a chain of as many primes of the same sizes as the set's, and scales that stay as near to each other."""
    n = set_.ring_dimension
    others = [_prime(1 << set_.scaling_bits, n)]
    scale = float(others[0])
    while len(others) < set_.multiplicative_depth:
        others.append(_prime(round(scale), n, others))
        scale = scale**2 / others[-1]
    q = [_prime_below(1 << set_.first_modulus_bits, n, others), *reversed(others)]
    p: list[int] = []
    for _ in range(set_.special_towers):
        p.append(_prime_below(1 << _SPECIAL_BITS, n, p))
    primes = [tuple(Prime(prime, _root(prime, n)) for prime in chain) for chain in (q, p)]
    return Chain(n, set_.large_digits, *primes)


def _prime(size: int, n: int, taken: Sequence[int] = ()) -> int:
    """Return the one nearest to ``size`` that is 1 modulo 2N and not taken."""
    middle = size // (2 * n)
    return _first((middle + sign * distance for distance in count() for sign in (-1, 1)), n, taken)


def _prime_below(size: int, n: int, taken: Sequence[int]) -> int:
    return _first(count((size - 1) // (2 * n) - 1, -1), n, taken)


def _first(multiples: Iterable[int], n: int, taken: Sequence[int]) -> int:
    """Fermat's test will do: kernels only need inverses."""
    candidates = (2 * n * multiple + 1 for multiple in multiples)
    return next(c for c in candidates if c not in taken and pow(2, c - 1, c) == 1)


def _root(prime: int, n: int) -> int:
    """Return a primitive root of unity of order 2N."""
    powers = (pow(g, (prime - 1) // (2 * n), prime) for g in range(2, prime))
    return next(power for power in powers if pow(power, n, prime) == prime - 1)


def _random(bound: int, *shape: int, dtype: type) -> NDArray:
    """Return (.., N) residues below ``bound``, the same in each row: kernels do not see that they are, nor do caches,
    for each is in memory of its own."""
    out = aligned(*shape, dtype=dtype)
    out[...] = np.random.default_rng(0).integers(0, bound, shape[-1], dtype)
    return out


class Trial(PlanningEvaluator):
    """Plans, and does each kind of operation on random numbers the first two times it comes; all later ones take as
    long as the second.  The first one of a stage has more to do: it makes tables, and encodes what is kept.

    seconds: of all operations that were planned.
    """

    def __init__(self, set_: ParameterSet) -> None:
        super().__init__(set_)
        self.seconds = 0.0
        self._times: dict[tuple, list[float]] = {}
        self._arithmetic = NativeArithmetic(trial_chain(set_), {})
        self._arithmetic.ring.workers.ahead = AHEAD
        self._native = NativeEvaluator(set_, self._arithmetic, self._refresh)

    def enter_stage(self, stage: int) -> None:
        if stage != self.stage:
            self._arithmetic.keys = {}
            self._arithmetic.forget_plaintexts()
            return_freed_memory()
            self._arithmetic.keys = self._keys(stage)
            self._do(("stage", stage), [], lambda: self._native.enter_stage(stage))
        super().enter_stage(stage)

    def rotate(self, x: Planned, steps: Sequence[int]) -> list[Planned]:
        moving = len({step % self.set.full_slots for step in steps} - {0})
        self._do(("rotate", x, moving), [x], lambda y: self._native.rotate(y, steps))
        return super().rotate(x, steps)

    def add(self, x: Planned, y: Planned) -> Planned:
        self._do(("add", x, y), [x, y], self._native.add)
        return super().add(x, y)

    def add_vector(self, x: Planned, vector: Callable[[], np.ndarray]) -> Planned:
        self._do(("add vector", x), [x], lambda y: self._native.add_vector(y, vector))
        return super().add_vector(x, vector)

    def products(self, xs: Sequence[Planned], vector_of: VectorOf) -> Planned:
        self._do(("products", *xs), xs, lambda *ys: self._native.products(ys, vector_of))
        return super().products(xs, vector_of)

    def lower(self, x: Planned, levels: int) -> Planned:
        self._do(("lower", x, levels), [x], lambda y: self._native.lower(y, levels))
        return super().lower(x, levels)

    def bootstrap_function(self, x: Planned, coefficients: tuple[complex, ...]) -> Planned:
        degree = len(coefficients) - 1
        self._do(("refresh", x, degree), [x], lambda y: self._native.bootstrap_function(y, coefficients))
        return super().bootstrap_function(x, coefficients)

    def _do(self, kind: tuple, xs: Sequence[Planned], operation: Callable[..., object]) -> None:
        """Count an operation, and do it if need be.  kind: what tells it from those that take another time."""
        times = self._times.setdefault(kind, [])
        if len(times) < 2:
            numbers = [self._ciphertext(x) for x in xs]
            started = time.monotonic()
            operation(*numbers)
            self._arithmetic.ring.workers.wait()
            times.append(time.monotonic() - started)
        self.seconds += times[-1]

    def _ciphertext(self, x: Planned) -> Ciphertext:
        """Random numbers in the place of a ciphertext of so many slots and levels."""
        arithmetic, towers = self._arithmetic, x.levels + self.set.reserve_levels + 1
        residues = _random(min(arithmetic.moduli), 2, towers, self.set.ring_dimension, dtype=np.uint32)
        return Ciphertext(residues, towers, arithmetic.scale_at(towers), x.slots)

    def _keys(self, stage: int) -> dict[int, KeyInMemory]:
        """Random numbers in the place of the keys of a stage, by the index that the arithmetic asks for."""
        n, ring, keys = self.set.ring_dimension, self._arithmetic.ring, {}
        for name, towers in key_plan(self.set)[stage].items():
            digits, index = ring.digits_at(towers), automorphism(name, n)
            small = _random(min(ring.q), 2, digits, towers, n, dtype=np.uint32)
            special = _random(min(ring.p), 2, digits, len(ring.p), n, dtype=np.uint64)
            keys[RELINEARISATION_INDEX if name == RELINEARISATION else index] = KeyInMemory(index, small, special)
        return keys

    def _refresh(self, stage: int) -> Refresh[Ciphertext]:
        how, n = refresh_plan(self.set), self.set.ring_dimension
        return Refresh(self._arithmetic, how, prepare(how, n, self.set.stage_slots(stage)))
