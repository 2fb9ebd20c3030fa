"""Pictures on their way: what is known of each, in groups evaluated together; one that fails stops no other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import (
    CiphertextError,
    EnvironmentFault,
    ExitCode,
    LowmemError,
    PictureError,
    Reported,
    ServerError,
    with_names,
)
from ..model.classification import Classification
from ..progress.display import timed
from ..server.request import Job
from .output import Printer
from .words import DEFAULT_PICTURE, Request

if TYPE_CHECKING:
    import numpy as np

    from ..network.architecture import Architecture
    from ..network.parameters import ParameterSet
    from ..network.ranges import Foreseen

#: Of a set that evaluates groups: fewer pictures take less time one by one.
FEWEST_FOR_A_GROUP = 3


@dataclass
class Item:
    """A picture on its way: what is known of it so far.

    pixels: None until it was read;
    plain: its class in the clear;
    foreseen: it in the plain network, where the weights are at hand;
    warnings: what was said of it;
    id: of its encryption;
    told: whether its result was printed;
    seconds: by step of the protocol, of a group's its share.
    """

    path: Path
    pixels: np.ndarray | None = None
    plain: Classification | None = None
    foreseen: Foreseen | None = None
    warnings: list[str] = field(default_factory=list)
    id: str = ""
    told: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def checked(self) -> dict[str, Any]:
        """Return for programs how far into its range its largest value comes, and where, if that is known; and what was
        said of it."""
        if self.pixels is None:
            return {}
        known = self.foreseen
        reached = {"layer": known.layer, "reached": known.reached} if known else None
        return {"range": reached, "warnings": self.warnings}


@dataclass
class Group:
    """Pictures that are evaluated together; of most sets one alone.

    items: by place;
    job: in the server's request, once they are encrypted;
    seconds: by step of the protocol, of all of them.
    """

    items: list[Item]
    job: Job | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def readable(self) -> list[Item]:
        """Return those that could be read; the places of others stay empty."""
        return [item for item in self.items if item.pixels is not None]

    @property
    def paths(self) -> list[Path]:
        return [item.path for item in self.readable]

    @property
    def files(self) -> dict[Path, str]:
        """Return what the user knows the files of its job as."""
        if self.job is None:
            return {}
        names = ", ".join(map(str, self.paths))
        return {self.job.ciphertext: f"the encryption of {names}", self.job.output: f"the result of {names}"}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Time a step that they take together, and in equal shares."""
        with timed(self.seconds, step):
            yield
        self.share(step)

    def share(self, step: str) -> None:
        """Divide a step's time among the pictures."""
        for item in self.readable:
            item.seconds[step] = self.seconds[step] / len(self.readable)


class Each:
    """Of several pictures, one that fails is reported and the others go on; of one, its error is the command's.

    names: of files that the user knows by another than their own.
    """

    def __init__(
        self, request: Request, printer: Printer, several: bool, names: Mapping[Path, str] | None = None
    ) -> None:
        self.request, self.printer, self.several = request, printer, several
        self._names = {} if names is None else names  # it may be filled later
        self.code = ExitCode.OK
        self._told = ""

    @contextmanager
    def trying(self, *paths: Path, of_job: bool = False) -> Iterator[None]:
        """Try what concerns the pictures of ``paths`` together: an error is told once, to programs of each.

        of_job: the error is what a server says of one job, so it is that job's alone whatever its kind.
        """
        try:
            yield
        except LowmemError as error:
            with_names(error, self._names)
            if not of_job and not isinstance(error, PictureError | CiphertextError | EnvironmentFault | ServerError):
                raise
            for path in paths if self.request.json else ():
                line = {"set": self.request.set_number, "input": self.name(path)}
                self.printer.json(line | {"error": error.message, "exit_code": int(error.exit_code)})
            if not self.several:
                raise
            self.code = self.code or error.exit_code
            if error.message != self._told:  # as of all pictures that a service does not take any more today
                self.printer.error(error)
            self._told = error.message

    def name(self, path: Path) -> str:
        """Return what the user knows a file as."""
        return self._names.get(path, str(path))

    def end(self) -> None:
        """Exit with the code of the first failure."""
        if self.code:
            raise Reported(self.code)


def several_inputs(request: Request) -> bool:
    """Return whether there may be several pictures, so that each is told by its name: a folder counts, of one too."""
    return len(request.inputs) > 1 or any(os.path.isdir(path) for path in request.inputs)


def pictures_named(request: Request, each: Each) -> list[Item]:
    """Return the pictures named, folders opened; a folder that cannot be is reported, and the others go on."""
    from ..model.picture import pictures_in

    items = []
    for named in request.inputs or (DEFAULT_PICTURE,):
        with each.trying(named):
            items += [Item(path) for path in pictures_in(named)]
    return items


def grouped(request: Request, printer: Printer, items: list[Item], set_: ParameterSet) -> list[Group]:
    """Return the pictures in groups that are evaluated together."""
    if set_.pictures > 1 and len(items) < FEWEST_FOR_A_GROUP and request.verbose >= 0:
        worth = f"set {set_.number} takes as long for one picture as for {set_.pictures}"
        printer.say(f"{worth}: for fewer than {FEWEST_FOR_A_GROUP}, set 6 is the better choice")
    return [Group(items[first : first + set_.pictures]) for first in range(0, len(items), set_.pictures)]


def read_pixels(request: Request, path: Path, architecture: Architecture) -> np.ndarray:
    """Return a picture's pixels, as networks of the architecture take them.  Errors: PictureError."""
    from ..model.picture import find_picture, read_picture

    width, colours = architecture.width, architecture.input_channels
    return read_picture(find_picture(path), width=width, resize=request.resize, colours=colours)
