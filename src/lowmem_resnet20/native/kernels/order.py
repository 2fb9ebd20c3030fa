"""The order in which the residues of a polynomial in evaluation form lie in memory, and so in key files.

Nothing here needs compiled code: who makes keys need not have what evaluates with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Names the order in files: another order gets another name.
ORDER = "blocks of 256, transposed"
#: Blocks of so many positions are matrices of as many rows as columns.
BLOCK, ROWS = 256, 16
#: Dimensions of rings.
SMALLEST, LARGEST = 1 << 10, 1 << 16


def check_dimension(n: int) -> None:
    """Raise ValueError unless the transform is made for rings of this dimension."""
    if n.bit_count() != 1 or not SMALLEST <= n <= LARGEST:
        raise ValueError(f"the transform is made for rings of dimension 2^10 to 2^16, not {n}")


def memory_order(dimension: int) -> NDArray[np.int64]:
    """(N,) where OpenFHE's position i of evaluation form stands (:mod:`.ntt`)."""
    block, place = np.divmod(np.arange(dimension), BLOCK)
    row, column = np.divmod(place, ROWS)
    return block * BLOCK + column * ROWS + row


def bit_reversed(size: int) -> NDArray[np.int64]:
    """The numbers below ``size``, a power of two, in bit-reversed order."""
    order: NDArray[np.int64] = np.zeros(1, np.int64)
    while len(order) < size:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def permutation(g: int, dimension: int) -> NDArray[np.int64]:
    """What the automorphism X -> X^g does to evaluation form in OpenFHE's order: values v become v[permutation].

    Residue i is the value at psi^(2 bitrev(i) + 1), and the image's value there is the polynomial's at the g-th power.
    """
    reversed_bits = bit_reversed(dimension)
    exponents = (2 * reversed_bits + 1) * g % (2 * dimension)
    return reversed_bits[exponents // 2]
