"""Each layer on packed vectors against its definition, in the worst slot."""

import numpy as np
import pytest

from lowmem_resnet20.errors import ArchitectureError, PlanError
from lowmem_resnet20.network.architecture import RESNET20, Architecture
from lowmem_resnet20.network.classifier import classify
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.convolution import convolution
from lowmem_resnet20.network.convolution import convolve as convolve_packed
from lowmem_resnet20.network.downsample import gather
from lowmem_resnet20.network.forward import convolve
from lowmem_resnet20.network.packing import (
    ClassifierPacking,
    DownsamplePacking,
    GatherPacking,
    pack,
    per_channel,
    unpack,
)
from lowmem_resnet20.network.parameters import parameter_set
from miniature import ARCHITECTURE, INSECURE_SET

CASES = pytest.mark.parametrize(
    "set_, stage",
    [(s, stage) for s in (INSECURE_SET, parameter_set(1)) for stage in (1, 2, 3)],
    ids=lambda v: f"{v}" if isinstance(v, int) else f"N = 2^{v.log2_ring}",
)


def geometry(set_, stage):
    return set_.architecture.channels[stage - 1], set_.architecture.stage_width(stage)


@pytest.mark.parametrize("copies", [1, 2, 4])
@CASES
def test_convolution(set_, stage, copies):
    channels, width = geometry(set_, stage)
    random = np.random.default_rng(stage)
    x, kernel, bias = (
        random.normal(size=s) for s in ((channels, width, width), (channels, channels, 3, 3), (channels,))
    )
    ev = ClearEvaluator(set_)
    ev.enter_stage(stage)
    slots = channels * width * width
    copies = min(copies, set_.full_slots // slots)
    y = convolution(ev, Clear(pack(x), 5), kernel, bias, width, copies)
    assert len(y.values) == slots
    assert np.abs(unpack(y.values, channels, width) - convolve(x, kernel, bias)).max() < 1e-11
    assert y.levels == 0
    five = {1, -1, width, -width, -width * width}
    assert five <= ev.rotations[stage]
    others = ev.rotations[stage] - five  # powers of two, which bootstrapping has: all that copies add
    assert len(others) == (0 if copies == 1 else 1 + copies.bit_length() - 1)
    assert all(step & (step - 1) == 0 for step in map(abs, others))


class Products(ClearEvaluator):
    """Counts plaintext products."""

    count = 0

    def products(self, xs, vector_of):
        self.count += len(xs)
        return super().products(xs, vector_of)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_on_all_copies_every_stage_needs_72_products(stage):
    channels, width = geometry(parameter_set(1), stage)
    ev = Products(parameter_set(1))
    ev.enter_stage(stage)
    copies = ev.set.full_slots // (channels * width * width)
    x = Clear(np.ones(channels * width * width), 2)
    convolution(ev, x, np.ones((channels, channels, 3, 3)), np.ones(channels), width, copies)
    assert ev.count == 72 + copies


@pytest.mark.parametrize("set_", [INSECURE_SET, parameter_set(1)], ids=["miniature", "full"])
def test_convolution_of_few_repeating_channels(set_):
    """conv1: the picture's four blocks repeat over the slots of the stage, so four shifts do."""
    channels, width = geometry(set_, 1)
    random = np.random.default_rng(0)
    x, kernel, bias = (random.normal(size=s) for s in ((4, width, width), (channels, 4, 3, 3), (channels,)))
    ev = ClearEvaluator(set_)
    ev.enter_stage(1)
    repeated = ev.with_slots(Clear(pack(x), 1), channels * width * width)
    y = convolution(ev, repeated, kernel, bias, width)
    assert np.abs(unpack(y.values, channels, width) - convolve(x, kernel, bias)).max() < 1e-11


@pytest.mark.parametrize("set_", [INSECURE_SET, parameter_set(1)], ids=["miniature", "full"])
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("copies", [1, 2])
def test_downsample(set_, stage, copies):
    """Both branches of a downsampling block, gathered into the next stage's packing, rescaled."""
    channels, width = geometry(set_, stage)
    random = np.random.default_rng(stage)
    x = random.normal(size=(channels, width, width))
    kernel, shortcut = random.normal(size=(2 * channels, channels, 3, 3)), random.normal(size=(2 * channels, channels))
    bias, shortcut_bias, *factors = random.normal(size=(4, 2 * channels))
    ev = ClearEvaluator(set_)
    ev.enter_stage(stage)
    packing = DownsamplePacking(kernel, bias, shortcut, shortcut_bias, width)
    both = convolve_packed(ev, Clear(pack(x), copies), packing, copies)
    fresh = ev.bootstrap(both)
    main, short = gather(ev, fresh, GatherPacking(channels, width, np.array(factors)))
    expected = convolve(x, kernel, bias, 2), convolve(x, shortcut[:, :, None, None], shortcut_bias, 2)
    expected = [values * factor[:, None, None] for values, factor in zip(expected, factors, strict=True)]
    half = width // 2
    assert len(main.values) == len(short.values) == set_.architecture.stage_slots(stage + 1)
    assert np.abs(unpack(main.values, 2 * channels, half) - expected[0]).max() < 1e-11
    assert np.abs(unpack(short.values, 2 * channels, half) - expected[1]).max() < 1e-11
    assert main.levels == short.levels == 0  # lowered to the three it needs, and all three spent


def test_classifier():
    channels, width = geometry(parameter_set(1), 3)
    random = np.random.default_rng(0)
    x, weight, bias = (random.normal(size=s) for s in ((channels, width, width), (10, channels), (10,)))
    ev = ClearEvaluator(parameter_set(1))
    ev.enter_stage(3)
    y = classify(ev, Clear(pack(x), 1), ClassifierPacking(weight, bias, width))
    assert np.abs(y.values[:10] - (weight @ x.mean((1, 2)) + bias)).max() < 1e-12


def test_pack_order():
    x = np.arange(2 * 4 * 4).reshape(2, 4, 4)
    assert pack(x)[(1 * 4 + 2) * 4 + 3] == x[1, 2, 3]
    assert (unpack(np.tile(pack(x), 2), 2, 4) == x).all()
    assert per_channel(np.array([3.0, 5.0]), 2).tolist() == [3, 3, 3, 3, 5, 5, 5, 5]


def test_rotation_moves_slot_i_plus_k_to_slot_i():
    ev = ClearEvaluator(INSECURE_SET)
    ev.enter_stage(1)
    left, right = ev.rotate(Clear(np.arange(8.0), 1), [1, -2])
    assert left.values[0] == 1 and right.values[2] == 0


def test_levels_run_out():
    ev = ClearEvaluator(INSECURE_SET)
    ev.enter_stage(1)
    with pytest.raises(PlanError, match="only 0 left"):
        ev.products([Clear(np.ones(8), 0)], lambda i: np.ones(8))


def test_slots_that_do_not_repeat_are_refused():
    with pytest.raises(PlanError, match="do not repeat"):
        ClearEvaluator(INSECURE_SET).with_slots(Clear(np.arange(8.0), 1), 4)


@pytest.mark.parametrize("wrong", [{"channels": (16, 48)}, {"width": 24}, {"classes": 100}])
def test_architectures_that_cannot_be_packed(wrong):
    with pytest.raises(ArchitectureError):
        Architecture(**wrong)


def test_slots_of_resnet20():
    assert [RESNET20.stage_slots(stage) for stage in (1, 2, 3)] == [16384, 8192, 4096]
    assert [ARCHITECTURE.stage_slots(stage) for stage in (1, 2, 3)] == [1024, 512, 256]
