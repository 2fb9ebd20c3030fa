"""Who knows of the page: the command line alone, and no server; and one module of it touches keys."""

from __future__ import annotations

import pytest

from imports import imported_modules, imports_of, module_names

PAGE = {name for name in module_names() if name.partition(".")[0] == "page"}


@pytest.mark.parametrize("name", ["server.worker", "service.command", "cluster.worker"])
def test_no_server_knows_of_it(name):
    assert not imported_modules(name) & PAGE


def test_what_serves_the_page_does_not_touch_keys():
    """Only what classifies does, and the command, which sees at the start that they are there."""
    assert {name for name in PAGE if "client" in imports_of(name)} == {"page.classification", "page.command"}
    assert "page.classification" not in imported_modules("page.app")
