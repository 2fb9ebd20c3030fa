"""The service's log: a line of JSON for each event, on stderr."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import datetime, timezone
from typing import Any, TextIO

from ..machine.text import one_line


def timestamp(seconds: float) -> str:
    """Of seconds since 1970, as ``2026-11-25T16:32:13.250Z``."""
    text = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class EventLog:
    """Writes ``{"time": .., "event": .., ...}``, a line an event, from any thread.

    verbose: -1 faults only, 0 what becomes of keys and jobs too, 1 each request too.
    """

    def __init__(self, stream: TextIO, verbose: int = 0) -> None:
        self._stream, self._verbose = stream, verbose
        self._lock = threading.Lock()

    def fault(self, event: str, **facts: Any) -> None:
        """Something that should not happen."""
        self._write(event, facts)

    def event(self, event: str, **facts: Any) -> None:
        if self._verbose >= 0:
            self._write(event, facts)

    def detail(self, event: str, **facts: Any) -> None:
        if self._verbose >= 1:
            self._write(event, facts)

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        facts = {name: one_line(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        line = json.dumps({"time": timestamp(time.time()), "event": event} | facts)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class LibraryHandler(logging.Handler):
    """Has what libraries log, such as uvicorn, appear as events too."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            facts["traceback"] = logging.Formatter().formatException(record.exc_info)
        (self._log.fault if record.levelno >= logging.ERROR else self._log.event)(record.name, **facts)
