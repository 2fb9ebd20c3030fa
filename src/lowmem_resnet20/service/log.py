"""The service's log: a line of JSON for each event, on stderr."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TextIO

from ..machine.text import one_line

#: For which what comes again is only counted.
REPEAT_SECONDS = 60.0
#: Messages that are told apart meanwhile: of more, how many there were.
_MOST_REPEATED = 1000


def timestamp(seconds: float) -> str:
    """Write seconds since 1970 as ``2026-11-25T16:32:13.250Z``."""
    text = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class EventLog:
    """Writes ``{"time": .., "event": .., ...}``, a line an event, from any thread.

    verbose: -1 faults only, 0 what becomes of keys and jobs too, 1 each request too.
    """

    def __init__(self, stream: TextIO, verbose: int = 0) -> None:
        self._stream, self._verbose = stream, verbose
        self._lock = threading.Lock()
        self._repeated: dict[tuple[str, str], tuple[dict[str, Any], int]] = {}

    def fault(self, event: str, **facts: Any) -> None:
        """Tell of something that should not happen."""
        self._write(event, facts)

    def event(self, event: str, **facts: Any) -> None:
        if self._verbose >= 0:
            self._write(event, facts)

    def detail(self, event: str, **facts: Any) -> None:
        if self._verbose >= 1:
            self._write(event, facts)

    def often(self, event: str, key: str = "", *, fault: bool = False, **facts: Any) -> None:
        """Tell of something that strangers can bring about as often as they like: at once, and, if it comes again
        within a minute, once more at the end of that, with how often it ``came_again``.

        key: the same where it is the same; by default it is the facts that tell.
        """
        if self._verbose < 0 and not fault:
            return
        with self._lock:
            first = not self._repeated
            named = (event, key or json.dumps(facts))
            if named not in self._repeated and len(self._repeated) >= _MOST_REPEATED:
                named, facts = (event, ""), {}
            known, count = self._repeated.get(named, (facts, -1))
            self._repeated[named] = known, count + 1
        if count < 0:
            self._write(event, facts)
        if first:
            later = threading.Timer(REPEAT_SECONDS, self.tell_repeated)
            later.daemon = True
            later.start()

    def tell_repeated(self) -> None:
        """Tell what has come again and was only counted."""
        with self._lock:
            repeated, self._repeated = self._repeated, {}
        for (event, _), (facts, count) in repeated.items():
            if count:
                self._write(event, facts | {"came_again": count})

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        facts = {name: one_line(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        line = json.dumps({"time": timestamp(time.time()), "event": event} | facts)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class _Libraries(logging.Handler):
    """Has what libraries log, such as uvicorn and asyncio, appear as events too, no message too often."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        facts = {"level": record.levelname.lower(), "message": message}
        if record.exc_info:
            facts["traceback"] = logging.Formatter().formatException(record.exc_info)
        key = message.partition("\n")[0]  # what follows may tell where in memory something was
        self._log.often(record.name, key, fault=record.levelno >= logging.ERROR, **facts)


@contextmanager
def telling_of_libraries(log: EventLog) -> Iterator[None]:
    """Have all that a library logs inside this context, or warns of, go to ``log``, from its level of warnings on."""
    handler, root = _Libraries(log), logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
