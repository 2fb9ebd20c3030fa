"""Showing that work goes on: which stage and layer, for how long, in how much memory.

Three displays with one interface: ``SilentProgress``, ``LineProgress`` (a line as each step ends) and
``RichProgress`` (one live line on a terminal).  All keep the time of each step in ``times``.  They write
to stderr only; results never pass through here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TextIO

from .interrupt import on_interrupt

if TYPE_CHECKING:
    from rich.text import Text


class Progress(AbstractContextManager):
    """Keeps the time of each step; the displays below it say what is shown.

    ``clock`` returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._title = ""
        self._step: tuple[str, str] | None = None
        self._started = self._step_started = clock()
        self._times: list[tuple[str, str, float]] = []

    @property
    def times(self) -> list[tuple[str, str, float]]:
        """Stage, name and seconds of each step that has ended, in order."""
        return list(self._times)

    @property
    def elapsed(self) -> float:
        """Seconds since ``start``."""
        return self._clock() - self._started

    def start(self, title: str) -> None:
        """A piece of work begins, such as "generating keys"."""
        self._end_step()
        self._title = title
        self._started = self._clock()
        self._show_start()

    def step(self, stage: str, name: str) -> None:
        """A layer or operation of a stage begins, and the one before it has ended."""
        self._end_step()
        self._step = (stage, name)
        self._step_started = self._clock()

    def message(self, text: str) -> None:
        """Say something to the user."""

    def note(self, key: str, value: object) -> None:
        """A figure worth knowing, such as the level of a ciphertext."""
        self.message(f"{key}: {value}")

    def close(self) -> None:
        """The work has ended, well or not; the display goes away.  May be called twice."""
        self._end_step()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end_step(self) -> None:
        if self._step is not None:
            stage, name = self._step
            self._step = None
            seconds = self._clock() - self._step_started
            self._times.append((stage, name, seconds))
            self._show_step(stage, name, seconds)

    def _show_start(self) -> None:
        """Display that ``start`` was called."""

    def _show_step(self, stage: str, name: str, seconds: float) -> None:
        """Display that a step has ended."""


class SilentProgress(Progress):
    """Shows nothing."""


class LineProgress(Progress):
    """A plain line as each step ends: elapsed time, stage, name, seconds, resident memory."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._stream = stream

    def message(self, text: str) -> None:
        self._write(text)

    def _show_start(self) -> None:
        self._write(self._title)

    def _show_step(self, stage: str, name: str, seconds: float) -> None:
        memory = format_bytes(resident_bytes())
        self._write(f"[{self.elapsed:7.1f} s] {stage:<10} {name:<28} {seconds:7.2f} s  {memory:>10}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class RichProgress(Progress):
    """One live line on a terminal: title, stage, step, elapsed time, resident memory.  Gone when closed."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(clock)
        self._console = Console(file=stream, force_terminal=True)
        self._live = Live(
            get_renderable=self._line,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._interrupted = on_interrupt(self._show_cursor)
        self._shown = False

    def step(self, stage: str, name: str) -> None:
        super().step(stage, name)
        if self._shown:
            self._live.refresh()

    def message(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

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

    def _show_cursor(self) -> None:
        self._console.file.write("\r\x1b[K\x1b[?25h")
        self._console.file.flush()

    def _line(self) -> Text:
        from rich.text import Text

        step = self._step
        parts = [self._title, *(step or ()), format_seconds(self.elapsed), format_bytes(resident_bytes())]
        return Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")


def make_progress(verbose: int, stream: TextIO) -> Progress:
    """The display for a verbosity: -1 none, 0 live on a terminal and none elsewhere, 1 and 2 lines."""
    if verbose >= 1:
        return LineProgress(stream)
    if verbose == 0 and stream.isatty():
        return RichProgress(stream)
    return SilentProgress()


def resident_bytes() -> int:
    """Memory of this process that is in RAM now, in bytes (Linux)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """The most memory this process has had in RAM, in bytes (Linux).

    Read from VmHWM: ``getrusage`` of a new process starts from the peak of the one that started it.
    """
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def format_bytes(count: int) -> str:
    """``10523000000`` as ``9.80 GiB``; MiB below a gibibyte."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.2f} GiB"
    return f"{count / (1 << 20):.0f} MiB"


def format_seconds(seconds: float) -> str:
    """``512.34`` as ``8 min 32 s``; ``12.3 s`` below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
