"""Where pictures are evaluated: by a server process here, which may have a cluster do it, or by a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..progress.display import Progress, make_progress
from ..server.request import Evaluation, Job
from .named import evaluation
from .output import Printer
from .words import Request

if TYPE_CHECKING:
    from ..network.parameters import ParameterSet
    from ..network.weights import Weights
    from ..server.process import Running, ServerRun


def check(request: Request, set_: ParameterSet, weights: Weights, printer: Printer) -> None:
    """Before anything is encrypted: that a service which the request names is there, and computes what is asked.

    Errors: as :func:`..remote.evaluation.check_service`.
    """
    if request.server:
        from ..remote.evaluation import check_service

        check_service(request, set_, weights, printer)


def run(request: Request, asked: Evaluation, printer: Printer) -> ServerRun:
    """Have pictures evaluated where the request says.  Errors: of the whole; those of a picture are in the run."""
    with make_progress(request.verbose, printer.stderr) as progress:
        if request.server:
            from ..remote.evaluation import run_remotely

            return run_remotely(request, asked, progress, printer)
        from ..server.process import run_server

        return run_server(asked, progress, printer.stderr)


def started(request: Request, printer: Printer, job: Job) -> Running:
    """Start the evaluation of one job where the request says.  Errors: EnvironmentFault."""
    asked = evaluation(request, [job])
    if request.server:
        return _Remote(request, printer, asked)
    from ..server.process import ServerProcess

    return ServerProcess(asked, printer.stderr)


@dataclass(frozen=True)
class _Remote:
    """An evaluation by a service, which begins when it is heard."""

    request: Request
    printer: Printer
    asked: Evaluation

    def converse(self, progress: Progress) -> ServerRun:
        from ..remote.evaluation import run_remotely

        return run_remotely(self.request, self.asked, progress, self.printer)

    def kill(self) -> None:
        """Leave the job where it is."""
