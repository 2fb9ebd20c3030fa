"""The network in PyTorch with batch norm, as it is trained, and how it is folded.

Its parameters have the names of the public CIFAR ResNet20 checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..network.architecture import RESNET20, Architecture, Block
from . import folding
from .folding import EPSILON

#: What a ReLU does: its name (see Architecture.relu_channels) and its input (pictures, channels, width, width).
Activation = Callable[[str, torch.Tensor], torch.Tensor]


def relu(name: str, x: torch.Tensor) -> torch.Tensor:
    """Return the exact ReLU."""
    return F.relu(x)


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))"""

    def __init__(self, block: Block) -> None:
        super().__init__()
        c, o = block.in_channels, block.out_channels
        self.name = block.name
        self.conv1 = nn.Conv2d(c, o, 3, block.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.downsample = (
            nn.Sequential(nn.Conv2d(c, o, 1, block.stride, bias=False), nn.BatchNorm2d(o)) if block.stride > 1 else None
        )

    def forward(self, x: torch.Tensor, activation: Activation = relu) -> torch.Tensor:
        y = activation(f"{self.name}.conv1", self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return activation(f"{self.name}.conv2", self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    """The network with batch norm, as it is trained.  Input: normalised (pictures, colours, width, width).

    epsilon: of its batch norms.
    """

    def __init__(self, architecture: Architecture = RESNET20, epsilon: float = EPSILON) -> None:
        super().__init__()
        first = architecture.channels[0]
        self.conv1 = nn.Conv2d(architecture.input_channels, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        stages: dict[int, list[BasicBlock]] = {}
        for block in architecture.blocks():
            stages.setdefault(block.stage, []).append(BasicBlock(block))
        self.stages = len(stages)
        for stage, blocks in stages.items():
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(architecture.channels[-1], architecture.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = epsilon

    def forward(self, x: torch.Tensor, activation: Activation = relu) -> torch.Tensor:
        x = activation("conv1", self.bn1(self.conv1(x)))
        for stage in range(1, self.stages + 1):
            for block in getattr(self, f"layer{stage}"):
                x = block(x, activation)
        return self.fc(x.mean((2, 3)))


def fold(
    state: Mapping[str, torch.Tensor], architecture: Architecture = RESNET20, epsilon: float = EPSILON
) -> dict[str, np.ndarray]:
    """Make folded parameters (float32) of a ResNet's state dict: batch norm's scale and shift go into the weights."""
    tensors = {name: tensor.detach().double().cpu().numpy() for name, tensor in state.items()}
    names = [name.removesuffix(".weight") for name in architecture.parameter_shapes() if name.endswith(".weight")]
    layers = {name: _trained_layer(name) for name in names if name != "fc"}
    return folding.fold(tensors, layers, "fc", architecture, epsilon)


def _trained_layer(name: str) -> folding.Layer:
    """Return the names of a folded layer's convolution and batch norm."""
    if name.endswith("downsample"):
        return folding.Layer(f"{name}.0", f"{name}.1")
    return folding.Layer(name, name.replace("conv", "bn"))
