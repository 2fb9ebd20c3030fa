"""Which picture each result answers, found by the id of its encryption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CiphertextError
from .pictures import Each, Item, read_pixels
from .words import Request

if TYPE_CHECKING:
    from ..client import Client
    from ..client.encryptions import Entry


def pair(
    request: Request, each: Each, client: Client, ciphertexts: Sequence[Path], given: Sequence[Item]
) -> Iterator[tuple[Item, Path]]:
    """Each result with each picture it answers, found by the id of its encryption: the order of files says nothing.

    Without ``given`` pictures a result is named as the client's list of encryptions has it, or by its own file.
    """
    from ..client.encryptions import pixel_digest

    encryptions = client.encryptions()
    for item in given:
        with each.trying(item.path):
            item.pixels = read_pixels(request, item.path)
            item.id = pixel_digest(item.pixels)
    answered = set()
    for ciphertext in ciphertexts:
        for identity, name in _answered(each, client, ciphertext, encryptions).items():
            with each.trying(ciphertext):
                if not given:
                    yield Item(Path(name), id=identity), ciphertext
                    continue
                item = _given(ciphertext, given, encryptions.get(identity))
                answered.add(item.path)
                yield Item(item.path, item.pixels, id=identity), ciphertext
    for item in given:
        if item.pixels is not None and item.path not in answered:
            with each.trying(item.path):
                raise CiphertextError(f"no result that was given answers {item.path}")


def _answered(each: Each, client: Client, path: Path, encryptions: dict[str, Entry]) -> dict[str, str]:
    """Return names, by id, of the pictures that a result answers: of a group those in the client's list, for other
    places are empty; or, where the list knows none, every place."""
    from ..files.envelope import Ciphertext

    with each.trying(path):
        ids = client.answered(Ciphertext.load(path))
        known = {identity: encryptions[identity].name for identity in ids if identity in encryptions}
        name = each.name(path)
        unknown = [name] if len(ids) == 1 else [f"{name}, place {i + 1}" for i in range(len(ids))]
        return known or dict(zip(ids, unknown, strict=True))
    return {}


def _given(ciphertext: Path, given: Sequence[Item], entry: Entry | None) -> Item:
    """The one of the given pictures that an encryption is of; of equal ones, the one it was made from."""
    if entry is None:
        raise CiphertextError(
            f"{ciphertext} answers a picture that is not in this client's list of encryptions",
            "decrypt it with the key folder that encrypted it, or leave out input",
        )
    same = [item for item in given if item.pixels is not None and item.id == entry.pixels]
    if not same:
        raise CiphertextError(f"{ciphertext} answers {entry.name}, which is not among the pictures given")
    return next((item for item in same if str(item.path) == entry.name), same[0])
