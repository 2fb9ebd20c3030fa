"""The order in which the residues of a polynomial in evaluation form lie in memory, and so in key files.

Nothing here needs compiled code: who makes keys need not have what evaluates with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Names the order in files: another order gets another name.
ORDER = "blocks of eight rows"
_ROWS = 8


def shape(n: int) -> tuple[int, int]:
    """Rows A and columns B of the matrix of n = A B coefficients, both from 32 to 256."""
    log2_n = n.bit_length() - 1
    if n != 1 << log2_n or not 10 <= log2_n <= 16:
        raise ValueError(f"the transform is made for rings of dimension 2^10 to 2^16, not {n}")
    return 1 << (log2_n + 1) // 2, 1 << log2_n // 2


def memory_order(dimension: int, columns: int = 0) -> NDArray[np.int64]:
    """(N,) where OpenFHE's position i of evaluation form stands (:mod:`.ntt`); columns: 0 for :func:`shape`'s."""
    columns = columns or shape(dimension)[1]
    row, position = np.divmod(np.arange(dimension), columns)
    return row // _ROWS * _ROWS * columns + position * _ROWS + row % _ROWS


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
