"""Whether the machine does anything else while something is measured (Linux)."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

from lowmem_resnet20.native.kernels.threads import available_processors

PROC = Path("/proc")
#: A process is busy from this part of a core on; a machine is, where what cannot be seen takes twice that.
BUSY = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


def others(seconds: float = 3.0) -> dict[str, float]:
    """Other processes that take more than BUSY of a core, looked at for so long, by name and id; and, where all
    together take more than twice that and none alone, the sum."""
    before, all_before = _processes(), _machine_seconds()
    time.sleep(seconds)
    after, all_after = _processes(), _machine_seconds()
    shares = {name: (spent - before[name]) / seconds for name, spent in after.items() if name in before}
    found = {name: share for name, share in shares.items() if share > BUSY}
    total = (all_after - all_before) / seconds
    return found if found or total < 2 * BUSY else {"all together": total}


def wait(patience: float) -> dict[str, float]:
    """Wait until nothing else runs, at most so many seconds; returns what still does."""
    ends = time.monotonic() + patience
    while (found := others()) and time.monotonic() < ends:
        pass
    return found


@dataclass
class Watch:
    """From its making on, what others take of the processors."""

    _started: float = field(default_factory=lambda: time.monotonic())
    _machine: float = field(default_factory=lambda: _machine_seconds())
    _own: float = field(default_factory=lambda: _own_seconds())

    def share(self) -> float:
        """Return the others' share of all processors' time, in [0, 1].

        The host's is included, where it takes time from a virtual machine.
        """
        elapsed = time.monotonic() - self._started
        taken = _machine_seconds() - self._machine - (_own_seconds() - self._own)
        return min(1.0, max(0.0, taken / elapsed / available_processors()))


def _own_seconds() -> float:
    """Processor time of this process and of all its children that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _machine_seconds() -> float:
    """Processor time that the machine has spent on anything since it started, and that was stolen from it."""
    line, *_ = (PROC / "stat").read_text().splitlines()
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, line.split()[1:])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _processes() -> dict[str, float]:
    """Processor time of every process but this one, by name and id."""
    found = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            before, _, after = stat.read_text(errors="replace").rpartition(")")
        except OSError:  # it has ended
            continue
        number, _, name = before.partition(" (")
        if int(number) != os.getpid():
            fields = after.split()
            found[f"{name} (process {number})"] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found
