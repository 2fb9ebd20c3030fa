"""What decrypted logits say: the class of a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CiphertextError


@dataclass(frozen=True)
class Classification:
    """A class, as logits name it.

    logits: (classes,);
    index, label: of the largest, and the name of its class;
    by: the library that computed them in the clear.
    """

    logits: tuple[float, ...]
    index: int
    label: str
    by: str = ""

    @classmethod
    def of(cls, logits: Iterable[float], classes: Sequence[str], by: str = "") -> Classification:
        """Classify.  classes: their names.  Errors: CiphertextError if a logit is not a finite number."""
        values = tuple(float(value) for value in logits)
        if not all(map(math.isfinite, values)):
            raise CiphertextError("the decrypted logits are not finite numbers", "was it made with other keys?")
        index = max(range(len(values)), key=values.__getitem__)
        return cls(values, index, classes[index], by)

    def as_json(self) -> dict[str, Any]:
        """Return the fields that programs are told."""
        by = {"by": self.by} if self.by else {}
        return {"class": self.label, "index": self.index, "logits": list(self.logits)} | by

    def worst_difference(self, other: Classification) -> float:
        """Return the greatest difference of two logits of the same class."""
        return max(abs(a - b) for a, b in zip(self.logits, other.logits, strict=True))
