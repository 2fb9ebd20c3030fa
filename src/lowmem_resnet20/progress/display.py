"""Showing that work goes on: which stage and layer, for how long, for how long yet, in how much memory.

Three displays with one interface: ``SilentProgress``, ``LineProgress`` (a line as each step ends) and
``RichProgress`` (one live line on a terminal).  All keep the time of each step in ``times``.  They write
to stderr only; results never pass through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ..machine.interrupt import on_interrupt
from ..machine.memory import resident_bytes
from .streams import reports, shows_more_than_text

if TYPE_CHECKING:
    from rich.text import Text


#: A rest is estimated once steps like so many of those to come have been seen.
SEEN_BEFORE_ESTIMATE = 0.75
#: Columns for a step's stage, or as many as the longest that is expected needs.
_STAGE_WIDTH = 10


@dataclass(frozen=True)
class Step:
    """A step that will come.  Those of one ``kind`` take about as long for each unit of ``size``."""

    stage: str
    name: str
    kind: str
    size: float = 1.0


class Ended(NamedTuple):
    """A step that has ended, how long it took and the memory that the process had in RAM at its end."""

    stage: str
    name: str
    seconds: float
    resident_bytes: int


class Progress(AbstractContextManager):
    """Keeps the time of each step; the displays below it say what is shown.

    ``clock`` returns seconds that only grow; ``resident`` the memory in RAM of the process that does the work.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.resident: Callable[[], int] = resident_bytes
        self._clock = clock
        self._title = ""
        self._step: tuple[str, str] | None = None
        self._started = self._step_started = clock()
        self._times: list[Ended] = []
        self._coming: list[Step] = []
        self._now: Step | None = None
        self._paces: dict[str, float] = {}

    @property
    def times(self) -> list[Ended]:
        """Return the steps that have ended, in order."""
        return list(self._times)

    @property
    def elapsed(self) -> float:
        """Return the seconds since ``start``."""
        return self._clock() - self._started

    @property
    def rest(self) -> float | None:
        """Estimate the seconds to the end, by the last step of each kind; None while too few kinds have been seen."""
        now = self._now  # a live display asks from another thread, while the next step may begin
        ahead = [*self._coming, *([now] if now else [])]
        known = [step for step in ahead if step.kind in self._paces]
        if not known or len(known) < SEEN_BEFORE_ESTIMATE * len(ahead):
            return None
        total = sum(step.size * self._paces[step.kind] for step in known)
        spent = self._clock() - self._step_started if now else 0.0
        return max(total - spent, 0.0)

    def start(self, title: str) -> None:
        """Begin a piece of work, such as "generating keys"."""
        self._end_step()
        self._title, self._coming = title, []
        self._started = self._clock()
        self._show_start()

    def expect(self, steps: Sequence[Step]) -> None:
        """Say which steps will come, in order; from then on the rest can be estimated."""
        self._coming = list(steps)

    def step(self, stage: str, name: str) -> None:
        """Begin a layer or operation of a stage; the one before it has ended."""
        self._end_step()
        self._step = (stage, name)
        for i, planned in enumerate(self._coming):
            if (planned.stage, planned.name) == self._step:
                self._now, self._coming = planned, self._coming[i + 1 :]
                break
        self._step_started = self._clock()

    def forget_paces(self) -> None:
        """Forget how long steps took that were told after they had ended: it says nothing of those to come."""
        self._paces.clear()

    def message(self, text: str) -> None:
        """Say something to the user."""

    def pass_on(self, text: str, stream: TextIO) -> None:
        """Write what someone else says to ``stream``, where it does not disturb the display."""
        stream.write(text)

    def clear_line(self) -> None:
        """Make room for a line that is written as the process ends."""

    def close(self) -> None:
        """End the work, done or not, and the display.  May be called twice."""
        self._end_step()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end_step(self) -> None:
        if self._step is not None:
            stage, name = self._step
            self._step = None
            seconds = self._clock() - self._step_started
            self._times.append(Ended(stage, name, seconds, self.resident()))
            if self._now:
                self._paces[self._now.kind] = seconds / self._now.size
                self._now = None
            self._show_step(stage, name, seconds)

    def _show_start(self) -> None:
        """Display that ``start`` was called."""

    def _show_step(self, stage: str, name: str, seconds: float) -> None:
        """Display that a step has ended."""


class SilentProgress(Progress):
    """Shows nothing."""


class ToldProgress(Progress):
    """Calls ``told(stage, name)`` as each step begins."""

    def __init__(self, told: Callable[[str, str], object]) -> None:
        super().__init__()
        self._told = told

    def step(self, stage: str, name: str) -> None:
        super().step(stage, name)
        self._told(stage, name)


#: How progress is asked for: a display, or what is called with stage and name as each step begins; None: not at all.
Shown = Progress | Callable[[str, str], object] | None


def progress_of(shown: Shown) -> Progress:
    """Return the display that is asked for."""
    if isinstance(shown, Progress):
        return shown
    return SilentProgress() if shown is None else ToldProgress(shown)


class LineProgress(Progress):
    """A plain line as each step ends: elapsed time, stage, name, seconds, resident memory, estimated rest."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._stream = stream
        self._width = _STAGE_WIDTH

    def expect(self, steps: Sequence[Step]) -> None:
        super().expect(steps)
        self._width = max([_STAGE_WIDTH, *(len(step.stage) for step in steps)])

    def message(self, text: str) -> None:
        self._write(text)

    def _show_start(self) -> None:
        self._write(self._title)

    def _show_step(self, stage: str, name: str, seconds: float) -> None:
        memory = format_bytes(self.resident())
        rest = self.rest
        left = "" if rest is None else f"  {format_seconds(rest)} left"
        self._write(f"[{self.elapsed:7.1f} s] {stage:<{self._width}} {name:<28} {seconds:7.2f} s  {memory:>10}{left}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class RichProgress(Progress):
    """One live line on a terminal: stage, step, elapsed time, estimated rest, memory, title.  Gone when closed."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(clock)
        self._shown = self._left = False
        self._console = Console(file=stream, force_terminal=True)
        self._live = Live(
            get_renderable=self._line,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._interrupted = on_interrupt(self._leave)

    def step(self, stage: str, name: str) -> None:
        super().step(stage, name)
        if self._shown:
            self._live.refresh()

    def message(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def pass_on(self, text: str, stream: TextIO) -> None:
        if self._shown:
            self._console.out(text, highlight=False, end="")
        else:
            super().pass_on(text, stream)

    def close(self) -> None:
        super().close()
        if self._shown:
            self._shown = False
            self._live.stop()
            self._interrupted.__exit__(None, None, None)

    def _show_start(self) -> None:
        if not self._shown:
            self._shown = True
            self._interrupted.__enter__()
            self._live.start()
        self._live.refresh()

    def clear_line(self) -> None:
        self._console.file.write("\r\x1b[K")
        self._console.file.flush()

    def _leave(self) -> None:
        """Clear the line as the process ends, for good: it is still drawn anew by a thread."""
        self._left = True
        self._console.file.write("\r\x1b[K\x1b[?25h")
        self._console.file.flush()

    def _line(self) -> Text:
        from rich.text import Text

        if self._left:
            return Text()
        (stage, name), rest = self._step or ("", self._title), self.rest
        times = [format_seconds(self.elapsed), *([] if rest is None else [f"{format_seconds(rest)} left"])]
        where = [name] if name.startswith(stage) else [stage, name]
        after = [self._title] if self._step else []  # last, for a narrow terminal cuts the end off
        return Text(
            " · ".join([*where, *times, format_bytes(self.resident()), *after]), no_wrap=True, overflow="ellipsis"
        )


def make_progress(verbose: int, stream: TextIO | None) -> Progress:
    """Return the display for a verbosity: -1 none, 0 live on a terminal and none elsewhere, 1 and 2 lines.

    It goes on without showing anything once the stream (None: closed) cannot be written to.
    """
    stream = reports(stream)
    if verbose >= 1:
        return LineProgress(stream)
    if verbose == 0 and shows_more_than_text(stream):
        return RichProgress(stream)
    return SilentProgress()


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Note in ``seconds`` what a step of this name took."""
    started = time.monotonic()
    yield
    seconds[step] = time.monotonic() - started


def format_bytes(count: int) -> str:
    """Write ``10523000000`` as ``9.80 GiB``; MiB below a gibibyte."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.2f} GiB"
    return f"{count / (1 << 20):.0f} MiB"


def format_seconds(seconds: float) -> str:
    """Write ``512.34`` as ``8 min 32 s``; ``12.3 s`` below a minute, ``5 h 12 min`` from an hour on."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
