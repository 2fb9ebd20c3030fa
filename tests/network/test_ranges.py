"""What the client foresees of a picture: every range that is left, and logits that are not its own."""

from dataclasses import replace

import numpy as np
import pytest

from lowmem_resnet20.errors import WeightsError
from lowmem_resnet20.model.picture import pictures_in, read_picture
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set
from lowmem_resnet20.network.ranges import (
    LARGEST_DIFFERENCE,
    LARGEST_LOGIT,
    Foreseen,
    alike,
    are_logits,
    foresee,
    ranges,
)
from lowmem_resnet20.network.refresh import ChebyshevRefresh, FunctionalRefresh
from lowmem_resnet20.network.relu import FOURIER_REACH, IDENTITY_REACH
from lowmem_resnet20.network.resnet20 import Network, NoObserver, pack_pictures
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from miniature import ARCHITECTURE, INSECURE_FUNCTIONAL_SET, INSECURE_SET, random_picture, random_weights

PRECISE = replace(INSECURE_SET, refresh=ChebyshevRefresh(200))


class Refreshed(ClearEvaluator):
    """Keeps how far into its range the largest value of every refresh comes."""

    def __init__(self, set_):
        super().__init__(set_)
        self.reached = []

    def bootstrap(self, x):
        self.reached.append(np.abs(x.values).max())
        return super().bootstrap(x)

    def bootstrap_function(self, x, coefficients):
        end = IDENTITY_REACH if len(coefficients) == FunctionalRefresh.identity_degree + 1 else FOURIER_REACH
        self.reached.append(np.abs(x.values).max() / end)
        return super().bootstrap_function(x, coefficients)


def run_clear(set_, weights, pixels, ev=None):
    picture = Clear(pack_pictures(set_.architecture, weights.normalise(pixels)[None]), 1)
    with np.errstate(all="ignore"):
        network = Network(set_, scale(weights, set_.refresh), ev or ClearEvaluator(set_), NoObserver())
        return network.run(picture).values[:10]


def narrowed(weights, factor):
    """As if calibrated on pictures whose values are so many times smaller."""
    return replace(weights, bounds={name: bound / np.float32(factor) for name, bound in weights.bounds.items()})


@pytest.mark.parametrize("set_", [PRECISE, INSECURE_FUNCTIONAL_SET], ids=["Chebyshev", "Fourier"])
@pytest.mark.parametrize("seed", range(3))
def test_foreseen_is_what_the_packed_network_refreshes(set_, seed):
    """All refreshes, the downsampling blocks' among them, on values in the units of encryption."""
    weights, ev = random_weights(ARCHITECTURE, seed), Refreshed(set_)
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(50 + seed))
    run_clear(set_, weights, pixels, ev)
    found = foresee(weights, set_.refresh, pixels)
    assert len(ev.reached) == len(ARCHITECTURE.relu_channels()) + 2
    assert found.reached == pytest.approx(max(ev.reached), rel=0.03)
    assert (found.logits == forward(weights, pixels)["fc"]).all()


def test_the_layer_is_named():
    weights = random_weights()
    bounds = dict(weights.bounds) | {"layer2.0.conv1": weights.bounds["layer2.0.conv1"] / 10}
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(0))
    found = foresee(replace(weights, bounds=bounds), INSECURE_SET.refresh, pixels)
    assert found.layer == "layer2.0.conv1" and not found.in_range
    largest = np.abs(forward(weights, pixels)[found.layer]).max((1, 2)) / (1.25 * bounds[found.layer])
    assert found.reached == pytest.approx(largest.max())


def test_a_shortcut_has_a_range_too():
    """That of all inputs in range: it is left only where they have left theirs, here far."""
    weights, pixels = random_weights(), random_picture(ARCHITECTURE, np.random.default_rng(0))
    values = np.abs(forward(weights, pixels)["layer2.0.downsample"]).max((1, 2))
    for part, left in ((1, False), (50, True)):
        small = {name: weights.bounds[name] / part for name in ("conv1", "layer1.0.conv2")}
        ends = ranges(replace(weights, bounds={**weights.bounds, **small}), PRECISE.refresh)["layer2.0.downsample"]
        assert ((values / ends).max() > 1) == left


def test_the_shipped_weights_hold_the_example_pictures(inputs):
    weights = load_weights(default_weights_path())
    for set_ in PARAMETER_SETS.values():
        for path in pictures_in(inputs):
            found = foresee(weights, set_.refresh, read_picture(path))
            assert 0.5 < found.reached < 0.85, path
            assert np.abs(found.logits).max() <= weights.largest_logit


@pytest.mark.parametrize("number", [1, 6])
def test_bounds_a_third_as_large(inputs, number):
    """Every picture is told of before it is encrypted.  Afterwards a Chebyshev series gives no logits; a Fourier series
    gives numbers that could be, but for other classes, and they are not alike the plain network's."""
    set_, weights = parameter_set(number), narrowed(load_weights(default_weights_path()), 3)
    for path in pictures_in(inputs):
        found = foresee(weights, set_.refresh, read_picture(path))
        assert not found.in_range and found.reached > 1.8
    pixels = read_picture(inputs / "horse.png")
    found, logits = foresee(weights, set_.refresh, pixels), run_clear(set_, weights, pixels)
    assert are_logits(weights, logits) == set_.refresh.functional
    assert not alike(weights, logits, found)
    if set_.refresh.functional:
        assert logits.argmax() != found.logits.argmax()


@pytest.mark.parametrize("set_", [INSECURE_SET, INSECURE_FUNCTIONAL_SET], ids=["Chebyshev", "Fourier"])
def test_logits_of_values_in_range_are_alike(set_):
    weights = random_weights()
    for seed in range(4):
        pixels = random_picture(ARCHITECTURE, np.random.default_rng(70 + seed))
        found = foresee(weights, set_.refresh, pixels)
        assert found.in_range
        assert alike(weights, run_clear(set_, weights, pixels), found)


def test_what_counts_as_logits():
    weights = replace(random_weights(), largest_logit=5.0)
    end = LARGEST_LOGIT * 5.0
    numbers = np.zeros((6, 10))
    numbers[:, 3] = (end, -end, 1.001 * end, -1.001 * end, np.nan, np.inf)
    assert are_logits(weights, numbers).tolist() == [True, True, False, False, False, False]
    assert are_logits(weights, numbers[0]) and not are_logits(weights, numbers[4])


def test_what_counts_as_alike():
    weights, plain = replace(random_weights(), largest_logit=5.0), np.arange(10.0)
    foreseen = Foreseen(plain, "conv1", 0.5)
    for difference, expected in ((0.99, True), (-0.99, True), (1.01, False), (np.nan, False)):
        logits = plain.copy()
        logits[7] += difference * LARGEST_DIFFERENCE * 5.0
        assert alike(weights, logits, foreseen) == expected


def test_weights_that_overflow_are_refused():
    weights = random_weights()
    huge = {name: array * np.float32(1e37) for name, array in weights.parameters.items()}
    with pytest.raises(WeightsError, match="not finite"):
        foresee(replace(weights, parameters=huge, std=(1e-30,) * 3), INSECURE_SET.refresh, np.ones((3, 16, 16)))
