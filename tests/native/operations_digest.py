"""Run as a program: a digest of every operation's results on fixed residues, and the vector registers of a kernel's
code."""

from __future__ import annotations

import hashlib
import json
import re
import sys

import numba
import numpy as np
from rings import ring

from lowmem_resnet20.native.kernels import bases, elementwise, ntt
from lowmem_resnet20.native.readiness import make_ready
from lowmem_resnet20.native.refresh.transforms import SlotTransform
from lowmem_resnet20.native.ring.chain import Chain, Prime
from lowmem_resnet20.native.ring.ciphertext import Ciphertext, NativeArithmetic
from lowmem_resnet20.native.ring.keyswitch import KeyInMemory

KERNELS = (ntt.to_evaluation, ntt.to_coefficients, elementwise.sums, bases.convert)


def digest(threads: int) -> str:
    small = ring(1 << 11, 5, 3, 2)
    n = small.dimension
    q, p = (
        [Prime(*pair) for pair in zip(*chain, strict=True)]
        for chain in ((small.q, small.q_roots), (small.p, small.p_roots))
    )
    chain, random = Chain(n, 3, tuple(q), tuple(p)), np.random.default_rng(7)

    def key(automorphism):
        residues = np.stack([random.integers(0, prime, (2, 3, n), np.uint64) for prime in small.q], axis=2)
        wide = np.stack([random.integers(0, prime, (2, 3, n), np.uint64) for prime in small.p], axis=2)
        return KeyInMemory(automorphism, residues.astype(np.uint32), wide)

    keys = {index: key(index) for index in (1, 5, 25, 2 * n - 1)}
    native = NativeArithmetic(chain, keys, threads)
    residues = np.stack([random.integers(0, prime, (2, n), np.uint32) for prime in small.q], axis=1)
    x, vector = Ciphertext(residues, 5, 2.0**28, n // 2), random.uniform(-1, 1, n // 2)
    transform = SlotTransform((0, 1), (0, 2), {(0, 0): vector, (0, 1): vector, (1, 1): 1j * vector})
    results = [*native.rotate(x, [1, 2]), native.add_conjugate(x), native.rescale(native.sum_of_products([(x,
                              x), (x, x)])), native.transform(x, transform, 2.0**56),
                              native.weighted_sum([x] * 9, lambda _: vector, 2.0**56),
                              native.add_constant(native.add_vector(native.combination([x, x], [1, -1j],
                              x.scale), vector), 1 - 1j),
                              native.raise_modulus(native.drop(x, 1))]  # fmt: skip
    return hashlib.sha256(b"".join(native.ring.to_openfhe(result.residues).tobytes() for result in results)).hexdigest()


def registers() -> dict[str, list[str]]:
    """The kinds of vector registers in each kernel's code, compiled anew: code that was kept has no text."""
    found = {}
    for kernel in KERNELS:
        anew = numba.njit(nogil=True, error_model="numpy")(kernel.py_func)
        anew.compile(kernel.signatures[0])
        (code,) = anew.inspect_asm().values()
        found[kernel.__name__] = sorted(set(re.findall(r"%([xyz]mm)\d", code)))
    return found


if __name__ == "__main__":
    make_ready(lambda: None)
    found = {str(threads): digest(threads) for threads in map(int, sys.argv[1:])}
    print(json.dumps({"digests": found, "registers": registers()}))
