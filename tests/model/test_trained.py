"""The trained form: its names, and that its folded parameters compute the same."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowmem_resnet20.model.plain import PlainNetwork, calibrate
from lowmem_resnet20.model.trained import ResNet, fold
from lowmem_resnet20.network.architecture import RESNET20
from lowmem_resnet20.network.card import numbered_classes
from lowmem_resnet20.network.weights import Weights
from miniature import ARCHITECTURE, random_picture

MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)


def trained(architecture, seed=0):
    """A network whose batch norms have seen something."""
    torch.manual_seed(seed)
    return with_statistics(ResNet(architecture))


def with_statistics(model):
    """The model, ready to evaluate, with batch norms that are not the identity."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                torch.nn.init.uniform_(tensor, low, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize("architecture", [ARCHITECTURE, RESNET20], ids=["miniature", "full"])
def test_folded_equals_trained(architecture):
    model = trained(architecture)
    random = np.random.default_rng(0)
    pixels = np.stack([random_picture(architecture, random) for _ in range(4)])
    parameters, names = fold(model.state_dict(), architecture), numbered_classes(architecture.classes)
    weights, _ = calibrate(Weights(architecture, names, MEAN, STD, 0.0, "", parameters, {}), [pixels])
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(weights.normalise(pixels))).numpy()
    assert np.abs(PlainNetwork(weights).logits(pixels) - expected).max() < 1e-4 * np.abs(expected).max()


def test_names_are_those_of_the_public_checkpoints():
    names = set(ResNet().state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "fc.weight"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight"} <= names
