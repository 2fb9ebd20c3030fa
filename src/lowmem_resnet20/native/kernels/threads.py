"""How many processors the work may use."""

from __future__ import annotations

import os

from ...machine.controlgroups import processors_granted
from ...machine.variables import threads_asked


def available_processors() -> int:
    """Processors this process may use: the least of its affinity, each control group's quota rounded up, and what the
    user asks for in the environment; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        allowed = os.cpu_count() or 1
    return min([allowed, *processors_granted(), threads_asked() or allowed])
