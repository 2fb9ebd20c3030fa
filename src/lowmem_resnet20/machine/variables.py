"""What the user asks of this program's engine in the environment.

These variables are its own.  Those of the libraries that it computes with are meant for other programs, and not heeded.
"""

from __future__ import annotations

import os

#: The most threads.
THREADS = "LOWMEM_RESNET20_THREADS"
#: Set to ``avx2``: code for processors without AVX-512, on whatever processor.
VECTORS = "LOWMEM_RESNET20_VECTORS"
AVX2 = "avx2"


def threads_asked() -> int | None:
    """Return the most threads; None where nothing is said, or nothing that can be done."""
    text = os.environ.get(THREADS, "")
    return int(text) if _is_count(text) else None


def only_avx2() -> bool:
    return os.environ.get(VECTORS, "") == AVX2


def misunderstood() -> list[str]:
    """Return a line for each variable whose content is none: it counts as not set."""
    threads, vectors = os.environ.get(THREADS, ""), os.environ.get(VECTORS, "")
    lines = []
    if threads and not _is_count(threads):
        lines.append(f"{THREADS} of the environment is no number of threads, and not heeded: {threads!r}")
    if vectors not in ("", AVX2):
        lines.append(f"{VECTORS} of the environment is not {AVX2}, and not heeded: {vectors!r}")
    return lines


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0
