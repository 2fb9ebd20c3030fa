"""What stands in files, and is compared between client and server, for choices that both must have made alike.

Only choices are hashed, under names that are written out: a field that is renamed changes nothing, nor does what a
library computes, in whose last bits processors differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

#: A choice, or several.
Choice = int | float | str | Sequence["Choice"] | Mapping[str, "Choice"]


def fingerprint(choices: Mapping[str, Choice]) -> str:
    """Return 16 hexadecimal digits of choices by name, in any order."""
    return hashlib.sha256(json.dumps(choices, sort_keys=True).encode()).hexdigest()[:16]
