"""The whole network in the clear: against its definition, against PyTorch, and against its plan."""

from dataclasses import replace

import numpy as np
import pytest

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.architecture import RESNET20
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.parameters import PARAMETER_SETS, parameter_set
from lowmem_resnet20.network.refresh import ChebyshevRefresh
from lowmem_resnet20.network.resnet20 import Network, NoObserver, group_logits, pack_group, pack_pictures, plan
from lowmem_resnet20.network.scaling import SCALING_CHOICES, scale
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from miniature import (
    ARCHITECTURE,
    INSECURE_FUNCTIONAL_SET,
    INSECURE_SET,
    random_picture,
    random_weights,
)

MINIATURES = [INSECURE_SET, INSECURE_FUNCTIONAL_SET, replace(INSECURE_SET, most_copies=4)]
#: Groups of so many pictures, in the last stage all in one ciphertext; of the smaller ones some copies besides.
GROUPS = [replace(s, pictures=n) for s in (INSECURE_SET, INSECURE_FUNCTIONAL_SET) for n in (1, 2, 4, 8)]
SETS = pytest.mark.parametrize(
    "set_",
    [*MINIATURES, *GROUPS, *PARAMETER_SETS.values()],
    ids=[
        *("miniature", "functional", "copies"),
        *(f"{s.number}, {s.pictures} pictures" for s in GROUPS),
        *map(str, PARAMETER_SETS),
    ],
)


def run_clear(set_, weights, pixels, observer=None):
    """The evaluator and the ciphertext of a group whose pictures are all the same."""
    return run_group(set_, weights, [pixels] * set_.pictures, observer)


def run_group(set_, weights, group, observer=None):
    """The evaluator and the ciphertext with the logits of each picture of a group."""
    ev = ClearEvaluator(set_)
    pictures = [Clear(slots, 1) for slots in pack_group(set_, [weights.normalise(pixels) for pixels in group])]
    logits = Network(set_, scale(weights, set_.refresh), ev, observer or NoObserver()).run(*pictures)
    return ev, logits


def approximated(weights, set_):
    """The ReLU that the encrypted network computes, on real values (channels, width, width)."""
    units = scale(weights, set_.refresh).units

    def activation(name, x):
        unit = units[name][:, None, None]
        return set_.refresh.approximated_relu(x / unit) * unit

    return activation


@SETS
def test_equals_the_network_by_definition_with_the_approximated_relu(set_):
    weights = random_weights(set_.architecture)
    random = np.random.default_rng(5)
    group = [random_picture(set_.architecture, random) for _ in range(set_.pictures)]
    _, logits = run_group(set_, weights, group)
    tolerance = 1e-3 if set_.refresh.functional else 1e-9  # functional: downsampling's refresh is a series too
    for pixels, found in zip(group, group_logits(set_, logits.values), strict=True):
        expected = forward(weights, pixels, approximated(weights, set_))["fc"]
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("pictures", [2, 4, 8])
def test_a_picture_of_a_group_does_not_depend_on_its_neighbours(pictures):
    """Nor on its place: alone on copies, and in each place among others, it gives the same."""
    weights, random = random_weights(), np.random.default_rng(6)
    set_ = replace(INSECURE_FUNCTIONAL_SET, pictures=pictures)
    picture = random_picture(ARCHITECTURE, random)
    _, alone = run_clear(INSECURE_FUNCTIONAL_SET, weights, picture)
    for place in range(pictures):
        group = [random_picture(ARCHITECTURE, random) for _ in range(pictures)]
        group[place] = picture
        _, logits = run_group(set_, weights, group)
        assert np.abs(group_logits(set_, logits.values)[place] - alone.values[:10]).max() < 1e-11


def test_a_group_that_ends_in_several_ciphertexts_is_refused():
    with pytest.raises(PlanError, match="16 pictures do not make a group"):
        replace(INSECURE_SET, pictures=16)
    with pytest.raises(PlanError, match="3 pictures do not make a group"):
        replace(INSECURE_SET, pictures=3)


def test_a_group_of_eight_needs_a_third_of_the_refreshes():
    """By hand, of ResNet20: 4 x 7 + 4, 2 x 6 + 2 and 6 in the three stages."""
    assert plan(replace(parameter_set(1), pictures=8)).refreshes == {1: 32, 2: 14, 3: 6}


@pytest.mark.parametrize("picture", ["vale.jpg", "luis.png"])
def test_equals_the_plain_network_with_the_approximated_relu(picture, inputs):
    set_, weights = parameter_set(1), load_weights(default_weights_path())
    pixels = read_picture(inputs / picture)
    _, logits = run_clear(set_, weights, pixels)
    assert np.abs(logits.values[:10] - forward(weights, pixels, approximated(weights, set_))["fc"]).max() < 1e-6
    assert logits.values[:10].argmax() == forward(weights, pixels)["fc"].argmax()


@SETS
def test_levels_and_rotations_are_those_planned(set_):
    pixels = random_picture(set_.architecture, np.random.default_rng(0))
    ev, logits = run_clear(set_, random_weights(set_.architecture), pixels)
    planned = plan(set_)
    assert {stage: steps - {0} for stage, steps in ev.rotations.items()} == planned.rotations
    assert ev.refreshes == planned.refreshes
    assert logits.levels == planned.output_levels == 0


def test_plan_of_resnet20():
    """By hand: 19 ReLUs and 2 downsampling blocks are refreshed; rotations as the docstrings say."""
    planned = plan(parameter_set(1))
    assert planned.refreshes == {1: 8, 2: 7, 3: 6}
    assert planned.rotations[1] == {1, -1, 32, -32, -1024} | {48, -240, 512, -512, 8192}
    assert planned.rotations[2] == {1, -1, 16, -16, -256} | {24, -56, 128, -128, 4096}
    assert planned.rotations[3] == {1, -1, 8, -8, -64} | {2, 4, 16, 32, 64, 128, 256, 512, 1024, 2048}


def test_no_level_is_wasted():
    """With one level fewer the plan fails, in Python, before any library could end the process."""

    class Shallow(type(INSECURE_SET)):
        usable_levels = INSECURE_SET.usable_levels - 1

    fields = {name: getattr(INSECURE_SET, name) for name in INSECURE_SET.__dataclass_fields__}
    with pytest.raises(PlanError, match="levels"):
        plan(Shallow(**fields))


def test_scaled_pre_activations_lie_in_range():
    """On the pictures of calibration they reach 1 / margin at most, and here a third less."""
    weights = random_weights(ARCHITECTURE, seed=3)
    seen = {}

    class Watch(NoObserver):
        def value(self, name, x):
            if name in weights.bounds:
                seen[name] = float(np.abs(x.values).max())

    random = np.random.default_rng(3)
    for _ in range(8):  # the pictures random_weights calibrates on
        run_clear(
            replace(INSECURE_SET, refresh=ChebyshevRefresh(200)), weights, random_picture(ARCHITECTURE, random), Watch()
        )
    assert set(seen) == set(weights.bounds)
    assert 0.3 < max(seen.values()) * INSECURE_SET.refresh.margin < 0.75


def test_checkpoint_values_times_their_units_are_the_networks():
    weights = random_weights(ARCHITECTURE)
    pixels = random_picture(ARCHITECTURE, np.random.default_rng(1))
    expected = forward(weights, pixels, approximated(weights, INSECURE_SET))
    scaled, worst = scale(weights, INSECURE_SET.refresh), {}

    class Compare(NoObserver):
        def value(self, name, x):
            if name in scaled.units:
                unit = np.repeat(scaled.units[name], x.values.size // len(scaled.units[name]))
                worst[name] = np.abs(x.values * unit - expected[name].reshape(-1)).max()
            if name.endswith(".relu"):
                relu = name.removesuffix(".relu")
                unit = np.repeat(scaled.output_unit(relu), x.values.size // len(scaled.units[relu]))
                value = approximated(weights, INSECURE_SET)(relu, expected[relu]).reshape(-1)
                worst[name] = np.abs(x.values * unit - value).max()

    run_clear(INSECURE_SET, weights, pixels, Compare())
    assert len(worst) == 2 * len(RESNET20.relu_channels()) - 24  # 7 ReLUs of the miniature, before and after
    assert max(worst.values()) < 1e-9


def test_another_scaling_is_another_version():
    """Fingerprints hold the version, and not the numbers: with these, raise it."""
    assert SCALING_CHOICES["version"] == 1
    for set_, known in (
        (INSECURE_SET, (1075.8137305416299, 7.0, 70.61226465413864, 620.9766399860382)),
        (INSECURE_FUNCTIONAL_SET, (951.6607778809396, 7.0, 127.09390176425833, 634.7761208746168)),
    ):
        scaled = scale(random_weights(ARCHITECTURE), set_.refresh)
        parts = scaled.parameters, scaled.relu_factors, scaled.gather_factors, scaled.units
        sums = [sum(float(np.abs(values).sum()) for values in part.values()) for part in parts]
        assert sums == pytest.approx(known, rel=1e-9)


def test_noise_is_added_at_each_refresh():
    weights, pixels = random_weights(ARCHITECTURE), random_picture(ARCHITECTURE, np.random.default_rng(2))
    picture = Clear(pack_pictures(ARCHITECTURE, weights.normalise(pixels)[None]), 1)
    results = [
        Network(INSECURE_SET, scale(weights, INSECURE_SET.refresh), ClearEvaluator(INSECURE_SET, noise), NoObserver())
        .run(picture)
        .values[:10]
        for noise in (0.0, 1e-5, 1e-3)
    ]
    small, large = (np.abs(r - results[0]).max() for r in results[1:])
    assert 0 < small < 1e-3 < large
