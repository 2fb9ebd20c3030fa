"""Where modules are looked for, without the working directory.

``python -m`` and an empty entry in PYTHONPATH put the working directory there, and a ``random.py`` that happens to lie
in it would be run.  This module imports nothing that is not loaded already, for it is what keeps such files from being
run.
"""

import os
import site
import sys


def trusted_path() -> list[str]:
    """Return ``sys.path`` without the working directory, unless packages are installed there."""
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    try:
        here = {"", os.getcwd(), os.path.realpath(os.getcwd())}
    except OSError:  # it has been removed
        here = {""}
    return [
        entry for entry in sys.path if entry in installed or (entry not in here and os.path.realpath(entry) not in here)
    ]
