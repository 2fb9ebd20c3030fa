"""Progress of an evaluation as the page shows it: which steps of the network have ended, and which one goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TextIO

from ..network.parameters import ParameterSet
from ..network.resnet20 import plan
from ..progress.display import Progress, Step
from .session import Run

#: What goes before the stage where several are evaluated together, as a service may do.
_LABEL = re.compile(r"(?:group )?\d+/\d+ ")


def steps_of(set_: ParameterSet) -> list[tuple[str, str]]:
    """Return stage and name of all steps of the network, in order."""
    return [step for steps in plan(set_).steps.values() for step in steps]


class LayerProgress(Progress):
    """Notes the steps in one run after the other, calls ``changed`` each time, and lets ``also`` show the same.

    The times of steps are kept from one run to the next, so that of the second the rest is known from the start.
    """

    def __init__(self, steps: Sequence[tuple[str, str]], changed: Callable[[Run], None], also: Progress) -> None:
        super().__init__()
        self._places = {step: place for place, step in enumerate(steps)}
        self._changed, self._also = changed, also
        self._run: Run | None = None

    def follow(self, run: Run | None) -> None:
        """Take what is told from now on as of this run."""
        self._run = run
        if run:
            run.rest = lambda: self.rest if self._run is run else None

    def start(self, title: str) -> None:
        super().start(title)
        self._also.start(title)

    def expect(self, steps: Sequence[Step]) -> None:
        """Count steps that do not come as done before, by an evaluation that is gone on with."""
        super().expect(steps)
        self._also.expect(steps)
        coming = {self._place(step.stage, step.name) for step in steps} - {None}
        if self._run and coming:
            self._run.done = frozenset(self._places.values()) - coming
            self._changed(self._run)

    def step(self, stage: str, name: str) -> None:
        super().step(stage, name)
        self._also.step(stage, name)
        if self._run:
            place = self._place(stage, name)
            self._run.now, self._run.doing = place, f"{stage}: {name}" if place is None else name
            self._changed(self._run)

    def message(self, text: str) -> None:
        self._also.message(text)
        self._say(text)

    def pass_on(self, text: str, stream: TextIO) -> None:
        self._also.pass_on(text, stream)
        self._say(text)

    def close(self) -> None:
        super().close()
        self._also.close()

    def _say(self, text: str) -> None:
        if self._run and text.strip():
            self._run.doing = text.strip()
            self._changed(self._run)

    def _place(self, stage: str, name: str) -> int | None:
        return self._places.get((_LABEL.sub("", stage, count=1), name))

    def _show_step(self, stage: str, name: str, seconds: float) -> None:
        place = self._place(stage, name)
        if self._run and place is not None:
            self._run.done |= {place}
