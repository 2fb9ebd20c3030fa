"""The network's table: which layers a ResNet has, in which order, with which shapes.

Everything that needs to know the network reads it here: the PyTorch model, the weight file's
names and shapes, and the encrypted network with its plan of levels and rotation keys.

Source: He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2, where a stage has n blocks;
shortcuts that change shape are 1x1 stride-2 convolutions (option B).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..errors import ArchitectureError
from .fingerprint import Choice

#: The deepest network is ResNet-110, of 18 blocks a stage.
MOST_BLOCKS = 18
MOST_CLASSES = 128
CIFAR10_CLASSES = (
    "Airplane", "Automobile", "Bird", "Cat", "Deer", "Dog", "Frog", "Horse", "Ship", "Truck",
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A basic block: ``relu(conv2(relu(conv1(x))) + shortcut(x))`` with 3x3 convolutions.

    stage: counted from 1;
    width: side of the square *input*;
    stride: 2 halves the side, doubles the channels and puts a 1x1 stride-2 convolution (``downsample``) on the
    shortcut.
    """

    name: str
    stage: int
    in_channels: int
    out_channels: int
    width: int
    stride: int

    @property
    def out_width(self) -> int:
        return self.width // self.stride


@dataclass(frozen=True)
class Architecture:
    """A CIFAR-style residual network.

    width: side of the square input picture, in pixels;
    channels: channels of each stage, doubling from one to the next;
    blocks_per_stage: basic blocks in a stage;
    input_channels: colours;
    classes: logits.

    Errors: ArchitectureError for what is no such network, or none that can be evaluated.
    """

    width: int = 32
    channels: tuple[int, ...] = (16, 32, 64)
    blocks_per_stage: int = 3
    input_channels: int = 3
    classes: int = 10

    def __post_init__(self) -> None:
        if not self.channels or any(b != 2 * a for a, b in pairwise(self.channels)):
            raise ArchitectureError(f"the channels of each stage must double: {self.channels}")
        sizes = (self.width, *self.channels)
        if any(n < 2 or n & (n - 1) for n in sizes):
            raise ArchitectureError(f"width and channels must be powers of two: {sizes}")
        if not 1 <= self.blocks_per_stage <= MOST_BLOCKS:
            raise ArchitectureError(f"a stage has 1 to {MOST_BLOCKS} blocks, not {self.blocks_per_stage}")
        if self.input_channels not in (1, 3):
            raise ArchitectureError(f"pictures have 1 or 3 colours, not {self.input_channels}")
        if not 2 <= self.classes <= MOST_CLASSES:
            raise ArchitectureError(f"a network tells 2 to {MOST_CLASSES} classes apart, not {self.classes}")
        room = self.channels[-1] * self.final_width**2
        if self.final_width < 1 or self.classes > room:
            raise ArchitectureError(f"{self.classes} logits do not fit in the {room} slots of the last layer")

    def __str__(self) -> str:
        """Return it in words: ``ResNet-20 of channels 16/32/64, for 32x32 pictures of 3 colours in 10 classes``."""
        colours = "1 colour" if self.input_channels == 1 else f"{self.input_channels} colours"
        pictures = f"{self.width}x{self.width} pictures of {colours} in {self.classes} classes"
        return f"{self.title} of channels {'/'.join(map(str, self.channels))}, for {pictures}"

    @property
    def title(self) -> str:
        """The name that such networks go by, after their layers with weights: two in each block, first and last."""
        return f"ResNet-{2 * self.blocks_per_stage * len(self.channels) + 2}"

    @property
    def choices(self) -> dict[str, Choice]:
        """Return all of it, for fingerprints."""
        return {
            "width": self.width,
            "channels": self.channels,
            "blocks per stage": self.blocks_per_stage,
            "colours": self.input_channels,
            "classes": self.classes,
        }

    @property
    def final_width(self) -> int:
        return self.width >> (len(self.channels) - 1)

    def stage_width(self, stage: int) -> int:
        """Side of the pictures inside a stage (counted from 1)."""
        return self.width >> (stage - 1)

    def stage_slots(self, stage: int) -> int:
        """Slots that hold one layer of a stage: channels * width * width."""
        return self.channels[stage - 1] * self.stage_width(stage) ** 2

    @property
    def largest_layer(self) -> int:
        """Slots of the largest layer."""
        return max(self.stage_slots(stage) for stage in range(1, len(self.channels) + 1))

    def blocks(self) -> Iterator[Block]:
        """Return the basic blocks in order of evaluation."""
        for stage, out_channels in enumerate(self.channels, start=1):
            for index in range(self.blocks_per_stage):
                first = stage > 1 and index == 0
                yield Block(
                    name=f"layer{stage}.{index}",
                    stage=stage,
                    in_channels=out_channels // 2 if first else out_channels,
                    out_channels=out_channels,
                    width=self.stage_width(stage) * (2 if first else 1),
                    stride=2 if first else 1,
                )

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every folded weight, in order of evaluation (PyTorch layout)."""
        first = self.channels[0]
        shapes: dict[str, tuple[int, ...]] = {
            "conv1.weight": (first, self.input_channels, 3, 3),
            "conv1.bias": (first,),
        }
        for block in self.blocks():
            c, o = block.in_channels, block.out_channels
            shapes[f"{block.name}.conv1.weight"] = (o, c, 3, 3)
            shapes[f"{block.name}.conv1.bias"] = (o,)
            shapes[f"{block.name}.conv2.weight"] = (o, o, 3, 3)
            shapes[f"{block.name}.conv2.bias"] = (o,)
            if block.stride == 2:
                shapes[f"{block.name}.downsample.weight"] = (o, c, 1, 1)
                shapes[f"{block.name}.downsample.bias"] = (o,)
        shapes["fc.weight"] = (self.classes, self.channels[-1])
        shapes["fc.bias"] = (self.classes,)
        return shapes

    def relu_channels(self) -> dict[str, int]:
        """Return each ReLU, named by the convolution it follows, with its number of channels.

        The ReLU of ``<block>.conv2`` is the one after the shortcut has been added.
        """
        relus = {"conv1": self.channels[0]}
        for block in self.blocks():
            relus[f"{block.name}.conv1"] = block.out_channels
            relus[f"{block.name}.conv2"] = block.out_channels
        return relus


RESNET20 = Architecture()
