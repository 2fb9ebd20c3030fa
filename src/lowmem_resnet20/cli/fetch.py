"""What is left at a service: the words ``fetch``, ``cancel`` and ``forget_keys``."""

from __future__ import annotations

from pathlib import Path

from ..errors import PROGRAM, raise_told
from ..machine.files import private_folder
from ..progress.display import SilentProgress, make_progress
from .access import access
from .decrypt import tell_results
from .named import key_folder
from .output import Printer
from .pictures import Each
from .steps import Steps
from .words import Request


def fetch(request: Request, printer: Printer) -> None:
    """Decrypt what a service has evaluated; what decrypting needs is looked at first."""
    from ..remote.fetching import fetch

    results: dict[Path, str] = {}
    steps = Steps(request, printer, len(request.jobs) > 1, results)
    steps.client.unlock()
    with private_folder(f"{PROGRAM}-") as temporary:
        with make_progress(request.verbose, printer.stderr) as progress:
            fetched = fetch(access(request, printer), steps.set, request.jobs, temporary, progress)
        for line in fetched:
            with steps.each.trying(Path(line["job"]), of_job=True):
                raise_told(line)
                results[line["output"]] = line["job"]
        if results:
            tell_results(steps, list(results))
    steps.each.end()


def cancel(request: Request, printer: Printer) -> None:
    """End jobs that are not over."""
    from ..network.parameters import parameter_set
    from ..remote.cancelling import cancel

    each = Each(request, printer, len(request.jobs) > 1)
    for line in cancel(access(request, printer), parameter_set(request.set_number), request.jobs):
        with each.trying(Path(line["job"]), of_job=True):
            raise_told(line)
            if request.json:
                printer.json({"set": request.set_number} | line)
            else:
                printer.fields({line["job"]: line["state"]})
    each.end()


def forget_keys(request: Request, printer: Printer) -> None:
    """Have the service remove the keys that were uploaded."""
    from ..files.keystore import SERVER, keys_set
    from ..remote.upload import forget_keys

    folder = key_folder(request) / SERVER
    keys_set(folder, request.set_number)
    with access(request, printer).connect(SilentProgress()) as connection:
        removed = forget_keys(connection, folder)
    if request.json:
        printer.json({"set": request.set_number, "keys": str(folder), "removed": removed})
    else:
        printer.fields({str(folder): "removed from the service" if removed else "not at the service"})
