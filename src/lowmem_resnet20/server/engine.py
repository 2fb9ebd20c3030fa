"""Engines as the server sees them: a key folder that has been opened, and the evaluator that uses its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..network.evaluator import Evaluator

X = TypeVar("X")


class Engine(Protocol[X]):
    """Ciphertexts ``X`` as bytes, and the evaluator that works on them.

    Two implementations: :class:`..openfhe.engine.OpenfheEngine` and :class:`..native.engine.NativeEngine`.
    """

    @property
    def evaluator(self) -> Evaluator[X]: ...

    def read(self, payload: bytes, path: Path) -> X:
        """Read a ciphertext from the bytes of ``path``, of which nothing is believed: someone else may have sent them.

        Errors: CiphertextError; EnvironmentFault.
        """

    def form(self, payload: bytes) -> Any:
        """Return how the files of whoever sent these bytes begin, which were :meth:`read`: what is computed from them
        is written in that form, whatever others sent."""

    def write(self, x: X, form: Any) -> bytes:
        """Return the bytes that :meth:`read` makes the same ciphertext of."""

    def write_answer(self, x: X, form: Any) -> bytes:
        """Return the bytes of the same values for the client, on no more primes than they need."""

    def warnings(self) -> list[tuple[str, str]]:
        """Return what the machine lacks and the work goes on without: messages, each with a hint."""

    def close(self) -> None:
        """Let go of keys and memory."""
