"""What can evaluate encrypted pictures."""

from __future__ import annotations

#: OpenFHE's evaluator, and the one of this program (:mod:`..native`).
OPENFHE, NATIVE = ENGINES = ("openfhe", "native")
