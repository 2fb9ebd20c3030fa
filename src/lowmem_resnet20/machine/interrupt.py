"""Ending at once on Ctrl-C, leaving nothing behind.

OpenFHE's calls last for seconds, and Python runs a signal handler only between two of its own
instructions.  So the ending signals are blocked and a thread waits for them instead: when one comes,
it runs the registered clean-ups (remove a temporary file, kill the server process) and ends the process
with 128 plus the signal's number: 130 for Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_clean_ups: list[Callable[[], None]] = []
_ending = threading.Event()


@contextmanager
def on_interrupt(clean_up: Callable[[], None]) -> Iterator[None]:
    """Have ``clean_up`` run if the process is interrupted inside this context.

    It runs in another thread while the interrupted work may still be going on, and must be quick.
    """
    _clean_ups.append(clean_up)
    try:
        yield
    finally:
        _clean_ups.remove(clean_up)


def run_clean_ups() -> None:
    """Run the registered clean-ups, the newest first; one that fails does not stop the others."""
    for clean_up in reversed(_clean_ups.copy()):
        with suppress(Exception):
            clean_up()


def wait_if_ending() -> None:
    """Wait for ever if the process is being ended: what fails now fails because of the clean-ups."""
    while _ending.is_set():
        time.sleep(1)


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP end the process at once, cleanly, inside this context.

    A signal that this process was started to ignore (``nohup``) stays ignored.  Enter it before numpy
    or OpenFHE are imported: the threads they start must inherit the blocked signals.
    """
    signals = {s for s in ENDING_SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}
    if not signals:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    done = threading.Event()
    waiter = threading.Thread(target=_wait, args=(signals, done), name="interrupt", daemon=True)
    try:
        waiter.start()
        try:
            yield
        finally:
            done.set()
            assert waiter.ident is not None
            signal.pthread_kill(waiter.ident, min(signals))
            waiter.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(signals: set[signal.Signals], done: threading.Event) -> None:
    number = signal.sigwait(signals)
    if not done.is_set():
        _ending.set()
        run_clean_ups()
        os._exit(128 + number)
