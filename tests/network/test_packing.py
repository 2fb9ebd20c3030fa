"""Each layer on packed vectors against its definition, in the worst slot."""

import numpy as np
import pytest

from lowmem_resnet20.errors import ArchitectureError, PlanError
from lowmem_resnet20.network.architecture import RESNET20, Architecture
from lowmem_resnet20.network.classifier import classify
from lowmem_resnet20.network.clear import Clear, ClearEvaluator, signed
from lowmem_resnet20.network.convolution import convolve as convolve_packed
from lowmem_resnet20.network.downsample import gather
from lowmem_resnet20.network.forward import convolve
from lowmem_resnet20.network.packing import (
    ClassifierPacking,
    ConvolutionPacking,
    DownsamplePacking,
    GatherPacking,
    pack,
    per_channel,
    unpack,
    unpack_logits,
)
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.regrouping import Regrouping
from miniature import ARCHITECTURE, INSECURE_SET

CASES = pytest.mark.parametrize(
    "set_, stage",
    [(s, stage) for s in (INSECURE_SET, parameter_set(1)) for stage in (1, 2, 3)],
    ids=lambda v: f"{v}" if isinstance(v, int) else f"N = 2^{v.log2_ring}",
)
PICTURES = pytest.mark.parametrize("pictures", [1, 2, 4, 8])


def geometry(set_, stage):
    return set_.architecture.channels[stage - 1], set_.architecture.stage_width(stage)


def fitting(set_, stage, pictures, copies=1):
    """How many pictures, and copies of them, a ring holds, of those asked for."""
    pictures = min(pictures, set_.full_slots // set_.architecture.stage_slots(stage))
    return pictures, min(copies, set_.full_slots // (pictures * set_.architecture.stage_slots(stage)))


def convolved(x, *layer):
    """The convolution of each of several pictures by its definition."""
    return np.stack([convolve(picture, *layer) for picture in x])


@pytest.mark.parametrize("copies", [1, 2, 4])
@PICTURES
@CASES
def test_convolution(set_, stage, pictures, copies):
    """Of every picture at once; where the ring is full, of as many as there is room for."""
    channels, width = geometry(set_, stage)
    pictures, copies = fitting(set_, stage, pictures, copies)
    random = np.random.default_rng(stage)
    sizes = (pictures, channels, width, width), (channels, channels, 3, 3), (channels,)
    x, kernel, bias = (random.normal(size=size) for size in sizes)
    ev = ClearEvaluator(set_)
    ev.enter_stage(stage)
    y = convolve_packed(ev, Clear(pack(x), 5), ConvolutionPacking(kernel, bias, width, pictures), copies)
    assert len(y.values) == x.size
    assert np.abs(unpack(y.values, pictures, channels, width) - convolved(x, kernel, bias)).max() < 1e-11
    assert y.levels == 0
    five = {signed(step, set_.full_slots) for step in (1, -1, width, -width, -pictures * width * width)}
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
    convolve_packed(ev, x, ConvolutionPacking(np.ones((channels, channels, 3, 3)), np.ones(channels), width), copies)
    assert ev.count == 72 + copies


@pytest.mark.parametrize("set_", [INSECURE_SET, parameter_set(1)], ids=["miniature", "full"])
@pytest.mark.parametrize("pictures", [1, 2])
def test_convolution_of_few_repeating_channels(set_, pictures):
    """conv1: the pictures' four blocks repeat over the slots of the stage, so four shifts do."""
    channels, width = geometry(set_, 1)
    random = np.random.default_rng(0)
    x, kernel, bias = (random.normal(size=s) for s in ((pictures, 4, width, width), (channels, 4, 3, 3), (channels,)))
    ev = ClearEvaluator(set_)
    ev.enter_stage(1)
    repeated = ev.with_slots(Clear(pack(x), 1), pictures * channels * width * width)
    y = convolve_packed(ev, repeated, ConvolutionPacking(kernel, bias, width, pictures))
    assert np.abs(unpack(y.values, pictures, channels, width) - convolved(x, kernel, bias)).max() < 1e-11


@pytest.mark.parametrize("set_", [INSECURE_SET, parameter_set(1)], ids=["miniature", "full"])
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("copies", [1, 2])
@PICTURES
@pytest.mark.parametrize("joined", [False, True], ids=["one", "two"])
def test_downsample(set_, stage, pictures, copies, joined):
    """Both branches of a downsampling block, gathered into the next stage's packing, rescaled: of one ciphertext, or of
    two that become one."""
    channels, width = geometry(set_, stage)
    pictures, copies = fitting(set_, stage, pictures, copies)
    random = np.random.default_rng(stage)
    x = random.normal(size=(2 if joined else 1, pictures, channels, width, width))
    kernel, shortcut = random.normal(size=(2 * channels, channels, 3, 3)), random.normal(size=(2 * channels, channels))
    bias, shortcut_bias, *factors = random.normal(size=(4, 2 * channels))
    move = Regrouping(channels, pictures, joined)
    ev = WithoutSlots(set_)
    ev.enter_stage(stage)
    packing = DownsamplePacking(kernel, bias, shortcut, shortcut_bias, width, move)
    fresh = [ev.bootstrap(convolve_packed(ev, Clear(pack(group), copies), packing, copies)) for group in x]
    branches = gather(ev, fresh, GatherPacking(width, np.array(factors), move))
    layers = (kernel, bias, 2), (shortcut[:, :, None, None], shortcut_bias, 2)
    for branch, layer, factor in zip(branches, layers, factors, strict=True):
        found = unpack(branch.values, move.pictures_after, 2 * channels, width // 2)
        assert len(branch.values) == found.size
        for source, group in enumerate(x):
            for picture, expected in enumerate(convolved(group, *layer) * factor[:, None, None]):
                assert np.abs(found[move.place(source, picture)] - expected).max() < 1e-11
        assert branch.levels == 0  # lowered to the three it needs, and all three spent


class WithoutSlots(ClearEvaluator):
    """Refreshes any number of slots, and not only those of the set's stage."""

    def _refreshed(self, slots):
        return self.set.usable_levels


@PICTURES
@pytest.mark.parametrize("joined", [False, True])
def test_regrouping_gives_every_picture_and_channel_its_own_place(pictures, joined):
    move = Regrouping(4, pictures, joined)
    sources = range(2 if joined else 1)
    places = [move.place(source, picture) for source in sources for picture in range(pictures)]
    assert sorted(places) == list(range(move.pictures_after))
    assert sorted(int(c) for j in (0, 1) for c in move.channel(np.arange(4), j)) == list(range(8))
    assert all(len(move.moves(source)) <= 9 for source in (0, 1))


@PICTURES
@pytest.mark.parametrize("classes", [2, 10, 64, 65, 100, 128])
def test_classifier(pictures, classes):
    channels, width = geometry(parameter_set(1), 3)
    random = np.random.default_rng(0)
    x, weight, bias = (
        random.normal(size=s) for s in ((pictures, channels, width, width), (classes, channels), (classes,))
    )
    ev = ClearEvaluator(parameter_set(1))
    ev.enter_stage(3)
    y = classify(ev, Clear(pack(x), 1), ClassifierPacking(weight, bias, width, pictures))
    assert (
        np.abs(unpack_logits(y.values, pictures, classes, width, channels) - (x.mean((2, 3)) @ weight.T + bias)).max()
        < 1e-12
    )
    if classes <= width**2:  # no slot holds anything but logits: in every channel's block the same
        blocks = y.values.reshape(channels, pictures, width**2)
        assert np.abs(blocks - blocks[:1]).max() < 1e-12 and not blocks[:, :, classes:].any()


def test_pack_order():
    x = np.arange(3 * 2 * 4 * 4).reshape(3, 2, 4, 4)
    assert pack(x)[((1 * 3 + 2) * 4 + 2) * 4 + 3] == x[2, 1, 2, 3]
    assert (unpack(np.tile(pack(x), 2), 3, 2, 4) == x).all()
    assert per_channel(np.array([3.0, 5.0]), 4).tolist() == [3, 3, 3, 3, 5, 5, 5, 5]


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


@pytest.mark.parametrize("wrong", [{"channels": (16, 48)}, {"width": 24}, {"classes": 129}])
def test_architectures_that_cannot_be_packed(wrong):
    with pytest.raises(ArchitectureError):
        Architecture(**wrong)


def test_slots_of_resnet20():
    assert [RESNET20.stage_slots(stage) for stage in (1, 2, 3)] == [16384, 8192, 4096]
    assert [ARCHITECTURE.stage_slots(stage) for stage in (1, 2, 3)] == [1024, 512, 256]
