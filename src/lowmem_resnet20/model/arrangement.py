"""Which tensors of a state dict are which layers of the network.

No program's names are listed here.  A convolution's place follows from its shape (colours, channels, kernel), the
order of those of the same shape from the numbers in their names, and its batch norm is the one that stands beside it.
So what programs put before names, and what they call a shortcut or a stage, does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import ArchitectureError, WeightsError
from ..network.architecture import MOST_BLOCKS, MOST_CLASSES, Architecture
from .folding import Layer

#: Channels of the first of three stages, and colours.
FIRST_CHANNELS, COLOURS = (8, 16, 32), (1, 3)
BLOCKS, CLASSES = range(1, MOST_BLOCKS + 1), range(2, MOST_CLASSES + 1)
#: Slots of the largest ring's ciphertexts.
MOST_SLOTS = 1 << 15
FITS = (
    "what fits: ResNet-8, 14, 20, .. 110 of He et al. for CIFAR-10: 3x3 convolutions with batch norm or folded, "
    "3 stages of 8/16/32, 16/32/64 or 32/64/128 channels, 1 or 3 colours, 2 to 128 classes"
)
_STAGES = 3
_LONGEST_NAME, _DEEPEST_NAME, _MOST_TENSORS = 256, 16, 4096
_KIND = re.compile(r"conv(olution)?(2d)?|batch_?norm(alization)?(2d)?|norm(alization)?|bn")
_NORM = {"running_mean", "running_var"}
_NORM_HINT = "only batch norm with its running mean and variance can be folded; group and layer norm cannot"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Arrangement:
    """A source's layers in the network's order.

    layers: by the network's names, see :class:`.folding.Layer`; without shortcuts where they have no parameters;
    linear: the source's name of the fully connected layer;
    channels, blocks, colours, classes: of the network;
    doubt: what shapes and numbers leave open, so that only the source's own answers can tell; "" where nothing.
    """

    layers: Mapping[str, Layer]
    linear: str
    channels: Shape
    blocks: int
    colours: int
    classes: int
    doubt: str = ""

    def architecture(self, path: Path, side: int) -> Architecture:
        """Return the network for pictures of ``side`` x ``side`` pixels.  Errors: WeightsError if no ring holds it."""
        slots = self.channels[0] * side * side
        what = f"{path}: this is a ResNet-{2 * _STAGES * self.blocks + 2} with {side}x{side} pictures"
        hint = "of another size it takes pictures with: side PIXELS"
        if slots > MOST_SLOTS:
            raise WeightsError(f"{what}: {slots:,} slots, a ring holds {MOST_SLOTS:,}", hint)
        try:
            return Architecture(side, self.channels, self.blocks, self.colours, self.classes)
        except ArchitectureError as error:
            raise WeightsError(f"{what}: {error.message}", hint) from None


def arrange(path: Path, shapes: Mapping[str, Shape]) -> Arrangement:
    """Tell which layer each tensor belongs to.

    shapes: by name, of all that the source's network has.

    Errors: WeightsError that names the first tensor of no layer, or says what network this is and what would fit.
    """
    convolutions, norms, linears = _modules(path, shapes)
    kernels = {name: shapes[f"{name}.weight"] for name in sorted(convolutions, key=_natural)}
    widths = {name: shapes[f"{name}.running_mean"][0] for name in norms}
    norm_of, pairs = _paired(path, {name: kernel[0] for name, kernel in kernels.items()}, widths)
    what = describe(list(kernels.values()), [shapes[f"{name}.weight"] for name in linears])
    misfit = WeightsError(f"{path}: this is {what}", FITS)
    if not kernels or len(linears) != 1:
        raise misfit
    groups: dict[Shape, list[str]] = {}
    for name, kernel in kernels.items():
        groups.setdefault(kernel, []).append(name)
    first, colours = _stem(groups)
    channels = tuple(first << stage for stage in range(_STAGES))
    same = [groups.pop((c, c, 3, 3), []) for c in channels]
    blocks = len(same[0]) // 2
    halving = [groups.pop((b, a, 3, 3), []) for a, b in pairwise(channels)]
    shortcuts = [groups.pop((b, a, 1, 1), []) for a, b in pairwise(channels)]
    stems = groups.pop((first, colours, 3, 3), [])
    classes, features = shapes[f"{linears[0]}.weight"]
    fits = not groups and len(stems) == 1 and features == channels[-1] and classes in CLASSES and colours in COLOURS
    fits = fits and blocks in BLOCKS and first in FIRST_CHANNELS
    fits = fits and [len(found) for found in same] == [2 * blocks, *[2 * blocks - 1] * (_STAGES - 1)]
    fits = fits and {len(found) for found in halving} == {1} and sorted(map(len, shortcuts)) in ([0, 0], [1, 1])
    if not fits and stems and first in FIRST_CHANNELS and groups:
        kernel, [odd, *_] = next(iter(groups.items()))
        raise WeightsError(f"{path}: this is {what}, and {odd} of shape {kernel} has no place in what fits", FITS)
    if not fits:
        raise misfit
    places = {"conv1": stems[0]}
    for stage, (one, rest) in enumerate(zip([[], *halving], same, strict=True), start=1):
        names = [f"layer{stage}.{block}.conv{i}" for block in range(blocks) for i in (1, 2)]
        places |= dict(zip(names, [*one, *rest], strict=True))
    places |= {f"layer{stage}.0.downsample": found[0] for stage, found in enumerate(shortcuts, start=2) if found}
    for name in convolutions:
        if norms and name not in norm_of:
            raise WeightsError(f"{path}: {name} has no batch norm, and others have", FITS)
        if not norms and f"{name}.bias" not in shapes:
            raise WeightsError(f"{path}: {name} has neither batch norm nor bias", FITS)
    layers = {place: Layer(name, norm_of.get(name, "")) for place, name in places.items()}
    doubt = next(filter(None, (_doubt(names) for names in (*same, *pairs))), "")
    return Arrangement(layers, linears[0], channels, blocks, colours, classes, doubt)


def describe(kernels: Sequence[Shape], linears: Sequence[Shape]) -> str:
    """Say in the field's words what network has convolutions and fully connected layers of such shapes."""
    points = sum(kernel[2:] == (1, 1) for kernel in kernels)
    stem = min(kernels, key=lambda kernel: kernel[1], default=())
    large = [kernel for kernel in kernels if kernel[2:] != (1, 1)]
    stages = sorted({kernel[0] for kernel in large if kernel[0] == kernel[1]})
    if len(stages) < 2 or any(b != 2 * a for a, b in pairwise(stages)) or len(linears) > 1:
        return f"a network of {_count(len(kernels), 'convolution')} and {_count(len(linears), 'fully connected layer')}"
    bottleneck = 2 * points > len(kernels)
    depth = len(kernels) - (len(stages) if bottleneck else points) + 1
    blocks = [sum(kernel[0] == channels for kernel in large if kernel != stem) for channels in stages]
    sizes = sorted({kernel[2:] for kernel in large if kernel != stem} - {(3, 3)})
    facts = [f"{stem[2]}x{stem[3]} first convolution"] * (stem[2:] != (3, 3))
    facts += [f"{_each(f'{a}x{b}' for a, b in sizes)} convolutions"] * bool(sizes)
    facts += ["bottleneck blocks"] * bottleneck
    facts += [f"{_count(len(stages), 'stage')} of {_each(stages)} channels"]
    facts += [f"with {_each(blocks)} convolutions"] * (len(set(blocks)) > 1)
    facts += [_count(stem[1], "colour"), f"{linears[0][0]:,} classes" if linears else "no fully connected layer"]
    facts += [
        f"a fully connected layer of {shape[1]} values"
        for shape in linears
        if shape[1] != stages[-1] and not bottleneck
    ]
    return f"a ResNet-{depth} ({', '.join(facts)})"


def _each(values: Iterable[object]) -> str:
    shown = [str(value) for value in values]
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'s' * (number != 1)}"


def _stem(groups: Iterable[Shape]) -> tuple[int, int]:
    """Return channels and colours of the first convolution: the one whose input is no other's output."""
    made = {shape[0] for shape in groups}
    firsts = sorted((shape[1], shape[0]) for shape in groups if shape[1] not in made)
    colours, channels = firsts[0] if firsts else (0, 0)
    return channels, colours


# --- modules ----------------------------------------------------------------------------------------------


def _modules(path: Path, shapes: Mapping[str, Shape]) -> tuple[list[str], list[str], list[str]]:
    """Return the names of convolutions, batch norms and fully connected layers."""
    modules: dict[str, dict[str, Shape]] = {}
    if len(shapes) > _MOST_TENSORS:
        raise WeightsError(f"{path} has {len(shapes):,} tensors", FITS)
    for name, shape in shapes.items():
        module, _, part = name.rpartition(".")
        if len(name) > _LONGEST_NAME or name.count(".") > _DEEPEST_NAME:
            raise WeightsError(f"{path} has a name that is too long: {name[:40]} ..")
        modules.setdefault(module, {})[part] = shape
    kinds: dict[str, list[str]] = {"convolution": [], "norm": [], "linear": []}
    for module, parts in modules.items():
        kinds[_kind(path, module, parts)].append(module)
    return kinds["convolution"], kinds["norm"], kinds["linear"]


def _kind(path: Path, module: str, parts: Mapping[str, Shape]) -> str:
    rest, weight = set(parts) - {"weight", "bias"}, parts.get("weight", ())
    if rest:
        missing = sorted(_NORM - rest)
        if rest <= _NORM and missing:
            raise WeightsError(f"{path} lacks {module}.{missing[0]}", _NORM_HINT)
        if rest - _NORM:
            raise WeightsError(f"{path} has {module}.{min(rest - _NORM)}, which this network does not", FITS)
        kind, size = "norm", parts["running_mean"][:1]
    elif len(weight) == 4 and 0 not in weight:
        kind, size = "convolution", weight[:1]
    elif len(weight) == 2 and 0 not in weight:
        kind, size = "linear", weight[:1]
    elif len(weight) == 1 and "bias" in parts:
        raise WeightsError(f"{path}: {module} is a norm without running mean and variance", _NORM_HINT)
    else:
        part = next(iter(parts))
        raise WeightsError(f"{path} has {module}.{part} of shape {parts[part]}, which this network does not", FITS)
    for part, shape in parts.items():
        if not shape:
            raise WeightsError(f"{path}: {module}.{part} is a single number, which this network does not have", FITS)
        if shape != size and not (part == "weight" and kind != "norm"):
            raise WeightsError(f"{path}: {module}.{part} has shape {shape} instead of {size}")
    return kind


def _paired(
    path: Path, convolutions: Mapping[str, int], norms: Mapping[str, int]
) -> tuple[dict[str, str], list[list[str]]]:
    """Return the batch norm of each convolution, and the names that were told apart by their order.

    From the innermost module outwards, those that stand together belong together: conv2 and bn2, or in their order.
    """
    found: dict[str, str] = {}
    orders: list[list[str]] = []
    parents = {parent for name in (*convolutions, *norms) for parent in _parents(name)}
    for parent in sorted(parents, key=lambda parent: (-len(parent), parent)):
        inside = f"{parent}." if parent else ""
        ours = sorted((n for n in convolutions if n.startswith(inside) and n not in found), key=_natural)
        theirs = sorted((n for n in norms if n.startswith(inside) and n not in found.values()), key=_natural)
        if ours and theirs:
            if len(ours) != len(theirs):
                counts = f"{_count(len(ours), 'convolution')} and {_count(len(theirs), 'batch norm')}"
                raise WeightsError(f"{path}: {parent or 'the network'} has {counts}, which must be as many", FITS)
            bare = [{_bare(name[len(inside) :]): name for name in names} for names in (ours, theirs)]
            if bare[0].keys() == bare[1].keys() and len(bare[0]) == len(ours):
                theirs = [bare[1][name] for name in bare[0]]
            else:
                orders += [ours, theirs]
            for convolution, norm in zip(ours, theirs, strict=True):
                if convolutions[convolution] != norms[norm]:
                    sizes = f"{norms[norm]} channels, and {convolution} makes {convolutions[convolution]}"
                    raise WeightsError(f"{path}: {norm} has {sizes}: its batch norms do not follow convolutions", FITS)
                found[convolution] = norm
    left = sorted(set(norms) - set(found.values()), key=_natural)
    if left:
        raise WeightsError(f"{path}: {left[0]} is the batch norm of no convolution", FITS)
    return found, orders


def _bare(name: str) -> str:
    """Return a name without what says that it is a convolution's or a norm's."""
    return _KIND.sub("", name.lower()).strip("_.")


def _parents(name: str) -> Iterable[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name


# --- order ------------------------------------------------------------------------------------------------


def _natural(name: str) -> list[Any]:
    """Return what sorts names as people number them: 10 after 9."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _doubt(names: Sequence[str]) -> str:
    """Say which two of sorted names are not told apart by a number."""
    for one, other in pairwise(names):
        parts = enumerate(zip(_natural(one), _natural(other), strict=False))
        if next((i for i, (a, b) in parts if a != b), 0) % 2 == 0:
            return f"nothing tells whether {one} or {other} comes first"
    return ""
