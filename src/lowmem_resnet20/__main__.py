"""``python -m lowmem_resnet20``: the command line, which runs nothing that lies in the working directory."""

import sys

from .machine.searchpath import trusted_path

sys.path[:] = trusted_path()

from .cli.main import main  # only now is it safe to import anything

raise SystemExit(main())
