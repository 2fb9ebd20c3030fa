"""The word ``estimate``: what a network takes in a parameter set on this machine, before there are keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..machine.memory import available_bytes
from ..network.engines import NATIVE
from ..progress.display import format_bytes, format_seconds, make_progress
from .output import Printer
from .words import Request

if TYPE_CHECKING:
    from ..network.parameters import ParameterSet

_HOUR = 3600


def estimate(request: Request, printer: Printer) -> None:
    """Say what keys, ciphertexts and an evaluation take; and, of so many clients, their keys and an hour's pictures."""
    from ..network.parameters import parameter_set
    from ..network.weights import weights_given

    set_ = parameter_set(request.set_number, request.engine, weights_given(request.weights).architecture)
    facts = _facts(request, set_, printer)
    if request.json:
        printer.json(facts | (_for_clients(request.clients, facts) if request.clients else {}))
        return
    printer.fields(_rows(set_, facts) | (_client_rows(request.clients, facts) if request.clients else {}))


def _facts(request: Request, set_: ParameterSet, printer: Printer) -> dict[str, Any]:
    """Return what is printed as JSON."""
    from ..files.sizes import picture_bytes, result_bytes
    from ..native.kernels.threads import available_processors
    from ..network.resnet20 import plan

    folder = _folder_bytes(set_)
    return {
        "set": set_.number,
        "engine": set_.engine,
        "network": str(set_.architecture),
        "pictures": set_.pictures,
        "levels": set_.multiplicative_depth,
        "refreshes": sum(plan(set_).refreshes.values()),
        "processors": available_processors(),
        "seconds": _seconds(request, set_, folder, printer),
        "memory_bytes": set_.server_bytes,
        "key_folder_bytes": folder,
        "upload_bytes": picture_bytes(set_),
        "download_bytes": result_bytes(set_),
    }


def _folder_bytes(set_: ParameterSet) -> int:
    if set_.engine == NATIVE:
        from ..files.sizes import native_folder_bytes

        return native_folder_bytes(set_)
    from ..client.keys import openfhe_folder_bytes

    return openfhe_folder_bytes(set_)


def _seconds(request: Request, set_: ParameterSet, folder: int, printer: Printer) -> float | None:
    """Return what a picture or group would take here; None where that cannot be measured."""
    if set_.engine != NATIVE:
        printer.say("seconds are measured for sets that the native engine evaluates alone")
        return None
    if (available := available_bytes()) < set_.server_bytes:
        free = f"{format_bytes(set_.server_bytes)} of memory are needed, and {format_bytes(available)} are free"
        printer.warning(f"seconds were not measured: {free}", "close other programs, or take a set that needs less")
        return None
    from ..native.trial import evaluation_seconds

    with make_progress(request.verbose, printer.stderr) as progress:
        progress.start(f"measuring operations of parameter set {set_.number}")
        progress.step("native", "measuring")
        compiling = partial(progress.step, "native", "compiling, the first time on this machine")
        return evaluation_seconds(set_, folder, compiling)


def _for_clients(clients: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what so many take, each with keys of its own and a picture or group an hour, one evaluated at a time."""
    seconds = facts["seconds"]
    return {
        "clients": clients,
        "clients_key_bytes": clients * facts["key_folder_bytes"],
        "clients_machines": None if seconds is None else clients * seconds / _HOUR,
        "clients_upload_bytes": clients * facts["upload_bytes"],
        "clients_download_bytes": clients * facts["download_bytes"],
    }


def _rows(set_: ParameterSet, facts: dict[str, Any]) -> dict[str, str]:
    """Return the same for the terminal."""
    pictures, refreshes = set_.pictures, f"{facts['refreshes']} a picture"
    if pictures > 1:
        refreshes = f"{facts['refreshes']} for {pictures} pictures together"
    return {
        "network": facts["network"],
        "engine": facts["engine"],
        "levels": f"{facts['levels']}: {set_.usable_levels} between refreshes, of {set_.refresh_levels} each",
        "refreshes": refreshes,
        "time": _time(facts, pictures),
        "memory": format_bytes(facts["memory_bytes"]),
        "key folder": format_bytes(facts["key_folder_bytes"]),
        "upload": _each(facts["upload_bytes"], pictures),
        "download": _each(facts["download_bytes"], pictures),
    }


def _time(facts: dict[str, Any], pictures: int) -> str:
    if facts["seconds"] is None:
        return "not measured"
    each = f"{format_seconds(facts['seconds'] / pictures)} a picture"
    whole = f"; {format_seconds(facts['seconds'])} for {pictures}" if pictures > 1 else ""
    return f"{each}{whole}, on {facts['processors']} processors, once the engine is compiled"


def _each(count: int, pictures: int) -> str:
    each = f"{count / pictures / 1e6:.1f} MB a picture"
    return f"{each}; {count / 1e6:.1f} MB for {pictures}" if pictures > 1 else each


def _client_rows(clients: int, facts: dict[str, Any]) -> dict[str, str]:
    needed, what = _for_clients(clients, facts), "a picture" if facts["pictures"] == 1 else "a group"
    machines = needed["clients_machines"]
    cores = "not measured" if machines is None else f"{machines * facts['processors']:.0f} processors like these"
    return {
        "clients": f"{clients}, with {what} an hour each",
        "keys of all": f"{needed['clients_key_bytes'] / 1e12:.2f} TB",
        "to evaluate": cores,
        "up, an hour": f"{needed['clients_upload_bytes'] / 1e9:.1f} GB",
        "down, an hour": f"{needed['clients_download_bytes'] / 1e9:.1f} GB",
    }
