"""numba's settings, which this program chooses and nothing else.

numba takes them from the environment's NUMBA_... and, where PyYAML is installed, from ``.numba_config.yaml`` in the
working directory: when it is imported, and again whenever it compiles.  Both are meant for other programs, and whoever
writes that file would choose, among much else, which files are loaded as compiled code.  So the import finds neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_SETTINGS = "numba.core.config"
_FILE = ".numba_config.yaml"
#: What these variables' names begin with: llvmlite's are of the code that numba hands to it, the last is a profiler's.
_VARIABLES = ("NUMBA_", "LLVMLITE_", "VS_PROFILER")


def shield() -> None:
    """Give whoever imports numba from now on the settings that it comes with."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in ("llvmlite", "numba"):
            for name in [name for name in os.environ if name.startswith(_VARIABLES)]:
                del os.environ[name]
        if fullname != _SETTINGS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, InspectLoader):
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads the settings with an empty name for their file, of which there is none."""

    def __init__(self, loader: InspectLoader) -> None:
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        code: Any = self._loader.get_code(module.__name__)
        if _FILE not in code.co_consts:
            raise ImportError(f"this numba reads its settings from elsewhere than {_FILE}")
        constants = tuple("" if constant == _FILE else constant for constant in code.co_consts)
        exec(code.replace(co_consts=constants), vars(module))  # noqa: S102
        vars(module)["reload_config"] = lambda: None  # the environment may change
