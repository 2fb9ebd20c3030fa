"""The command line as ``python -m`` and the installed command start it: nothing of the working directory is run."""

import sys

from .machine.searchpath import trusted_path

sys.path[:] = trusted_path()

from .cli.main import main  # only now is it safe to import anything

if __name__ == "__main__":
    raise SystemExit(main())
