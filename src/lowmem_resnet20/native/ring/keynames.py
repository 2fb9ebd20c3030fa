"""What switching keys are called: by the rotation or other automorphism that they are for."""

from __future__ import annotations

import re

RELINEARISATION, CONJUGATION = "relinearisation", "conjugation"
_ROTATION = "rotation-"
_NAME = re.compile(rf"{RELINEARISATION}|{CONJUGATION}|{_ROTATION}[1-9][0-9]{{0,5}}")


def rotation_name(step: int, dimension: int) -> str:
    """Return the name of the key that rotates slots to the left by ``step``."""
    return f"{_ROTATION}{step % (dimension // 2)}"


def rotation_step(name: str) -> int:
    """Return the steps to the left that a rotation's key is for, 0 for another key."""
    return int(name.removeprefix(_ROTATION)) if name.startswith(_ROTATION) else 0


def is_key_name(name: str) -> bool:
    """Return whether a key can be called so."""
    return _NAME.fullmatch(name) is not None


def key_file(name: str) -> str:
    """Return the name of a key's file."""
    return f"{name}.key"


def automorphism(name: str, dimension: int) -> int:
    """Return g of the automorphism X -> X^g that a key is for: 5^step, -1 for conjugation, 1 for none."""
    return 2 * dimension - 1 if name == CONJUGATION else pow(5, rotation_step(name), 2 * dimension)
