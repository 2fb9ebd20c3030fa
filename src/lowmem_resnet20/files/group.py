"""A group of pictures as one file: its ciphertexts as one payload, and the ids of its pictures.

Where a parameter set evaluates pictures one at a time, a group is a picture: its payload is the ciphertext's bytes, and
its id the group's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import CiphertextError

_LENGTH = 8


def join(ciphertexts: Sequence[bytes]) -> bytes:
    """Return one ciphertext as it is; several, each with its length before it."""
    if len(ciphertexts) == 1:
        return ciphertexts[0]
    return b"".join(len(data).to_bytes(_LENGTH, "little") + data for data in ciphertexts)


def split(payload: bytes, count: int, path: Path) -> list[bytes]:
    """Return the ``count`` ciphertexts of a payload that was read from ``path``.  Errors: CiphertextError."""
    if count == 1:
        return [payload]
    ciphertexts, start = [], 0
    for _ in range(count):
        length = int.from_bytes(payload[start : start + _LENGTH], "little")
        start += _LENGTH
        ciphertexts.append(payload[start : start + length])
        start += length
    if start != len(payload):
        raise CiphertextError(f"{path} does not hold a group of {count} ciphertexts")
    return ciphertexts


def picture_id(group: str, place: int, pictures: int) -> str:
    """Return the id of the picture in a place, from 0, of a group of so many; group: the id of its encryption."""
    return group if pictures == 1 else f"{group}.{place + 1}"


def group_and_place(picture: str, pictures: int) -> tuple[str, int]:
    """Return what :func:`picture_id` made an id of; any other text itself, as a group of which no place is told."""
    group, _, place = picture.rpartition(".")
    told = pictures > 1 and place.isdecimal() and 0 < int(place) <= pictures
    return (group, int(place) - 1) if told else (picture, 0)
