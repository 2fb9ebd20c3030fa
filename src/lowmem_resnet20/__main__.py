"""``python -m lowmem_resnet20``: the command line."""

from .cli import main

raise SystemExit(main())
