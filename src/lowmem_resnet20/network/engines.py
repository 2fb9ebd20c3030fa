"""The engines that evaluate encrypted pictures."""

from __future__ import annotations

#: OpenFHE's evaluator, and the one of this program (:mod:`..native`).
OPENFHE, NATIVE = ENGINES = ("openfhe", "native")
#: What to do on a machine where the native one does not run.
WITH_OPENFHE = "use keys for OpenFHE's evaluator: lowmem-resnet20 generate_keys N engine openfhe"
