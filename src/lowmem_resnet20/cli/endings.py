"""How a process ends: every failure as one line on stderr and a documented exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..errors import ExitCode, Reported
from ..machine.faults import explain, trace
from ..machine.interrupt import ends_at_once, wait_if_ending
from .output import Printer


def run(work: Callable[[], None], printer: Printer) -> ExitCode:
    """Do ``work``, with what it prints flushed; returns the process's exit code.  Ctrl-C ends it at once, cleanly."""
    with ExitStack() as held:
        try:
            held.enter_context(ends_at_once())  # for which the system may have no thread
            work()
            printer.results.finish()
        except BrokenPipeError:  # nobody reads the result any more, and nobody needs to hear it
            printer.results.let_go()
            return ExitCode.FAILURE
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for the user
            return _fail(error, printer)
    return ExitCode.OK


def _fail(error: Exception, printer: Printer) -> ExitCode:
    """Print an error and return its exit code."""
    wait_if_ending()
    if traced := trace(error):
        printer.say(traced)
    known = explain(error)
    if not isinstance(known, Reported):
        printer.error(known)
    return known.exit_code
