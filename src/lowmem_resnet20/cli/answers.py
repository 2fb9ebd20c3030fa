"""What commands say of what they did: files written, classes found, precision, cost."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.memory import peak_resident_bytes
from ..model.classification import Classification
from ..progress.display import format_bytes, format_seconds
from .output import Printer
from .pictures import Item
from .words import Request

if TYPE_CHECKING:
    from ..client import Client


def print_written(
    request: Request,
    printer: Printer,
    what: str,
    path: Path,
    seconds: float,
    facts: dict[str, Any] | None = None,
    peak_bytes: int = 0,
) -> None:
    """Say what a command has written; at verbose 0 and above, what there is to know of it and at what cost.

    peak_bytes: of the process that did it, by default this one.
    """
    peak, facts = peak_bytes or peak_resident_bytes(), facts or {}
    if request.json:
        line = {what: str(path)} | {name.replace(" ", "_"): fact for name, fact in facts.items()}
        printer.json(line | {"seconds": seconds, "peak_bytes": peak})
        return
    rows = {what: str(path)}
    if request.verbose >= 0:
        rows |= {name: str(fact) for name, fact in facts.items() if fact is not None}
        rows |= {"time": format_seconds(seconds), "peak memory": format_bytes(peak)}
    printer.fields(rows)


def print_classification(
    request: Request, printer: Printer, item: Item, result: Classification, extra: dict[str, Any], several: bool
) -> None:
    plain = item.plain
    if not request.json:
        if several:
            printer.fields({"picture": str(item.path)})
        printer.classification(result, plain)
        return
    line: dict[str, Any] = {"set": request.set_number}
    if several or request.command == "load_keys" or request.inputs:
        line["input"] = str(item.path)
    line |= result.as_json() | item.checked()
    if plain:
        line["plain"] = plain.as_json() | {"worst_difference": result.worst_difference(plain)}
    printer.json(line | extra)


def print_precision(printer: Printer, client: Client, checkpoints: Path, item: Item) -> None:
    """Say how precise each layer of a picture was."""
    from ..client.precision import inspect_checkpoints, table
    from ..model.plain import PlainNetwork

    assert item.pixels is not None
    layers = inspect_checkpoints(client, checkpoints, item.pixels, item.id)
    printer.say(f"{table(layers)}\ncompared with the plain network by {PlainNetwork.library}")


def report_cost(
    printer: Printer,
    seconds: dict[str, float],
    peak_bytes: dict[str, int],
    evaluations: list[float],
    amortised: float | None,
) -> None:
    """evaluations: seconds that the server spent on each job alone; amortised: on a picture, where jobs are groups."""
    times = ", ".join(f"{step} {format_seconds(value)}" for step, value in seconds.items())
    if len(evaluations) > 1:
        what = "picture" if amortised is None else "group"
        times += f"; a {what} after the first {format_seconds(statistics.mean(evaluations[1:]))}"
    if amortised is not None:
        times += f"; {format_seconds(amortised)} of evaluation a picture"
    peaks = ", ".join(f"{who} {format_bytes(value)}" for who, value in peak_bytes.items())
    printer.say(f"time: {times}\npeak memory: {peaks}")
