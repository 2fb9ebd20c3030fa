"""The word ``simulate``: what a parameter set makes of many pictures, computed in the clear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..machine.text import one_line
from ..progress.display import format_seconds, make_progress, timed
from .output import Printer
from .words import Request

if TYPE_CHECKING:
    from ..model.simulation import Score

_RANGE_HINT = "calibrate the weights on more pictures like these: import_weights SOURCE OUT pictures PATH"


def simulate(request: Request, printer: Printer) -> None:
    """Simulate, and say how many classes are right and which change.  It needs no keys."""
    from ..model.labelled import read_pictures
    from ..model.simulation import Score, count_right, foresee_all
    from ..model.simulators import simulate
    from ..native.kernels.threads import available_processors
    from ..network.parameters import parameter_set
    from ..network.weights import weights_given

    weights = weights_given(request.weights)
    set_ = parameter_set(request.set_number, request.engine, weights.architecture)
    pictures = read_pictures(request.pictures, weights.architecture, weights.classes)
    plain, leaving = foresee_all(weights, set_, pictures.x)
    outside = int(leaving.sum())
    seconds: dict[str, float] = {}
    with make_progress(request.verbose, printer.stderr) as progress, timed(seconds, "simulate"):
        noise, processes = set_.refresh_deviation, available_processors()
        logits = simulate(set_, weights, pictures.x, noise, processes, progress)
    if outside:
        message = f"of {outside} of {len(plain)} pictures values leave the ranges that the set can take"
        printer.warning(message, _RANGE_HINT)
    facts = {"pictures": len(plain), "out_of_range": outside, "seconds": seconds["simulate"]}
    score = Score.of(weights, logits, plain, pictures.y)
    plain_right = None if pictures.y is None else count_right(plain, pictures.y)
    if request.json:
        head = {"set": set_.number, "engine": set_.engine, "plain_right": plain_right}
        printer.json(head | facts | _as_json(score, weights.classes))
    else:
        _print(printer, facts, plain_right, score, weights.classes)


def _as_json(score: Score, classes: tuple[str, ...]) -> dict[str, Any]:
    changes = [
        {"plain": classes[before], "set": None if after is None else classes[after], "pictures": count}
        for (before, after), count in score.changes.items()
    ]
    known = score.worst == score.worst  # NaN where all are refused
    return {
        "right": score.right,
        "class_differs": len(score.differing),
        "refused": score.refused,
        "worst_difference": score.worst if known else None,
        "mean_difference": score.mean if known else None,
        "changes": changes,
    }


def _print(
    printer: Printer, facts: Mapping[str, Any], plain_right: int | None, score: Score, classes: tuple[str, ...]
) -> None:
    count = facts["pictures"]
    rows = {"pictures": str(count)}
    if plain_right is not None and score.right is not None:
        rows |= {"right, plain": _part(plain_right, count), "right, simulated": _part(score.right, count)}
    rows |= {
        "class differs": _part(len(score.differing), count),
        "out of range": str(facts["out_of_range"]),
        "refused": str(score.refused),
        "worst difference": f"{score.worst:.3f}",
        "mean of pictures' worst": f"{score.mean:.4f}",
        "time": format_seconds(facts["seconds"]),
    }
    printer.fields(rows)
    if score.changes:
        printer.text("classes that change, plain's and the set's:\n")
    for (before, after), number in score.changes.items():
        became = "refused" if after is None else classes[after]
        printer.text(f"  {number} {one_line(classes[before])} -> {one_line(became)}\n")


def _part(number: int, count: int) -> str:
    return f"{number} of {count} ({number / count:.1%})"
