"""What the refresh and the layers ask of ciphertexts: the protocol between the mathematics and the kernels.

A handle ``X`` stands for a ciphertext in evaluation form that encrypts a vector of N/2 complex slots, repeated from
its first ``slots(x)``.  It has ``towers(x)`` = l residues, modulo the primes q_0 .. q_(l-1), and a ``scale(x)``:
it encrypts round(scale * values).  Handles are never changed; every operation returns a new one.

Towers and scales of results are stated with each operation.  Where handles meet, the result has the fewest towers
among them: what an operand has beyond is ignored, at no cost.  Handles that are added must agree in scale to 1 part in
SCALE_TOLERANCE; the result takes the first one's.  Nothing rescales but :meth:`Arithmetic.rescale`, and operations that
end in a key switch where they are asked to (``rescaled``): that is the same residues, by fewer transforms.

Rotations move slot i + step to slot i, modulo N/2.  Every key switch is OpenFHE's hybrid one (see ``keyswitch``),
with as many digits as the handle's towers need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from .slottransform import SlotTransform

X = TypeVar("X")
#: Scales that are added differ by at most this part: far below the noise, far above the rounding of a float.
SCALE_TOLERANCE = 1e-9
#: Gives the i-th vector, a power of two of complex or real values, which repeats over the slots.  Called when needed.
VectorOf = Callable[[int], np.ndarray]


class Arithmetic(Protocol, Generic[X]):
    """Operations on ciphertexts ``X``.

    ring_dimension: N; moduli: (L + 1,) q_0 .. q_L, as Python integers.
    """

    ring_dimension: int
    moduli: Sequence[int]

    def scale_at(self, towers: int) -> float:
        """The scale that the chain prescribes at so many towers, s(l - 1) = s(l)^2 / q_(l-1), s(L + 1) that of
        encryption (OpenFHE's FLEXIBLEAUTO).  What the client encrypts and decrypts, and what passes between layers,
        has it."""

    def towers(self, x: X) -> int: ...

    def scale(self, x: X) -> float: ...

    def slots(self, x: X) -> int: ...

    def with_slots(self, x: X, slots: int) -> X:
        """The same ciphertext with another number of slots written on it: it only says where its vector repeats."""

    def drop(self, x: X, towers: int) -> X:
        """``x`` modulo its first ``towers`` primes.  Scale kept."""

    def rescale(self, x: X) -> X:
        """``x`` / q_(l-1), rounded.  Towers l - 1; scale(x) / q_(l-1)."""

    def add(self, x: X, y: X) -> X: ...

    def add_constant(self, x: X, constant: complex) -> X:
        """``constant`` added to every slot: round(scale * real) + round(scale * imaginary) X^(N/2).  Towers, scale
        kept."""

    def add_vector(self, x: X, vector: np.ndarray) -> X:
        """``vector`` added, encoded at scale(x).  Towers, scale kept."""

    def combination(self, xs: Sequence[X], constants: Sequence[complex], scale: float) -> X:
        """sum_j constants[j] * xs[j] at ``scale``, not rescaled.

        With f = scale / scale(xs[j]), which may differ from one j to another, a constant is encoded as
        round(f * real) + round(f * imaginary) X^(N/2).
        """

    def weighted_sum(self, xs: Sequence[X], vector_of: VectorOf, scale: float) -> X:
        """sum_j vector_of(j) * xs[j], slot by slot, at ``scale``, not rescaled; each vector is encoded at
        scale / scale(xs[j])."""

    def sum_of_products(
        self,
        pairs: Sequence[tuple[X, X]],
        linear: Sequence[tuple[X, complex]] = (),
        constant: complex = 0,
        *,
        rescaled: bool = False,
    ) -> X:
        """sum_j x_j * y_j + sum_j c_j * z_j + constant, relinearised once; a pair of one handle twice is a square.

        The products scale(x_j) * scale(y_j) agree and are the result's scale before it is rescaled; constants are
        encoded as in :meth:`combination` and :meth:`add_constant`.  Key: relinearisation.
        """

    def rotate(self, x: X, steps: Sequence[int]) -> list[X]:
        """One rotation a step, hoisted: the digits of ``x`` are raised once.  A step of 0 gives ``x``.  Towers, scale
        kept.  Key: each step's."""

    def add_rotated(self, x: X, y: X, step: int, *, rescaled: bool = False) -> X:
        """``x`` and the rotation of ``y`` by a step other than 0.  Key: the step's."""

    def add_conjugate(self, x: X, *, rescaled: bool = False) -> X:
        """``x`` and the complex conjugate of every slot: twice the real part.  Key: conjugation."""

    def transform(self, x: X, transform: SlotTransform, scale: float, *, rescaled: bool = False) -> X:
        """``transform`` of the slots at ``scale`` before it is rescaled; vectors are encoded at scale / scale(x),
        modulo QP.

        Hoisted twice: the digits of ``x`` are raised once for all baby steps, which stay modulo QP, as do their
        products and sums; each giant step lowers one polynomial of its sum from QP to Q to switch its key, and the sum
        of all giant steps is lowered once.  Keys: every baby and giant step but 0.
        Source: Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux (Eurocrypt 2021), section 4.
        """

    def raise_modulus(self, x: X) -> X:
        """Of the one tower, each coefficient's residue in [-q_0/2, q_0/2), modulo all L + 1 primes.

        The result encrypts what ``x`` did plus q_0 times a polynomial of small integers.  Scale kept.
        """
