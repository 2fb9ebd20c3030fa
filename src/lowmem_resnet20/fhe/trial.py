"""Loads a ciphertext in a process that may die of it.

OpenFHE trusts what it reads: of bytes that are no ciphertext it may abort, or ask for any amount of memory.  So whoever
receives a ciphertext has it loaded, and computed with a little, in a child process first.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from ..errors import CiphertextError
from ..machine import child

#: What the child may take, bytes of address space and seconds: many times what a ciphertext needs.
MOST_BYTES = 8 << 30
MOST_SECONDS = 120


def check_ciphertext(path: Path, context: Path) -> None:
    """Errors: CiphertextError if the bytes in ``path`` are no ciphertext of the context in the file ``context``."""
    command = child.command("fhe.trial", str(context), str(path))
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CiphertextError(f"{path} takes more than {MOST_SECONDS} s to load") from None
    if done.returncode:
        raise CiphertextError(f"{path} holds no ciphertext of these parameters", "make it again")


def _try(context_path: Path, path: Path) -> None:
    """Fail, one way or another, unless ``path`` can be computed with."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from .ciphertexts import load_payload
    from .context import read_context

    context = read_context(context_path)
    ciphertext = load_payload(path)
    if ciphertext.NumberCiphertextElements() != 2 or ciphertext.GetNoiseScaleDeg() not in (1, 2):
        raise ValueError("not a ciphertext as this program leaves it")
    slots, level = ciphertext.GetSlots(), ciphertext.GetLevel()
    ones = context.MakeCKKSPackedPlaintext([1.0] * slots, 1, level, None, slots)
    context.Compress(context.EvalMult(ciphertext, ones), 1)  # refuses other primes, slots or levels than the context's


if __name__ == "__main__":
    _try(Path(sys.argv[1]), Path(sys.argv[2]))
