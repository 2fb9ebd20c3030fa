"""The word ``load_keys``, all of the protocol: the client encrypts, a server evaluates, the client decrypts."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PROGRAM, Reported, naming, raise_told
from ..machine.files import private_folder
from ..machine.memory import peak_resident_bytes
from ..server.request import Job
from .client import check
from .evaluate import run
from .named import check_request_outputs, checkpoint_files, checkpoints_of, evaluation, numbered, output_files
from .output import Printer, report_cost
from .pictures import Group, Item, several_inputs
from .steps import Steps
from .words import Request

if TYPE_CHECKING:
    from ..server.process import ServerRun


def load_keys(request: Request, printer: Printer) -> None:
    """Classify pictures; each one's failure is its own, and its result is printed whatever becomes of what follows."""
    steps = Steps(request, printer, several_inputs(request))
    groups = steps.groups()
    check(request, steps.client, printer)
    steps.client.unlock()  # what decrypting needs is looked at before minutes go into a result
    with private_folder(f"{PROGRAM}-") as temporary:
        encrypted = _encrypt(steps, groups, temporary)
        if not encrypted:
            raise Reported(steps.each.code)
        try:
            server = run(request, evaluation(request, [job for _, job in encrypted]), printer)
            _evaluated(steps, encrypted, server)
            for group, job in encrypted:
                if job.output.exists():
                    _decrypt(steps, group, job, server)
        finally:
            _keep_untold(steps, encrypted)
    if request.verbose >= 0:
        _report(steps, [item for group in groups for item in group.items], server)
    steps.each.end()


def _encrypt(steps: Steps, groups: list[Group], temporary: Path) -> list[tuple[Group, Job]]:
    """Encrypt what can be read into numbered files: the server learns no names.  Pictures and outputs are looked at
    first."""
    request, each, names = steps.request, steps.each, numbered(len(groups))
    pictures, results = (output_files(temporary / folder, names, True) for folder in ("pictures", "results"))
    checkpoints = request.checkpoints or (temporary / "checkpoints" if request.verbose >= 2 else None)
    items = [item for group in groups for item in group.items]
    for item in items:
        with each.trying(item.path):
            steps.look(item)
    work = [
        (group, Job(picture, result, checkpoints_of(checkpoints, result, each.several)))
        for group, picture, result in zip(groups, pictures, results, strict=True)
        if group.readable
    ]
    check_request_outputs(request, checkpoint_files(request, [job for _, job in work]), [item.path for item in items])
    encrypted = []
    for group, job in work:
        with each.trying(*group.paths):
            steps.encrypt(group, job.ciphertext)
            group.job = job
            encrypted.append((group, job))
    return encrypted


def _evaluated(steps: Steps, encrypted: list[tuple[Group, Job]], server: ServerRun) -> None:
    """Note the server's time for each group, and tell which of them failed."""
    alone = len(encrypted) == 1 and (steps.set.pictures > 1 or not steps.each.several)
    for (group, _), line in zip(encrypted, server.pictures, strict=True):
        group.seconds["evaluate"] = server.seconds if alone else line["seconds"]
        group.share("evaluate")
        with steps.each.trying(*group.paths, of_job=True), naming(group.files):
            raise_told(line)


def _decrypt(steps: Steps, group: Group, job: Job, server: ServerRun) -> None:
    """Decrypt a group's result, and tell each picture's."""
    from ..files.group import group_and_place

    request, each, numbers = steps.request, steps.each, None
    identity, _ = group_and_place(group.readable[0].id, steps.set.pictures)
    with each.trying(*group.paths), naming(group.files), group.timed("decrypt"):
        numbers = steps.decrypt(job.output, identity)
    for item in group.readable if numbers is not None else ():
        with each.trying(item.path), naming({job.output: f"the result of {item.path}"}):
            place = group.items.index(item)
            extra: dict[str, Any] = {"seconds": item.seconds, "peak_bytes": _peaks(server)}
            if steps.set.pictures > 1:
                extra["group"] = {"pictures": len(group.readable), "place": place + 1, "seconds": group.seconds}
            checkpoints = job.checkpoints if request.verbose >= 2 else None
            steps.tell(item, job.output, numbers[place], checkpoints, extra)


def _peaks(server: ServerRun) -> dict[str, int]:
    return {"server": server.peak_bytes, "client": peak_resident_bytes()}


def _report(steps: Steps, items: list[Item], server: ServerRun) -> None:
    """Say what all of it took."""
    seconds = {step: sum(item.seconds.get(step, 0.0) for item in items) for step in ("encrypt", "evaluate", "decrypt")}
    own = [line["seconds"] for line in server.pictures if "error" not in line]
    told = sum(item.told for item in items)
    amortised = server.seconds / told if steps.set.pictures > 1 and told else None
    report_cost(steps.printer, seconds | {"evaluate": server.seconds}, _peaks(server), own, amortised)


def _keep_untold(steps: Steps, encrypted: list[tuple[Group, Job]]) -> None:
    """Keep results that could not be decrypted or told, encrypted as they are: minutes went into them."""
    request = steps.request
    untold = [job.output for group, job in encrypted if not all(item.told for item in group.readable)]
    lost = [path for path in untold if path.exists()]
    if lost:
        kept = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-results-"))
        for path in lost:
            shutil.move(path, kept)
        named = [str(request.set_number), str(kept), "keys", str(steps.client.folder)]
        for word, given in (("weights", request.weights), ("card", request.card)):
            named += [word, str(given)] if given else []
        steps.printer.say(f"the encrypted result is kept: {PROGRAM} decrypt {shlex.join(named)}")
