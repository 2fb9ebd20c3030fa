"""The server process: the ``evaluate`` of the command line, in a process of its own.

OpenFHE may end the process on what a client sent; whoever started this one then says so in a line.
"""

from __future__ import annotations

import sys

from .cli import evaluate_here, main

if __name__ == "__main__":
    sys.exit(main(evaluate=evaluate_here))
