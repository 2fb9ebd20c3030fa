"""A job as a stream of server-sent events: its state, and the progress of the process that evaluates it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from .feed import Feed, RunEvents
from .jobs import OVER, Ticket

HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = ": the job goes on\n\n"


async def events(job: str, find: Callable[[], Ticket | None], feed: Feed, last_id: str = "") -> AsyncIterator[str]:
    """Yield the present state and the progress of the process that evaluates the job, then both as they change; end
    after a final state, and where the job is not found any more.

    Each event of progress has an id.  last_id: that of the last one that was heard, of this job or one that is
    evaluated with it: what comes after it is told, and all where it is of another process, or none.
    """
    follower = _Follower(job, feed, last_id)
    with feed.listening() as news:
        while not feed.closed:
            news.clear()
            ticket = await run_in_threadpool(find)
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
    """Knows how much of a job one stream has told."""

    def __init__(self, job: str, feed: Feed, last_id: str) -> None:
        self._job, self._feed, self._last_id = job, feed, last_id
        self._told: Ticket | None = None
        self._run: RunEvents | None = None
        self._count = 0

    def catch_up(self, ticket: Ticket) -> list[str]:
        """Return what is new, in order: of a job that is over, its state comes last."""
        states = [_text("state", ticket.as_json())] if ticket != self._told else []
        # Who comes when all is over is told how it ended.
        progress = self._progress() if self._told or ticket.state not in OVER else []
        self._told = ticket
        return [*progress, *states] if ticket.state in OVER else [*states, *progress]

    def _progress(self) -> list[str]:
        present = self._feed.run_of(self._job)
        if present is not None and present is not self._run:
            self._run, self._count = present, present.told_with(self._last_id)
        if self._run is None:
            return []
        first, new = self._count + 1, self._run.events[self._count :]
        self._count += len(new)
        return [_text("progress", event, self._run.id_of(i)) for i, event in enumerate(new, first)]


def _text(kind: str, data: Any, id_: str = "") -> str:
    return (f"id: {id_}\n" if id_ else "") + f"event: {kind}\ndata: {json.dumps(data)}\n\n"
