"""The word ``evaluate``; and where the others have pictures evaluated: by a server process here, or by a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import raise_told
from ..progress.display import make_progress
from ..server.request import Evaluation, Job
from .access import access
from .named import (
    check_request_outputs,
    checkpoint_files,
    checkpoints_of,
    ciphertexts_named,
    evaluation,
    into_folder,
    output_files,
    several_ciphertexts,
)
from .output import Printer, print_written
from .pictures import Each
from .words import Request

if TYPE_CHECKING:
    from ..server.process import Running, ServerRun


def evaluate(request: Request, printer: Printer) -> None:
    """Run the network on ciphertexts, in a process of its own: what OpenFHE does to it is told in a line."""
    ciphertexts = ciphertexts_named(request)
    several = several_ciphertexts(request) or into_folder(request)
    outputs = output_files(request.output, [path.name for path in ciphertexts], several)
    jobs = [
        Job(ciphertext, output, checkpoints_of(request.checkpoints, output, several))
        for ciphertext, output in zip(ciphertexts, outputs, strict=True)
    ]
    check_request_outputs(request, [*outputs, *checkpoint_files(request, jobs)], ciphertexts)
    server = run(request, evaluation(request, jobs), printer)
    each = Each(request, printer, several)
    for job, line in zip(jobs, server.pictures, strict=True):
        with each.trying(job.ciphertext, of_job=True):
            raise_told(line)
            seconds = line["seconds"] if several else server.seconds
            print_written(request, printer, "ciphertext", job.output, seconds, peak_bytes=server.peak_bytes)
    each.end()


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
