"""The whole protocol, as load_keys runs it: the client encrypts, a server evaluates, the client decrypts."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PROGRAM, Reported, naming, raise_told
from ..machine.memory import peak_resident_bytes
from ..machine.text import one_line
from ..model.classification import Classification
from ..server.request import Job
from .answers import print_classification, print_precision, report_cost
from .evaluate import check, run
from .named import (
    check_request_outputs,
    checkpoint_files,
    checkpoints_of,
    evaluation,
    numbered,
    open_client,
    output_files,
)
from .output import Printer
from .pictures import (
    Each,
    Group,
    Item,
    compare,
    foresee_range,
    grouped,
    pictures_named,
    plain_model,
    read_pixels,
    several_inputs,
)
from .words import Request

if TYPE_CHECKING:
    from ..server.process import ServerRun


class Protocol:
    """The three steps of load_keys for all pictures of a request; each picture's failure is its own."""

    def __init__(self, request: Request, printer: Printer) -> None:
        self.request, self.printer = request, printer
        self.client = open_client(request)
        self.set = self.client.set
        self.each = Each(request, printer, several_inputs(request))
        self.items = pictures_named(request, self.each)
        self.groups = grouped(request, printer, self.items, self.set)
        self.plain = plain_model(self.client.weights) if request.plain or request.verbose >= 2 else None
        self.server: ServerRun | None = None

    def encrypt(self, temporary: Path) -> None:
        """Pictures into numbered files: the server learns no names.  What decrypting needs, pictures and outputs are
        looked at first."""
        check(self.request, self.set, self.client.weights, self.printer)
        self.client.unlock()
        names = numbered(len(self.groups))
        pictures, results = (output_files(temporary / folder, names, True) for folder in ("pictures", "results"))
        checkpoints = self.request.checkpoints or (temporary / "checkpoints" if self.request.verbose >= 2 else None)
        for item in self.items:
            with self.each.trying(item.path):
                self._look_at(item)
        jobs = [
            Job(picture, result, checkpoints_of(checkpoints, result, self.each.several))
            for picture, result in zip(pictures, results, strict=True)
        ]
        work = [(group, job) for group, job in zip(self.groups, jobs, strict=True) if group.readable]
        outputs = checkpoint_files(self.request, [job for _, job in work])
        check_request_outputs(self.request, outputs, [item.path for item in self.items])
        for group, job in work:
            with self.each.trying(*group.paths):
                group.encrypt(self.client, job.ciphertext)
                group.job = job

    def _look_at(self, item: Item) -> None:
        item.pixels = read_pixels(self.request, item.path)
        if self.plain and self.request.plain:
            item.plain = Classification.of(self.plain.logits(item.pixels), self.plain.library)
        foresee_range(self.printer, item, self.client)

    @property
    def encrypted(self) -> list[Group]:
        return [group for group in self.groups if group.job]

    @property
    def jobs(self) -> list[Job]:
        return [group.job for group in self.groups if group.job]

    def evaluate(self, temporary: Path) -> None:
        if not self.encrypted:
            raise Reported(self.each.code)
        self.server = run(self.request, evaluation(self.request, self.jobs), self.printer)
        alone = len(self.jobs) == 1 and (self.set.pictures > 1 or not self.each.several)
        for group, line in zip(self.encrypted, self.server.pictures, strict=True):
            group.seconds["evaluate"] = self.server.seconds if alone else line["seconds"]
            group.share("evaluate")
            with self.each.trying(*group.paths, of_job=True), naming(group.files):
                raise_told(line)

    def decrypt(self) -> None:
        """Each result is printed as soon as it is known, whatever becomes of what follows it."""
        from ..files.envelope import Ciphertext
        from ..files.group import group_and_place

        for group in self.encrypted:
            if group.job is None or not group.job.output.exists():
                continue
            output, numbers = group.job.output, None
            identity, _ = group_and_place(group.readable[0].id, self.set.pictures)
            with self.each.trying(*group.paths), naming(group.files), group.timed("decrypt"):
                numbers = self.client.decrypt_group(Ciphertext.load(output), identity)
            for item in group.readable if numbers is not None else ():
                with self.each.trying(item.path), naming({output: f"the result of {item.path}"}):
                    _, place = group_and_place(item.id, self.set.pictures)
                    item.logits = numbers[place]
                    self.client.check_logits(output, item.logits)
                    self._tell(item, group)

    def _tell(self, item: Item, group: Group) -> None:
        assert self.server is not None and group.job is not None and item.logits is not None
        compare(self.printer, item, self.client)
        peaks = {"server": self.server.peak_bytes, "client": peak_resident_bytes()}
        extra: dict[str, Any] = {"seconds": item.seconds, "peak_bytes": peaks}
        if self.set.pictures > 1:
            extra["group"] = {"pictures": len(group.readable), "place": group.items.index(item) + 1}
            extra["group"] |= {"seconds": group.seconds}
        result = Classification.of(item.logits)
        print_classification(self.request, self.printer, item, result, extra, self.each.several)
        item.reported = True
        if self.request.verbose >= 2 and group.job.checkpoints:
            if self.each.several:
                self.printer.say(one_line(str(item.path)))
            print_precision(self.printer, self.client, group.job.checkpoints, item)

    def report(self) -> None:
        """What all of it took; and the exit code of the first failure."""
        assert self.server is not None
        peaks = {"server": self.server.peak_bytes, "client": peak_resident_bytes()}
        if self.request.verbose >= 0:
            seconds = {s: sum(i.seconds.get(s, 0.0) for i in self.items) for s in ("encrypt", "evaluate", "decrypt")}
            own = [line["seconds"] for line in self.server.pictures if "error" not in line]
            report_cost(self.printer, seconds | {"evaluate": self.server.seconds}, peaks, own, self._amortised())
        self.each.end()

    def _amortised(self) -> float | None:
        """Seconds of the server a picture, where it evaluates several at once."""
        assert self.server is not None
        done = sum(item.reported for item in self.items)
        return self.server.seconds / done if self.set.pictures > 1 and done else None

    def keep_unreported(self) -> None:
        """Minutes went into a result: where it could not be decrypted or told, it stays, encrypted as it is."""
        unreported = [group for group in self.encrypted if not all(item.reported for item in group.readable)]
        lost = [group.job.output for group in unreported if group.job and group.job.output.exists()]
        if lost:
            kept = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-results-"))
            for path in lost:
                shutil.move(path, kept)
            named = [str(self.request.set_number), str(kept), "keys", str(self.client.folder)]
            named += ["weights", str(self.request.weights)] if self.request.weights else []
            self.printer.say(f"the encrypted result is kept: {PROGRAM} decrypt {shlex.join(named)}")
