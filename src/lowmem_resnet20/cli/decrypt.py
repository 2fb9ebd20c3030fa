"""The word ``decrypt``: results from files, each with the picture that it answers, by the id of its encryption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CiphertextError, naming
from .named import checkpoints_left, ciphertexts_named, several_ciphertexts
from .output import Printer
from .pictures import Item, pictures_named, read_pixels
from .steps import Steps
from .words import Request

if TYPE_CHECKING:
    import numpy as np

    from ..client.encryptions import Entry


def decrypt(request: Request, printer: Printer) -> None:
    """Decrypt the results named."""
    steps = Steps(request, printer, several_ciphertexts(request))
    tell_results(steps, ciphertexts_named(request))
    steps.each.end()


def tell_results(steps: Steps, results: Sequence[Path]) -> None:
    """Decrypt results' files, and tell what they say of each picture."""
    from ..files.group import group_and_place

    request, each = steps.request, steps.each
    each.several = each.several or steps.set.pictures > 1
    given = pictures_named(request, each) if request.inputs else []
    decrypted: dict[Path, np.ndarray | None] = {}
    for item, path in _paired(steps, results, given):
        with each.trying(path):
            if item.pixels is not None:
                steps.look(item)
            group, place = group_and_place(item.id, steps.set.pictures)
            if path not in decrypted:
                decrypted = {path: None}  # what it fails of is told once, for all of its places
                decrypted[path] = steps.decrypt(path, group)
            numbers = decrypted[path]
            if numbers is not None:
                with naming({path: f"{each.name(path)}, place {place + 1}"} if steps.set.pictures > 1 else {}):
                    steps.tell(item, path, numbers[place], checkpoints_left(request.checkpoints, path), {})


def _paired(steps: Steps, results: Sequence[Path], given: Sequence[Item]) -> Iterator[tuple[Item, Path]]:
    """Yield each result with each picture it answers, found by the id of its encryption: the order of files says
    nothing.

    Without ``given`` pictures a result is named as the client's list of encryptions has it, or by its own file.
    """
    from ..client.encryptions import pixel_digest

    each, encryptions = steps.each, steps.client.encryptions()
    for item in given:
        with each.trying(item.path):
            item.pixels = read_pixels(steps.request, item.path, steps.set.architecture)
            item.id = pixel_digest(item.pixels)
    answered = set()
    for result in results:
        for identity, name in _answered(steps, result, encryptions).items():
            with each.trying(result):
                if not given:
                    yield Item(Path(name), id=identity), result
                    continue
                item = _given(result, given, encryptions.get(identity))
                answered.add(item.path)
                yield Item(item.path, item.pixels, id=identity), result
    for item in given:
        if item.pixels is not None and item.path not in answered:
            with each.trying(item.path):
                raise CiphertextError(f"no result that was given answers {item.path}")


def _answered(steps: Steps, result: Path, encryptions: dict[str, Entry]) -> dict[str, str]:
    """Return names, by id, of the pictures that a result answers: of a group those in the client's list, for other
    places are empty; or, where the list knows none, every place."""
    from ..files.envelope import Ciphertext

    with steps.each.trying(result):
        ids = steps.client.answered(Ciphertext.load(result))
        known = {identity: encryptions[identity].name for identity in ids if identity in encryptions}
        name = steps.each.name(result)
        unknown = [name] if len(ids) == 1 else [f"{name}, place {i + 1}" for i in range(len(ids))]
        return known or dict(zip(ids, unknown, strict=True))
    return {}


def _given(result: Path, given: Sequence[Item], entry: Entry | None) -> Item:
    """Return the one of the given pictures that an encryption is of; of equal ones, the one it was made from."""
    if entry is None:
        raise CiphertextError(
            f"{result} answers a picture that is not in this client's list of encryptions",
            "decrypt it with the key folder that encrypted it, or leave out input",
        )
    same = [item for item in given if item.pixels is not None and item.id == entry.pixels]
    if not same:
        raise CiphertextError(f"{result} answers {entry.name}, which is not among the pictures given")
    return next((item for item in same if str(item.path) == entry.name), same[0])
