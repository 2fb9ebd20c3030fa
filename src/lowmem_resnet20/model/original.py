"""The original C++ program's weight folder: text files of packed vectors, back to PyTorch's layout.

Each file holds one plaintext vector, a number a line, of ``channels * width * width`` slots.  Batch norm is folded
in; scales are not.  ``LAYER-ch<s>-k<t>.bin`` multiplies tap t (1 to 9, row by row) under channel shift s: block b
holds ``weight[b - s, b, tap]`` wherever that neighbour exists.  Downsampling layers keep even rows and columns, and
have twice as many files, whose second half gives the second half of the outputs.  Layers are named ``conv1bn1``,
``layer<block>-conv<n>bn<n>`` and, for shortcuts, ``layer<block>dx-conv1bn1``, with blocks counted from 1.

Source: the files of the repository narger-ef/LowMemoryFHEResNet20, folder weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import WeightsError
from ..machine.files import read_bounded
from ..network.architecture import Architecture

#: No file of the format is longer: 16384 numbers of some 25 characters.
_LARGEST_BYTES = 1 << 21


def read_original(folder: Path, architecture: Architecture) -> dict[str, np.ndarray]:
    """Folded parameters (float32) of a folder of the original's files; its fc bias, which it lacks, is 0.

    Errors: WeightsError naming the first file that is missing or does not fit; EnvironmentFault.
    """
    first = _Layer(folder, "conv1bn1", architecture.channels[0], architecture.width)
    found = {"conv1.weight": first.colours(architecture.input_channels), "conv1.bias": first.bias()}
    for number, block in enumerate(architecture.blocks(), start=1):
        convolution = _Layer(folder, f"layer{number}-conv1bn1", block.in_channels, block.width)
        shortcut = _Layer(folder, f"layer{number}dx-conv1bn1", block.in_channels, block.width)
        if block.stride == 1:
            found[f"{block.name}.conv1.weight"] = convolution.kernel(3)
            found[f"{block.name}.conv1.bias"] = convolution.bias()
        else:
            for name, layer, side in (("conv1", convolution, 3), ("downsample", shortcut, 1)):
                found[f"{block.name}.{name}.weight"] = np.concatenate([layer.kernel(side, half) for half in (0, 1)])
                found[f"{block.name}.{name}.bias"] = np.concatenate([layer.bias(half) for half in ("1", "2")])
        second = _Layer(folder, f"layer{number}-conv2bn2", block.out_channels, block.out_width)
        found[f"{block.name}.conv2.weight"], found[f"{block.name}.conv2.bias"] = second.kernel(3), second.bias()
    classes, channels = architecture.classes, architecture.channels[-1]
    found["fc.weight"] = _numbers(folder / "fc.bin", classes * channels).reshape(channels, classes).T
    found["fc.bias"] = np.zeros(classes)
    return {name: found[name].astype(np.float32) for name in architecture.parameter_shapes()}


@dataclass(frozen=True)
class _Layer:
    """The files of one convolution: its name, and the blocks and width of the vectors."""

    folder: Path
    name: str
    blocks: int
    width: int

    def kernel(self, side: int, half: int = 0) -> np.ndarray:
        """(blocks, blocks, side, side); ``half`` 1 reads the second half of a downsampling layer's files."""
        result = np.empty((self.blocks, self.blocks, side * side))
        block = np.arange(self.blocks)
        for shift in range(self.blocks):
            for tap in range(side * side):
                values = self._vector(f"-ch{shift + half * self.blocks}-k{tap + 1}")
                result[(block - shift) % self.blocks, block, tap] = values
        return result.reshape(self.blocks, self.blocks, side, side)

    def colours(self, inputs: int) -> np.ndarray:
        """(blocks, inputs, 3, 3) of the first layer, whose files are by output: block b holds weight[output, b]."""
        result = np.empty((self.blocks, inputs, 9))
        for output in range(self.blocks):
            for tap in range(9):
                result[output, :, tap] = self._vector(f"-ch{output}-k{tap + 1}")[:inputs]
        return result.reshape(self.blocks, inputs, 3, 3)

    def bias(self, half: str = "") -> np.ndarray:
        """(blocks,)"""
        return self._vector(f"-bias{half}")

    def _vector(self, suffix: str) -> np.ndarray:
        """(blocks,) the value at a pixel that no border mask and no stride leaves out."""
        slots = self.blocks * self.width * self.width
        values = _numbers(self.folder / f"{self.name}{suffix}.bin", slots)
        middle = self.width // 2
        return values.reshape(self.blocks, self.width, self.width)[:, middle, middle]


def _numbers(path: Path, count: int) -> np.ndarray:
    missing = WeightsError(f"{path.parent} lacks {path.name}")
    text = read_bounded(path, _LARGEST_BYTES, missing, WeightsError(f"{path} is too large for {count} numbers"))
    try:
        numbers = np.array(text.replace(b",", b" ").split(), dtype=np.float64)
    except ValueError:
        raise WeightsError(f"{path} has something that is not a number") from None
    if len(numbers) != count:
        raise WeightsError(f"{path} has {len(numbers)} numbers instead of {count}")
    if not np.isfinite(numbers).all():
        raise WeightsError(f"{path} has values that are not finite")
    return numbers
