"""Who knows of the service's client: the command line alone; and it knows of no secret."""

from __future__ import annotations

import ast

import pytest

from imports import imported_modules, imported_names, module_names, tree

REMOTE = {name for name in module_names() if name.startswith("remote.")}
#: Between them they import all that a server does, and all of this wing.
SERVERS, ENTRIES = ("server.worker", "service.command"), ("remote", "remote.fetching")
SECRET = {"openfhe.secret", "openfhe.native_keys", "cli.passphrase"}
SECRET |= {name for name in module_names() if name.partition(".")[0] == "client"}


@pytest.mark.parametrize("name", SERVERS)
def test_no_server_knows_of_it(name):
    assert not imported_modules(name) & REMOTE


def test_it_knows_of_no_secret():
    assert set(module_names()) > SECRET
    imported = set().union(*map(imported_modules, ENTRIES))
    assert imported > REMOTE and not imported & SECRET


def speaks(node: ast.AST) -> bool:
    """Whether a statement imports what opens connections."""
    names = {alias.name for alias in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
    if isinstance(node, ast.ImportFrom):
        names = {node.module or "", *(f"{node.module}.{name}" for name in names)}
    return bool(names & {"http.client", "urllib.request"} or imported_names(node) & {"httpx", "socket", "requests"})


def test_one_module_of_it_speaks_http():
    found = {name for name in REMOTE for node in ast.walk(tree(name)) if speaks(node)}
    assert found == {"remote.connection"}
