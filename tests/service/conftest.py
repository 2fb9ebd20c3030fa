"""A service on a folder of its own, for each test."""

from __future__ import annotations

import pytest

from serving import Clock, FakeWorker, serving


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(tmp_path):
    """``with serve(waiting_jobs=2) as served``: each time on the same store, as a service that is started again."""

    def start(**limits: int):
        return serving(tmp_path / "store", **limits)

    FakeWorker.reset()
    return start


@pytest.fixture
def served(serve):
    with serve() as served:
        yield served
