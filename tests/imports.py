"""Which modules of the package import which, read from their source: also what a function imports when it is called."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import lowmem_resnet20

PACKAGE = Path(lowmem_resnet20.__file__).parent


def module_names() -> list[str]:
    """Every module below the package: ``cli``, ``openfhe.context`` ..; a package by its name."""
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py"))]
    names = [".".join(path.parts).removesuffix("__init__").rstrip(".") for path in paths]
    return [name for name in names if name]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(_path(name).read_text())


@cache
def imports_of(name: str) -> set[str]:
    """The modules of the package that this one imports itself, at any depth of its source."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = _base(name, node.level)
            stem = ".".join(filter(None, (base, node.module)))
            found |= {stem, *(f"{stem}.{alias.name}".lstrip(".") for alias in node.names)}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lowmem_resnet20"):
            raise AssertionError(f"{name} imports {node.module} by its full name")
        elif isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names if alias.name.startswith("lowmem_resnet20.")]
            assert not whole, f"{name} imports {whole[0]} by its full name"
    return {module for module in found if module and _path(module).exists()}


def imported_names(node: ast.AST) -> set[str]:
    """The packages from elsewhere that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    return {(node.module or "").partition(".")[0]} if isinstance(node, ast.ImportFrom) and not node.level else set()


def imported_modules(name: str) -> set[str]:
    """The modules of the package that this one imports, directly or not, itself among them."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports_of(module)
    return found


def loaded_modules(name: str) -> set[str]:
    """Those of :func:`imported_modules`, with the packages that they are in, and what these import."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module and module not in found:
            found.add(module)
            waiting += [*imports_of(module), module.rpartition(".")[0]]
    return found


def _path(name: str) -> Path:
    path = PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _base(name: str, level: int) -> str:
    parts = name.split(".")
    if _path(name).name != "__init__.py":
        parts = parts[:-1]
    return ".".join(parts[: len(parts) - (level - 1)])
