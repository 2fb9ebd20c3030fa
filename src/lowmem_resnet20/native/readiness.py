"""Getting ready: every kernel compiled before work begins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .kernels.compilation import compile_once, is_compiled
from .kernels.memory import aligned
from .ring.chain import Chain, Prime
from .ring.ciphertext import RELINEARISATION_INDEX, Ciphertext, NativeArithmetic
from .ring.keyswitch import KeyInMemory
from .ring.slottransform import SlotTransform

#: Any primes of the right sizes will do, in the smallest ring.
_CHAIN = Chain(
    1024,
    1,
    q=(Prime(536856577, 127625803), Prime(268369921, 135902522)),
    p=(Prime(1152921504606830593, 340790403141058),),
)


def make_ready(compiling: Callable[[], None]) -> None:
    """Compile what no process has compiled before on this machine; ``compiling`` is called first if that takes its
    time (some 8 s)."""
    if not is_compiled():
        compiling()
    compile_once(_exercise)


def _exercise() -> None:
    """Every operation once: every kernel."""
    n = _CHAIN.dimension
    rotation, conjugation = 5, 2 * n - 1
    keys = {index: _key(index) for index in (RELINEARISATION_INDEX, rotation, conjugation)}
    native = NativeArithmetic(_CHAIN, keys, threads=1)
    residues, vector = aligned(2, 2, n, dtype=np.uint32), np.zeros(n // 2)
    residues[...] = 0
    x = Ciphertext(residues, 2, 1.0, n // 2)
    native.rotate(x, [1])
    native.add_conjugate(x)
    native.rescale(native.sum_of_products([(x, x)]))
    native.transform(x, SlotTransform((0, 1), (0, 1), {(i, j): vector for i in (0, 1) for j in (0, 1)}), 1.0)
    native.weighted_sum([x], lambda _: vector, 1.0)
    native.add_constant(native.add_vector(native.add(x, x), vector), 1.0)
    native.raise_modulus(native.drop(x, 1))


def _key(automorphism: int) -> KeyInMemory:
    """A key of zeros."""
    small, special = (
        aligned(2, 1, len(primes), _CHAIN.dimension, dtype=dtype)
        for primes, dtype in ((_CHAIN.q, np.uint32), (_CHAIN.p, np.uint64))
    )
    for part in (small, special):
        part[...] = 0
    return KeyInMemory(automorphism, small, special)
