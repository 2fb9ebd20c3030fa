"""How long things have been of no more use, counted in time that the service ran: no clock is read that can be set."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..machine.files import atomic_write

DAY_SECONDS = 86400


class Retention:
    """Keeps the ages of what is kept for a while, in a file, so that they go on when a service is started again.

    What the machine's clock says makes nothing older or younger.  A file that is lost, or damaged, makes all young.
    """

    def __init__(self, path: Path, kept_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path, self._kept_seconds, self._monotonic = path, kept_seconds, monotonic
        self._before, self._since = _read(path)
        self._started = monotonic()

    def outlived(self, present: Mapping[str, str]) -> list[str]:
        """Return the names of what has been in the same state for as long as it is kept.

        present: the state of each thing that may go, by its name.  What is not in it is forgotten.
        """
        now = self.now()
        known = {name: seen for name, seen in self._since.items() if present.get(name) == seen[0]}
        self._since = {name: known.get(name, (state, now)) for name, state in present.items()}
        return [name for name, (_, since) in self._since.items() if now - since >= self._kept_seconds]

    def save(self) -> None:
        """Write the ages.  Errors: EnvironmentFault; they are then those of the last time, after the next start."""
        atomic_write(self._path, json.dumps({"seconds": self.now(), "since": self._since}).encode())

    def now(self) -> float:
        """Return the seconds that services have run on this folder."""
        return self._before + self._monotonic() - self._started


def _read(path: Path) -> tuple[float, dict[str, tuple[str, float]]]:
    try:
        found: Any = json.loads(path.read_bytes())
        seconds = float(found["seconds"])
        since = {name: (str(state), min(float(then), seconds)) for name, (state, then) in found["since"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return 0.0, {}
    return (seconds, since) if 0 <= seconds < float("inf") else (0.0, {})
