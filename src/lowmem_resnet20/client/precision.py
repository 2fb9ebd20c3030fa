"""Precision by layer: decrypts the checkpoints that a server left and compares them with the plain model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CiphertextError
from ..files.envelope import CHECKPOINT, Facts, read_envelope
from ..files.group import group_and_place
from ..model.plain import PlainNetwork
from ..network.packing import unpack
from ..network.parameters import ParameterSet
from ..network.regrouping import places
from ..network.resnet20 import value_name
from ..network.scaling import scale
from .client import Client


@dataclass(frozen=True)
class LayerPrecision:
    """Values of one layer and their error, in the unit of the network's real values.

    least, largest: of the decrypted values;
    worst, high, mean, rms: error over all slots, ``high`` its 99th percentile;
    bits, mean_bits: -log2 of the worst and of the mean error relative to the largest value;
    deviation: rms error in the unit of the encrypted values;
    bootstrap: whether this is a refresh, compared with what it does to its own input, or a layer, compared with the
    plain model.
    """

    name: str
    least: float
    largest: float
    worst: float
    high: float
    mean: float
    rms: float
    bits: float
    mean_bits: float
    deviation: float
    bootstrap: bool


def inspect_checkpoints(
    client: Client, checkpoints: str | Path, pixels: np.ndarray, picture: str
) -> list[LayerPrecision]:
    """Decrypt the checkpoints that a server left and compare them, layer by layer, with the plain model.

    pixels: the picture that was encrypted, (colours, width, width) in [0, 1]; picture: id of its encryption.

    Errors: UsageError where the client has no weights; CiphertextError, KeyFolderError.
    """
    weights = client.weights_for("checkpoints")
    client.unlock()
    set_, ours = client.set, client.belonging
    group, number = group_and_place(picture, set_.pictures)
    expected = PlainNetwork(weights).layers(pixels)
    scaled = scale(weights, set_.refresh)
    stages = {"conv1": 1}
    stages |= {f"{b.name}.{c}": b.stage for b in set_.architecture.blocks() for c in ("conv1", "conv2")}
    shown = set_.refresh.checkpoint
    kept = _Checkpoints(set_, Path(checkpoints), number, stages)
    relus = list(set_.architecture.relu_channels())  # in the network's order
    layers = [(relu, layer) for relu in relus for layer in dict.fromkeys((relu, f"{relu}.{shown}", f"{relu}.relu"))]
    paths = [kept.path(relu, layer) for relu, layer in layers]
    found: dict[str, np.ndarray] = {}
    for (relu, layer), path in zip(layers, paths, strict=True):
        envelope = read_envelope(path)
        envelope.expect(CHECKPOINT, ours)
        if envelope.facts != Facts.of(ours, CHECKPOINT, group, path.stem):
            raise CiphertextError(f"{path} is the checkpoint of another picture or layer")
        found[layer] = kept.values(relu, client.decrypt_slots(envelope))
    precisions = []
    for relu in relus:
        unit = scaled.units[relu]
        output = scaled.output_unit(relu)
        refreshed = set_.refresh.in_the_clear(found[relu], scaled.relu_factors[relu])
        unit_shown = output if shown == "relu" else unit
        precisions += [
            _compare(relu, found[relu], expected[relu] / unit[:, None, None], unit),
            _compare(f"{relu}.refresh", found[f"{relu}.{shown}"], refreshed, unit_shown, bootstrap=True),
            _compare(f"{relu}.relu", found[f"{relu}.relu"], expected[f"{relu}.relu"] / output[:, None, None], output),
        ]
    return precisions


@dataclass(frozen=True)
class _Checkpoints:
    """Checkpoints of one picture of a group.

    number: its place;
    stages: by ReLU.
    """

    set: ParameterSet
    folder: Path
    number: int
    stages: Mapping[str, int]

    def path(self, relu: str, layer: str) -> Path:
        of_all, which = self._place(relu)
        return self.folder / f"{value_name(layer, which) if len(of_all) > 1 else layer}.ct"

    def values(self, relu: str, slots: np.ndarray) -> np.ndarray:
        """Return those (channels, width, width) of the picture."""
        of_all, which = self._place(relu)
        stage, channels = self.stages[relu], self.set.architecture.relu_channels()[relu]
        pictures = unpack(slots, self.set.pictures_in(stage), channels, self.set.architecture.stage_width(stage))
        return pictures[of_all[which].index(self.number)]

    def _place(self, relu: str) -> tuple[list, int]:
        """Return the pictures of each ciphertext of the stage, and which of these holds this one."""
        of_all = places(self.set, self.stages[relu])
        [which] = [i for i, numbers in enumerate(of_all) if self.number in numbers]
        return of_all, which


def _compare(
    name: str, found: np.ndarray, expected: np.ndarray, unit: np.ndarray, *, bootstrap: bool = False
) -> LayerPrecision:
    """Compare values (channels, width, width) as encrypted, in units of ``unit`` (channels,)."""
    deviation = float(np.sqrt(np.mean((found - expected) ** 2)))
    found, expected = (values * unit[:, None, None] for values in (found, expected))
    error = np.abs(found - expected)
    reach, worst, mean = float(np.abs(expected).max()), float(error.max()), float(error.mean())
    bits, mean_bits = (float(np.log2(reach / e)) if e and reach else float("inf") for e in (worst, mean))
    high, rms = float(np.quantile(error, 0.99)), float(np.sqrt(np.mean(error**2)))
    least, largest = float(found.min()), float(found.max())
    return LayerPrecision(name, least, largest, worst, high, mean, rms, bits, mean_bits, deviation, bootstrap)


def table(layers: Sequence[LayerPrecision]) -> str:
    """Write the layers' range of values and errors, a line each."""
    width = max((len(layer.name) for layer in layers), default=0)
    lines = [f"{'checkpoint':<{width}}  {'least':>8}  {'largest':>8}  {'worst':>9}  {'rms':>9}  {'bits':>5}"]
    for layer in layers:
        after = "  bootstrap" if layer.bootstrap else ""
        values = f"{layer.least:8.3f}  {layer.largest:8.3f}"
        lines.append(f"{layer.name:<{width}}  {values}  {layer.worst:9.2e}  {layer.rms:9.2e}  {layer.bits:5.1f}{after}")
    return "\n".join(lines)
