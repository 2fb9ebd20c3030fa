"""A job as a stream of server-sent events: its state, and the progress of the process that evaluates it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from starlette.concurrency import run_in_threadpool

from ..progress.relay import Event
from .feed import Feed, Run
from .jobs import OVER, Queue, Ticket

HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = ": the job goes on\n\n"


async def events(job: str, queue: Queue, feed: Feed) -> AsyncIterator[str]:
    """The present state, the present run's progress so far, then both as they change; ends after a final state."""
    follower = _Follower(job, feed)
    with feed.listening() as news:
        while not feed.closed:
            news.clear()
            ticket = await run_in_threadpool(queue.get, job)
            if ticket is None:
                return
            for text in follower.catch_up(ticket):
                yield text
            if ticket.state in OVER:
                return
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
            except asyncio.TimeoutError:
                yield _HEARTBEAT


class _Follower:
    """How much of a job one stream has told."""

    def __init__(self, job: str, feed: Feed) -> None:
        self._job, self._feed = job, feed
        self._numbers = count(1)
        self._told: Ticket | None = None
        self._run: Run | None = None
        self._progress = 0

    def catch_up(self, ticket: Ticket) -> list[str]:
        """What is new, in order: of a job that is over, its state comes last."""
        states = [("state", ticket.as_json())] if ticket != self._told else []
        if self._told or ticket.state not in OVER:  # who comes when all is over is told how it ended
            progress = [("progress", event) for event in self._new_progress()]
        else:
            progress = []
        self._told = ticket
        new = [*progress, *states] if ticket.state in OVER else [*states, *progress]
        return [self._text(kind, data) for kind, data in new]

    def _new_progress(self) -> list[Event]:
        present = self._feed.run_of(self._job)
        if present is not None and present is not self._run:
            self._run, self._progress = present, 0
        if self._run is None:
            return []
        new = self._run.events[self._progress :]
        self._progress += len(new)
        return new

    def _text(self, kind: str, data: Any) -> str:
        return f"id: {next(self._numbers)}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
