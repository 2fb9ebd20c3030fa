"""The weight file: what is written is read, and all else is refused by name."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from lowmem_resnet20.errors import WeightsError
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, RESNET20, Architecture
from lowmem_resnet20.network.weights import FORMAT, default_weights_path, load_weights, save_weights
from miniature import random_weights


@pytest.fixture
def path(tmp_path):
    save_weights(tmp_path / "w.safetensors", random_weights())
    return tmp_path / "w.safetensors"


def rewrite(path, change, **facts):
    """Change the tensors, or the metadata, of a weight file."""
    data = path.read_bytes()
    old = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = load(data)
    change(tensors)
    path.write_bytes(save(tensors, metadata={k: v for k, v in (old | facts).items() if v is not None}))


def test_round_trip(path):
    original, read = random_weights(), load_weights(path)
    assert read.mean == original.mean and read.std == original.std
    assert read.largest_logit == original.largest_logit > 0
    assert (read.architecture, read.classes, read.epsilon) == (original.architecture, CIFAR10_CLASSES, None)
    assert read.fingerprint == original.fingerprint and read.card == original.card
    for ours, theirs in ((read.parameters, original.parameters), (read.bounds, original.bounds)):
        assert sorted(ours) == sorted(theirs)
        assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_network_of_ones_own(tmp_path):
    """Its shape and its names are in the file; the names are not in the fingerprint, and no weight is on the card."""
    architecture = Architecture(width=16, channels=(4, 8), blocks_per_stage=2, input_channels=1, classes=3)
    weights = replace(random_weights(architecture), classes=("Halt", "Straße", "止まれ"), name="signs", epsilon=1e-3)
    save_weights(tmp_path / "w", weights)
    read = load_weights(tmp_path / "w")
    assert (read.architecture, read.classes, read.name, read.epsilon) == (architecture, weights.classes, "signs", 1e-3)
    assert str(read.architecture) == "ResNet-10 of channels 4/8, for 16x16 pictures of 1 colour in 3 classes"
    assert read.fingerprint == random_weights(architecture).fingerprint
    assert read.card.fingerprint == read.fingerprint and not hasattr(read.card, "parameters")


def test_a_file_of_format_2_is_resnet20_of_cifar10(tmp_path):
    weights = random_weights(RESNET20)
    save_weights(tmp_path / "w", replace(weights, classes=tuple("abcdefghij"), name="n"))
    rewrite(
        tmp_path / "w", lambda t: None, format="lowmem-resnet20 2", network=None, classes=None, name=None, epsilon=None
    )
    read = load_weights(tmp_path / "w")
    assert (read.architecture, read.classes, read.name) == (RESNET20, CIFAR10_CLASSES, "")
    assert read.fingerprint == weights.fingerprint


NETWORK = asdict(random_weights().architecture)


@pytest.mark.parametrize(
    "facts, message",
    [
        ({"network": NETWORK | {"width": 24}}, "width and channels must be powers of two"),
        ({"network": NETWORK | {"blocks_per_stage": 19}}, "a stage has 1 to 18 blocks, not 19"),
        ({"network": NETWORK | {"input_channels": 4}}, "pictures have 1 or 3 colours, not 4"),
        ({"network": NETWORK | {"classes": 129}}, "2 to 128 classes apart, not 129"),
        ({"network": NETWORK | {"channels": [4, 8, 24]}}, "must double"),
        ({"network": NETWORK | {"channels": []}}, "must double"),
        ({"network": NETWORK | {"width": 16.0}}, "not a weight file"),
        ({"network": NETWORK | {"depth": 20}}, "not a weight file"),
        ({"network": [1]}, "not a weight file"),
        ({"classes": ["a"] * 10}, "has the class a twice"),
        ({"classes": list("abc")}, "names 3 classes, and its network has 10"),
        ({"classes": [*"abcdefghi", "\x1b[31m"]}, "cannot be a name"),
        ({"classes": [*"abcdefghi", "\u202eevil"]}, "cannot be a name"),
        ({"classes": [*"abcdefghi", "x" * 65]}, "cannot be a name"),
        ({"classes": [*"abcdefghi", " j"]}, "cannot be a name"),
        ({"classes": [*"abcdefghi", 7]}, "cannot be a name"),
        ({"name": "a\nb"}, "cannot be a name"),
        ({"epsilon": "much"}, "not a weight file"),
    ],
)
def test_descriptions_that_are_refused(path, facts, message):
    rewrite(path, lambda t: None, **{name: json.dumps(fact) for name, fact in facts.items()})
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(path)
    assert caught.value.message.isprintable()


def test_the_shipped_file():
    weights = load_weights(default_weights_path())
    assert sum(array.size for array in weights.parameters.values()) == 271_690
    assert default_weights_path().stat().st_size < 1_200_000
    assert set(weights.bounds) == set(RESNET20.relu_channels())
    assert 8 < weights.largest_logit < 10


CHANGES = {
    "lacks conv1.bias": lambda t: t.pop("conv1.bias"),
    "lacks layer1.0.conv1.bound": lambda t: t.pop("layer1.0.conv1.bound"),
    r"conv1.bias has shape \(3,\) instead of \(4,\)": lambda t: t.update({"conv1.bias": np.zeros(3, np.float32)}),
    "conv1.bias is float64 instead of float32": lambda t: t.update({"conv1.bias": np.zeros(4)}),
    "fc.bias has values that are not finite": lambda t: t["fc.bias"].__setitem__(0, np.nan),
    "conv1.bound has a negative value": lambda t: t["conv1.bound"].__setitem__(0, -1),
    "conv1.bound is 0 in every channel": lambda t: t["conv1.bound"].fill(0),
    "has extra, which this network does not": lambda t: t.update({"extra": np.zeros(1, np.float32)}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_first_difference_is_named(path, message):
    rewrite(path, CHANGES[message])
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


@pytest.mark.parametrize(
    "facts, message",
    [
        ({"format": "lowmem-resnet20 9"}, "has format"),
        ({"format": None}, "not a weight file of this program"),
        ({"mean": "[1, 2]"}, "mean is not 3"),
        ({"mean": "[1, 2, NaN]"}, "mean is not 3"),
        ({"std": "[1, 0, 1]"}, "std is not positive"),
        ({"std": "none"}, "not a weight file of this program"),
        ({"format": "lowmem-resnet20 1", "largest_logit": None}, "was made by an earlier version"),
        ({"largest_logit": None}, "not a weight file of this program"),
        ({"largest_logit": "[1]"}, "not a weight file of this program"),
        ({"largest_logit": "0.0"}, "largest_logit is not a positive number"),
        ({"largest_logit": "-1"}, "largest_logit is not a positive number"),
        ({"largest_logit": "NaN"}, "largest_logit is not a positive number"),
        ({"largest_logit": "Infinity"}, "largest_logit is not a positive number"),
    ],
)
def test_facts(path, facts, message):
    rewrite(path, lambda t: None, **facts)
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


def test_a_file_of_the_former_format_says_what_to_do(path):
    rewrite(path, lambda t: None, format="lowmem-resnet20 1", largest_logit=None)
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    assert "import_weights SOURCE OUT pictures PATH" in caught.value.hint


def test_the_fingerprint_knows_every_number():
    weights = random_weights()
    changed = replace(weights, largest_logit=weights.largest_logit + 1e-9)
    assert changed.fingerprint != weights.fingerprint == random_weights().fingerprint


def test_missing(tmp_path):
    with pytest.raises(WeightsError, match="no weight file"):
        load_weights(tmp_path / "none")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 6000), st.binary(max_size=8), st.booleans())
def test_damage_never_gets_further_than_an_error(path, position, garbage, cut):
    """Bytes replaced near the head, or the file cut short: read as it was meant, or refused."""
    original = path.read_bytes()
    damaged = original[:position] + garbage + (b"" if cut else original[position + len(garbage) :])
    target = path.with_name("damaged")
    target.write_bytes(damaged)
    try:
        load_weights(target)
    except WeightsError as error:
        assert "\n" not in error.message


def test_incomplete_weights_are_not_written(tmp_path):
    weights = random_weights()
    with pytest.raises(WeightsError, match="lacks"):
        save_weights(tmp_path / "w", replace(weights, parameters={}))
    assert not list(tmp_path.iterdir())


def test_normalise():
    pixels = np.full((3, 2, 2), 0.65)
    assert np.allclose(random_weights().normalise(pixels)[0], (0.65 - 0.5) / 0.25)
    assert FORMAT.endswith(" 3")
