"""Weights from elsewhere to a calibrated weight file, compared with the source's own answers where they are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import PlanError, UsageError, WeightsError
from ..network.architecture import Architecture
from ..network.card import check_names
from ..network.parameters import parameter_set
from ..network.weights import Weights, save_weights
from ..progress.display import Progress, SilentProgress
from .answers import agree, difference, read_logits
from .description import given_names, normalisation, or_usual_names, side_of
from .disagreement import disagreement
from .folding import EPSILON
from .labelled import Pictures, read_pictures
from .plain import calibrate
from .simulation import Score, count_right, plain_logits
from .simulators import simulate
from .sources import open_source

#: Fewer pictures than this to calibrate on are warned of.
FEW_PICTURES = 100
#: Sets that labelled pictures are also told by as those would compute, and how many pictures of a ResNet-20 at most.
SIMULATED_SETS, MOST_SIMULATED = (5, 6, 7), 48
_USUAL_BLOCKS, _AT_A_TIME = 3, 8
#: Networks that are right on fewer labelled pictures, between chance (0) and always (1), are warned of.
FEW_RIGHT = 0.25
_BATCH = 250
_COMPARE_HINT = "compare them: logits FILE, or pictures in folders named by class"


@dataclass(frozen=True)
class ImportReport:
    """The report of an import.

    architecture: what was found;
    parameters: numbers imported;
    pictures: pictures calibrated on;
    useful_pictures: those of them that differ and have more than one colour;
    largest_bound: over all ReLUs;
    epsilon: of its batch norms; None where the source is folded already;
    classes, normalisation: where the names of the classes, and mean and std, come from;
    difference: worst difference of a logit from the source's; None where none were given;
    right: on how many labelled pictures it is right, and of how many: ``plain``, and as ``set 6`` would compute it.
    """

    architecture: Architecture
    parameters: int
    pictures: int
    useful_pictures: int
    largest_bound: float
    epsilon: float | None
    classes: str
    normalisation: str
    difference: float | None
    right: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def too_few(self) -> bool:
        """Tell whether the pictures say little about how large values get."""
        return self.useful_pictures < FEW_PICTURES

    @property
    def compared(self) -> bool:
        """Tell whether anything of the source's own answers was looked at."""
        return self.difference is not None or bool(self.right)

    @property
    def rarely_right(self) -> bool:
        """Tell whether it is right on labelled pictures hardly more often than by chance."""
        right, of = self.right.get("plain", (1, 1))
        chance = 1 / self.architecture.classes
        return right / of < chance + FEW_RIGHT * (1 - chance)


def import_weights(
    source: Path,
    out: Path,
    pictures: Path,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    *,
    epsilon: float | None = None,
    classes: Path | None = None,
    logits: Path | None = None,
    name: str = "",
    side: int = 0,
    progress: Progress | None = None,
    processes: int = 1,
) -> ImportReport:
    """Read ``source`` (see :func:`.sources.open_source`), calibrate on ``pictures`` (see
    :func:`.labelled.read_pictures`) and write ``out``.

    mean, std: the normalisation the network was trained with, one number or one by colour, of pixels in [0, 1] (0 and 1
    for raw pixels); else the source's, else, for three colours, CIFAR-10's usual.
    epsilon: what the network's batch norms add to a variance, which tensors do not tell; PyTorch's default where not
    given.
    classes: a file with a name a line; else the source's names, else those of class folders, else CIFAR-10's for ten
    classes and three colours, else numbers.
    logits: the source's own answers on the pictures, in their order (see :func:`.answers.read_logits`).
    name: of the network.  side: of its pictures; else the source's, that of an npz's pictures, or 32.
    processes: that simulate what each set would compute, see :func:`.simulators.simulate`.

    Errors: WeightsError naming what was found and what fits, also for other logits than the source's; UsageError for
    another normalisation, and for an epsilon of what is folded already; PictureError; EnvironmentFault.
    """
    source, progress = Path(source), progress or SilentProgress()
    found = open_source(source)
    if epsilon is not None and not found.has_norms:
        raise UsageError(f"{source} is folded already, and has no batch norm for an eps", "leave the word out")
    architecture = found.arrangement.architecture(source, side or found.side or side_of(Path(pictures)))
    names, told_by = given_names(found, source, classes)
    mean, std, normalised_by = normalisation(found, architecture.input_channels, mean, std)
    shown = read_pictures(Path(pictures), architecture, names)
    names, told_by = or_usual_names(names, told_by, shown, architecture, Path(pictures))
    if name:
        check_names([name], "name")
    used = EPSILON if epsilon is None else epsilon
    weights = Weights(
        architecture,
        names,
        mean,
        std,
        0.0,
        name,
        found.parameters(architecture, used),
        {},
        used if found.has_norms else None,
    )
    answers = None if logits is None else read_logits(Path(logits), len(shown.x), architecture.classes)
    if found.arrangement.doubt and answers is None and shown.y is None:
        raise WeightsError(f"{source}: {found.arrangement.doubt}, and there is nothing to compare with", _COMPARE_HINT)
    weights, plain = calibrate(weights, _batches(shown.x))
    if answers is not None and not agree(plain, answers):
        raise disagreement(source, found, weights, shown.x, plain, answers)
    report = ImportReport(
        architecture=architecture,
        parameters=sum(array.size for array in weights.parameters.values()),
        pictures=len(shown.x),
        useful_pictures=_useful(shown.x),
        largest_bound=float(max(bound.max() for bound in weights.bounds.values())),
        epsilon=weights.epsilon,
        classes=told_by,
        normalisation=normalised_by,
        difference=None if answers is None else difference(plain, answers),
        right={} if shown.y is None else {"plain": (count_right(plain, shown.y), len(plain))},
    )
    if found.arrangement.doubt and report.rarely_right and answers is None:
        right, of = report.right["plain"]
        raise WeightsError(
            f"{source}: {found.arrangement.doubt}, and {right} of {of} pictures are right", _COMPARE_HINT
        )
    save_weights(Path(out), weights)
    return replace(report, right={**report.right, **dict(_as_sets(weights, shown, progress, processes))})


# --- pictures -----------------------------------------------------------------------------------------------


def _batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    return (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))


def _useful(pixels: Iterable[np.ndarray]) -> int:
    """Return how many pictures there are without repetitions and those of one colour."""
    return len({hash(picture.tobytes()) for picture in pixels if (picture != picture[:, :1, :1]).any()})


def _as_sets(
    weights: Weights, pictures: Pictures, progress: Progress, processes: int
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield on how many labelled pictures each set would be right; numbers that a client refuses never are."""
    if pictures.y is None:
        return
    most = max(MOST_SIMULATED * _USUAL_BLOCKS // max(_USUAL_BLOCKS, weights.architecture.blocks_per_stage), _AT_A_TIME)
    chosen = pictures.some(most)
    plain, of = plain_logits(weights, chosen.x), len(chosen.pixels)
    if of < len(pictures.pixels):
        assert chosen.y is not None
        yield "plain, same pictures", (count_right(plain, chosen.y), of)
    for number in SIMULATED_SETS:
        try:
            set_ = parameter_set(number, architecture=weights.architecture)
        except PlanError:
            continue  # no ring of that set holds it
        logits = simulate(set_, weights, chosen.x, set_.refresh_deviation, processes, progress)
        right = Score.of(weights, logits, plain, chosen.y).right
        assert right is not None
        yield f"set {number}", (right, of)
