"""The plain model in PyTorch: the one that is trained, exported and compared with.

``ResNet`` is the form with batch norm that is trained; its parameters have the names of the public CIFAR
ResNet20 checkpoints.  ``fold`` turns it into the folded parameters of a weight file, on which
``PlainNetwork`` runs in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..errors import EnvironmentFault
from ..network.architecture import RESNET20, Architecture, Block
from ..network.weights import Weights

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as error:
    raise EnvironmentFault(f"the plain model needs PyTorch: {error}", "pip install 'lowmem-resnet20[plain]'") from error

#: What batch norm adds to a variance, unless a network says otherwise: PyTorch's default.
EPSILON = 1e-5
#: What a ReLU does: its name (see Architecture.relu_channels) and its input (pictures, channels, width, width).
Activation = Callable[[str, torch.Tensor], torch.Tensor]


def relu(name: str, x: torch.Tensor) -> torch.Tensor:
    """The exact ReLU."""
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
    """Folded parameters (float32) of a ResNet's state dict: batch norm's scale and shift go into the weights."""
    folded = {"fc.weight": state["fc.weight"], "fc.bias": state["fc.bias"]}
    for name in architecture.parameter_shapes():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and layer != "fc":
            convolution, norm = _trained_names(layer)
            folded[name], folded[f"{layer}.bias"] = _fold_norm(state[f"{convolution}.weight"], state, norm, epsilon)
    return {name: folded[name].to(torch.float32).cpu().numpy() for name in architecture.parameter_shapes()}


def _trained_names(layer: str) -> tuple[str, str]:
    """Convolution and batch norm of a folded layer."""
    if layer.endswith("downsample"):
        return f"{layer}.0", f"{layer}.1"
    return layer, layer.replace("conv", "bn")


def _fold_norm(weight: torch.Tensor, state: Mapping, norm: str, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance, gain, shift = (
        state[f"{norm}.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")
    )
    factor = gain / torch.sqrt(variance + epsilon)
    return weight.double() * factor[:, None, None, None], shift - mean * factor


class PlainNetwork:
    """A weight file's network in double precision."""

    def __init__(self, weights: Weights, activation: Activation = relu) -> None:
        self.weights = weights
        self.activation = activation
        self._parameters = {
            name: torch.from_numpy(np.array(array, dtype=np.float64)) for name, array in weights.parameters.items()
        }

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """(classes,) for one picture (colours, width, width) in [0, 1], (n, classes) for n of them."""
        return self._run(pixels, lambda name, x: None)

    def layers(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Every value on the way, without the pictures' axis for a single picture.

        By name: for each ReLU of Architecture.relu_channels its input under the ReLU's name and its output under
        ``<name>.relu``; ``<block>.downsample``; ``pool``; ``fc``.
        """
        kept: dict[str, np.ndarray] = {}

        def keep(name: str, x: torch.Tensor) -> None:
            kept[name] = x.numpy() if pixels.ndim == 4 else x.numpy()[0]

        kept["fc"] = self._run(pixels, keep)
        return kept

    @torch.no_grad()
    def _run(self, pixels: np.ndarray, see: Callable[[str, torch.Tensor], None]) -> np.ndarray:
        normalised = self.weights.normalise(np.asarray(pixels, dtype=np.float64))
        x = torch.from_numpy(normalised).reshape(-1, *normalised.shape[-3:])
        logits = self._forward(x, see).numpy()
        return logits if pixels.ndim == 4 else logits[0]

    def _forward(self, x: torch.Tensor, see: Callable[[str, torch.Tensor], None]) -> torch.Tensor:
        x = self._activate("conv1", self._convolve("conv1", x), see)
        for block in self.weights.architecture.blocks():
            first, second, down = (f"{block.name}.{part}" for part in ("conv1", "conv2", "downsample"))
            y = self._activate(first, self._convolve(first, x, block.stride), see)
            if block.stride > 1:
                x = self._convolve(down, x, block.stride)
                see(down, x)
            x = self._activate(second, self._convolve(second, y) + x, see)
        x = x.mean((2, 3))
        see("pool", x)
        return F.linear(x, self._parameters["fc.weight"], self._parameters["fc.bias"])

    def _activate(self, name: str, x: torch.Tensor, see: Callable[[str, torch.Tensor], None]) -> torch.Tensor:
        see(name, x)
        x = self.activation(name, x)
        see(f"{name}.relu", x)
        return x

    def _convolve(self, layer: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight, bias = self._parameters[f"{layer}.weight"], self._parameters[f"{layer}.bias"]
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)


def calibrate(
    parameters: Mapping[str, np.ndarray],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batches: Iterable[np.ndarray],
    architecture: Architecture = RESNET20,
) -> Weights:
    """Weights whose bounds are the largest absolute input of each ReLU, by channel, over batches of pictures, and whose
    largest logit is theirs.

    batches: (n, colours, width, width) in [0, 1] each.
    """
    zeros = {name: np.zeros(channels, np.float32) for name, channels in architecture.relu_channels().items()}
    weights = Weights(architecture, dict(parameters), tuple(mean), tuple(std), zeros, 0.0)
    network = PlainNetwork(weights)
    bounds, largest_logit = dict(zeros), 0.0
    for pixels in batches:
        layers = network.layers(pixels)
        largest_logit = float(np.maximum(largest_logit, np.abs(layers["fc"]).max()))
        for name, values in layers.items():
            if name in bounds:
                largest = np.abs(values).max((0, 2, 3)).astype(np.float32)
                bounds[name] = np.maximum(bounds[name], largest)
    return Weights(architecture, weights.parameters, weights.mean, weights.std, bounds, largest_logit)
