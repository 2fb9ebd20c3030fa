"""The plain model: against its definition, and folding against the trained form."""

import numpy as np
import pytest

from lowmem_resnet20.network.forward import forward
from miniature import ARCHITECTURE, random_picture, random_weights

torch = pytest.importorskip("torch")

from lowmem_resnet20.model.plain import PlainNetwork, ResNet, calibrate, fold
from lowmem_resnet20.network.architecture import RESNET20

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
def test_logits_and_layers_equal_the_definition(architecture):
    weights = random_weights(architecture)
    pixels = random_picture(architecture, np.random.default_rng(0))
    network = PlainNetwork(weights)
    expected, layers = forward(weights, pixels), network.layers(pixels)
    for name, values in expected.items():
        assert np.abs(layers[name] - values).max() < 1e-9, name
    assert np.abs(layers["conv1.relu"] - np.maximum(expected["conv1"], 0)).max() < 1e-9
    assert layers["pool"].shape == (architecture.channels[-1],)
    assert (network.logits(pixels) == layers["fc"]).all()


def test_many_pictures_at_once():
    random = np.random.default_rng(0)
    pixels = np.stack([random_picture(ARCHITECTURE, random) for _ in range(3)])
    network = PlainNetwork(random_weights())
    assert np.abs(network.logits(pixels) - [network.logits(p) for p in pixels]).max() < 1e-12


@pytest.mark.parametrize("architecture", [ARCHITECTURE, RESNET20], ids=["miniature", "full"])
def test_folded_equals_trained(architecture):
    model = trained(architecture)
    random = np.random.default_rng(0)
    pixels = np.stack([random_picture(architecture, random) for _ in range(4)])
    weights = calibrate(fold(model.state_dict(), architecture), MEAN, STD, [pixels], architecture)
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(weights.normalise(pixels))).numpy()
    assert np.abs(PlainNetwork(weights).logits(pixels) - expected).max() < 1e-4 * np.abs(expected).max()


def test_names_are_those_of_the_public_checkpoints():
    names = set(ResNet().state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "fc.weight"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight"} <= names


def test_bounds_are_the_largest_inputs_of_each_relu_and_the_largest_logit_is_theirs():
    random = np.random.default_rng(1)
    batches = [np.stack([random_picture(ARCHITECTURE, random) for _ in range(2)]) for _ in range(2)]
    weights = random_weights()
    calibrated = calibrate(weights.parameters, weights.mean, weights.std, batches, ARCHITECTURE)
    bounds = calibrated.bounds
    logits = [forward(weights, picture)["fc"] for batch in batches for picture in batch]
    assert calibrated.largest_logit == pytest.approx(np.abs(logits).max())
    for name in ARCHITECTURE.relu_channels():
        largest = np.max([np.abs(forward(weights, p)[name]).max((1, 2)) for b in batches for p in b], axis=0)
        assert np.abs(bounds[name] - largest).max() < 1e-5 * largest.max()


def test_another_activation():
    weights = random_weights()
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(0))
    squares = PlainNetwork(weights, lambda name, x: x * x / 8).logits(pixels)
    assert np.abs(squares - forward(weights, pixels, lambda name, x: x * x / 8)["fc"]).max() < 1e-9
