"""The forward pass in numpy: a convolution against its definition, the network's shapes, and its loops."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from lowmem_resnet20.network.architecture import RESNET20
from lowmem_resnet20.network.forward import convolve, forward
from miniature import ARCHITECTURE, random_picture, random_weights


@pytest.mark.parametrize("size, stride", [(3, 1), (3, 2), (1, 2)])
def test_a_convolution_is_its_definition(size, stride):
    random = np.random.default_rng(size + stride)
    x, weight, bias = (random.normal(size=shape) for shape in ((2, 6, 6), (3, 2, size, size), (3,)))
    found = convolve(x, weight.astype(np.float32), bias, stride)
    assert found.shape == (3, 6 // stride, 6 // stride) and found.dtype == np.float64
    for o, row, column in np.ndindex(found.shape):
        expected = bias[o]
        for c, i, j in np.ndindex(2, size, size):
            r, q = stride * row + i - size // 2, stride * column + j - size // 2
            if 0 <= r < 6 and 0 <= q < 6:
                expected += float(np.float32(weight[o, c, i, j])) * x[c, r, q]
        assert abs(found[o, row, column] - expected) < 1e-12


def test_every_value_has_its_name_and_shape():
    values = forward(random_weights(), random_picture(ARCHITECTURE, np.random.default_rng(0)))
    relus = ARCHITECTURE.relu_channels()
    others = {"layer2.0.downsample", "layer3.0.downsample", "pool", "fc"}
    assert set(values) == {*relus, *(f"{name}.relu" for name in relus), *others}
    assert all((values[f"{name}.relu"] == np.maximum(values[name], 0)).all() for name in relus)
    assert values["conv1"].shape == (4, 16, 16) and values["layer3.0.downsample"].shape == (16, 4, 4)
    assert values["pool"].shape == (16,) and values["fc"].shape == (10,)


def test_many_pictures_at_once():
    weights, random = random_weights(), np.random.default_rng(0)
    pixels = np.stack([random_picture(ARCHITECTURE, random) for _ in range(3)])
    alone = [forward(weights, picture) for picture in pixels]
    for name, values in forward(weights, pixels).items():
        assert np.abs(values - [one[name] for one in alone]).max() < 1e-12, name


def test_another_activation_is_told_the_name():
    told = []
    forward(random_weights(), np.zeros((3, 16, 16)), lambda name, x: told.append(name) or x)
    assert told == list(ARCHITECTURE.relu_channels())


def test_no_line_is_run_for_each_pixel_or_channel():
    """Which would take a picture seconds: a larger network of as many layers takes as many lines of Python."""

    def lines(architecture):
        weights, pixels = random_weights(architecture), random_picture(architecture, np.random.default_rng(0))
        run = []

        def trace(frame, event, _):
            run.append(event)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            forward(weights, pixels)
        finally:
            sys.settrace(before)
        return run.count("line")

    small = replace(RESNET20, width=16, channels=(4, 8, 16), classes=7)
    assert lines(RESNET20) == lines(small) > 0
