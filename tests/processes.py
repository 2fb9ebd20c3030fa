"""Whether a process has ended, as its parent, or whoever takes its place, may not have noticed yet."""

from __future__ import annotations

import time
from pathlib import Path


def ends(pid: int, seconds: float = 10) -> bool:
    """Within so many seconds: it is gone, or waits only to be noticed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False
