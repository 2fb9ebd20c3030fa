"""The tables of what was measured: of each its section of the file, the command that measures it, and its cells."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.progress.display import format_bytes, format_seconds

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Table:
    """section: of the file; command: that records it; headings, cells: of all its rows; shown: those that it shows."""

    section: str
    command: str
    headings: Callable[[Rows], list[str]]
    cells: Callable[[Rows], list[list[str]]]
    shown: Callable[[Rows], Rows] = lambda rows: rows


def columns(of_row: Mapping[str, Callable[[Any], str]]) -> tuple[Callable[[Rows], list[str]], Callable[[Rows], Any]]:
    """Headings and cells of a table with a line for each row; of_row: by heading, a row's cell."""
    return lambda rows: list(of_row), lambda rows: [[cell(row) for cell in of_row.values()] for row in rows.values()]


# --- sets -------------------------------------------------------------------------------------------------


def megabytes(count: float) -> str:
    """Return the size of what travels: in powers of ten, as networks count."""
    return f"{count / 1e6:.1f} MB"


def _engine(row: Any) -> str:
    names = {"openfhe": "OpenFHE", "native": "native"}
    return names[row["engine"]] + (f", {row['compiled_for']}" if row["compiled_for"] else "")


def _seconds(row: Any) -> float:
    return statistics.median(row["runs"]) / row["pictures"]


def _a_picture(row: Any) -> str:
    together = (
        f" ({row['pictures']} in {format_seconds(statistics.median(row['runs']))})" if row["pictures"] > 1 else ""
    )
    return format_seconds(_seconds(row)) + together


def _error(row: Any) -> str:
    return f"{row['worst_difference']:.3f}"


_SET = {"set": lambda row: str(row["set"]), "engine": _engine}
_SETS: dict[str, Callable[[Any], str]] = {
    **_SET,
    "key generation": lambda row: format_seconds(row["keys"]["seconds"]),
    "its peak": lambda row: format_bytes(row["keys"]["peak_bytes"]),
    "server folder": lambda row: format_bytes(row["keys"]["server_bytes"]),
    "compiling": lambda row: format_seconds(row["compiling"]) if row["compiling"] else "",
    "a picture": _a_picture,
    "runs": lambda row: str(len(row["runs"])),
    "server's peak": lambda row: format_bytes(row["peak_bytes"]),
    "upload": lambda row: megabytes(row["upload_bytes"] / row["pictures"]),
    "download": lambda row: megabytes(row["download_bytes"] / row["pictures"]),
    "logit error": _error,
    "class as plain's": lambda row: f"{row['as_plain']} of {row['pictures']}",
    "others": lambda row: f"{row['others']:.1%}",
}
_SETS_IN_SHORT: dict[str, Callable[[Any], str]] = {
    **_SET,
    "log2 QP": lambda row: str(parameter_set(row["set"], row["engine"]).log2_qp),
    "key generation": lambda row: (
        f"{format_seconds(row['keys']['seconds'])}, {format_bytes(row['keys']['peak_bytes'])}"
    ),
    "server folder": _SETS["server folder"],
    "a picture": lambda row: format_seconds(_seconds(row)),
    "server memory": _SETS["server's peak"],
    "up, down": lambda row: f"{_SETS['upload'](row)}, {_SETS['download'](row)}",
    "logit error": _error,
}


def _of_default_engines(rows: Rows) -> Rows:
    """Return those that a set's number alone stands for, in the sets' order."""
    return {name: rows[name] for name in sorted(rows) if name.isdecimal()}


# --- refreshes --------------------------------------------------------------------------------------------


def _bits(against: str, figure: str) -> Callable[[Any], str]:
    return lambda row: f"{row[against][figure]:.1f}"


_REFRESHES: dict[str, Callable[[Any], str]] = {
    "set": lambda row: str(row["set"]),
    "engine": lambda row: row["engine"],
    "slots": lambda row: str(row["slots"]),
    "stages": lambda row: ", ".join(map(str, row["stages"])),
    "refresh: mean": _bits("refresh", "mean_bits"),
    "refresh: worst": _bits("refresh", "worst_bits"),
    "refresh: rms error": lambda row: f"{row['refresh']['rms']:.1e}",
    "with ReLU: mean": _bits("relu", "mean_bits"),
    "with ReLU: worst": _bits("relu", "worst_bits"),
    "with ReLU: rms error": lambda row: f"{row['relu']['rms']:.1e}",
}


# --- accuracy ---------------------------------------------------------------------------------------------


_ACCURACY: dict[str, Callable[[Any], str]] = {
    "pictures": lambda row: row["pictures"],
    "network": lambda row: row["network"],
    "right": lambda row: f"{row['right']} of {row['of']} ({row['right'] / row['of']:.1%})",
    "class differs from plain's": lambda row: "" if row["network"] == "plain" else str(row["differing"]),
    "worst logit": lambda row: "" if row["network"] == "plain" else f"{row['worst']:.2f}",
    "mean of pictures' worst": lambda row: "" if row["network"] == "plain" else f"{row['mean']:.3f}",
    "worst, ReLU alone": lambda row: "" if row["network"] == "plain" else f"{row['worst_without_noise']:.2f}",
}


# --- operations -------------------------------------------------------------------------------------------


def _operation_cells(rows: Rows) -> list[list[str]]:
    """A line for each kind of operation that any set has; the sums last."""
    kinds = dict.fromkeys(kind for row in rows.values() for kind in row["spent"])
    last = ("checking keys, files", "in all")
    cells = []
    for kind in (*(kind for kind in kinds if kind not in last), *last):
        cells.append([kind, *(_spent(row["spent"].get(kind)) for row in rows.values())])
    return cells


def _spent(spent: Mapping[str, Any] | None) -> str:
    """Seconds, calls, and in brackets the share of the bandwidth limit where it is known."""
    if spent is None:
        return ""
    share = f" ({spent['share']:.0%})" if spent["share"] is not None else ""
    return f"{spent['seconds']:.1f} s, {spent['calls']}{share}"


TABLES = {
    "sets": Table("sets", "scripts/measure.py --all", *columns(_SETS)),
    "sets in short": Table(
        "sets",
        "scripts/measure.py --all",
        lambda rows: list(_SETS_IN_SHORT),
        lambda rows: [[cell(row) for cell in _SETS_IN_SHORT.values()] for row in _of_default_engines(rows).values()],
        _of_default_engines,
    ),
    "refreshes": Table("refreshes", "scripts/refreshbits.py --record", *columns(_REFRESHES)),
    "accuracy": Table("accuracy", "scripts/accuracy.py PICTURES --sets .. --record", *columns(_ACCURACY)),
    "operations": Table(
        "operations",
        "scripts/operations.py inputs/vale.jpg 5 6 7 --record",
        lambda rows: ["operation", *rows],
        _operation_cells,
    ),
}
