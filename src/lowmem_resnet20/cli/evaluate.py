"""Where pictures are evaluated: by a server process here, which may have a cluster do it, or by a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..progress.display import make_progress
from ..server.request import Evaluation, Job
from .access import access
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

        check_service(access(request, printer), set_, weights)


def run(request: Request, asked: Evaluation, printer: Printer) -> ServerRun:
    """Have pictures evaluated where the request says.  Errors: of the whole; those of a picture are in the run."""
    with make_progress(request.verbose, printer.stderr) as progress:
        if request.server:
            from ..remote.evaluation import run_remotely

            return run_remotely(access(request, printer), asked, progress)
        from ..server.process import run_server

        return run_server(asked, progress, printer.stderr)


def started(request: Request, printer: Printer, job: Job) -> Running:
    """Start the evaluation of one job where the request says.  Errors: EnvironmentFault."""
    asked = evaluation(request, [job])
    if request.server:
        from ..remote.evaluation import Remote

        return Remote(access(request, printer), asked)
    from ..server.process import ServerProcess

    return ServerProcess(asked, printer.stderr)
