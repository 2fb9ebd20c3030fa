"""The client's steps, as the commands share them: look at a picture, encrypt it, check and tell a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.text import one_line
from ..model.classification import Classification
from .client import open_client
from .output import Printer, print_classification, print_precision
from .pictures import Each, Group, Item, grouped, pictures_named, read_pixels
from .words import Request

if TYPE_CHECKING:
    import numpy as np

    from ..client.checks import Caution


class Steps:
    """What a request asks of the client; each picture's failure is its own.

    several: whether each picture is told by its name;
    names: of files that the user knows by another than their own.
    """

    def __init__(
        self, request: Request, printer: Printer, several: bool, names: Mapping[Path, str] | None = None
    ) -> None:
        self.request, self.printer = request, printer
        self.client = open_client(request, printer)
        self.set = self.client.set
        self.each = Each(request, printer, several, names)
        self._plain = None
        if request.plain:
            from ..model.plain import PlainNetwork

            self._plain = PlainNetwork(self.client.weights_for("plain"))
        if request.checkpoints:
            self.client.weights_for("checkpoints")

    def groups(self) -> list[Group]:
        """Return the pictures named, in groups that are evaluated together."""
        return grouped(self.request, self.printer, pictures_named(self.request, self.each), self.set)

    def look(self, item: Item) -> None:
        """Read a picture, see what the plain network makes of it, where the weights are at hand, and warn where
        encryption cannot follow."""
        if item.pixels is None:
            item.pixels = read_pixels(self.request, item.path, self.set.architecture)
        if self._plain:
            item.plain = Classification.of(
                self._plain.logits(item.pixels), self.client.card.classes, self._plain.library
            )
        item.foreseen, cautions = self.client.foresee(item.pixels, str(item.path))
        self._warn(item, cautions)

    def encrypt(self, group: Group, output: Path) -> None:
        """Encrypt those of a group that could be read into a file."""
        from ..client.client import Named

        named = [None if i.pixels is None else Named(i.pixels, str(i.path)) for i in group.items]
        with group.timed("encrypt"):
            ciphertext, ids = self.client.encrypt_group(named)
            ciphertext.save(output)
        for item, identity in zip(group.items, ids, strict=True):
            item.id = identity

    def decrypt(self, path: Path, group: str) -> np.ndarray:
        """Return what a result's file holds, which must be of this group: numbers (pictures, classes)."""
        from ..files.envelope import Ciphertext

        return self.client.decrypt_group(Ciphertext.load(path), group)

    def tell(
        self, item: Item, path: Path, logits: np.ndarray, checkpoints: Path | None, extra: Mapping[str, Any]
    ) -> None:
        """Check the logits of a picture that a result's file held, and print them, and the precision by layer where
        there are checkpoints; extra: more for programs."""
        self.client.check_logits(path, logits)
        self._warn(item, self.client.compare(logits, item.foreseen, str(item.path)))
        result = self.client.classify(logits)
        line = item.checked() | dict(extra)
        print_classification(self.request, self.printer, item.path, result, item.plain, line, self.each.several)
        item.told = True
        if checkpoints and item.pixels is not None:
            if self.each.several:
                self.printer.say(one_line(str(item.path)))
            print_precision(self.printer, self.client, checkpoints, item.pixels, item.id)

    def _warn(self, item: Item, cautions: Iterable[Caution]) -> None:
        """Warn at every verbosity: a result that may be wrong is not one to be silent about."""
        for caution in cautions:
            item.warnings.append(caution.message)
            self.printer.warning(*caution)
