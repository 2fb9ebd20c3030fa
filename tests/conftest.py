"""What the tests share: ``--full``, and the command line run in this process."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from lowmem_resnet20.cli.main import main

ROOT = Path(__file__).parents[1]
if "--full" not in sys.argv:  # before another folder's conftest.py imports OpenFHE, which sets it otherwise
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run at full size (12 GiB of memory), and fuzz longer")


def pytest_configure(config: pytest.Config) -> None:
    """Fuzz tests that name no number of inputs try so many.  On small rings OpenFHE's threads wait for one another more
    than they help; and a run that was started in the background, or by nohup, ignores signals that its children must
    not."""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)
    settings.register_profile("quick", max_examples=50, deadline=None)
    settings.register_profile("full", max_examples=2000, deadline=None)
    settings.load_profile("full" if config.getoption("--full") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="needs --full"))


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """``run("load_keys", "1")``: the command line with streams that are not terminals."""

    def run_main(*words: str) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        code = main(words, out, err)
        return Outcome(int(code), out.getvalue(), err.getvalue())

    return run_main


@pytest.fixture
def inputs() -> Path:
    """The folder of example pictures."""
    return ROOT / "inputs"
