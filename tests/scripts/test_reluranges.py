"""scripts/ranges.py: what it finds in the plain network."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20.model.labelled import Pictures
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.network.scaling import scale
from miniature import ARCHITECTURE, random_picture, random_weights

pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import ranges


def test_ranges(tmp_path):
    weights, random = random_weights(ARCHITECTURE), np.random.default_rng(3)
    x = np.stack([np.round(random_picture(ARCHITECTURE, random) * 255) for _ in range(3)]) / 255
    found = ranges.measure(weights, Pictures(np.round(x * 255).astype(np.uint8), None, ("a", "b", "c")))
    expected = PlainNetwork(weights).layers(x)["conv1"]
    conv1 = found["conv1"]
    assert (conv1.least, conv1.largest) == (expected.min(), expected.max())
    assert conv1.rms == pytest.approx(np.sqrt((expected**2).mean()))
    assert conv1.histogram.sum() == expected.size == conv1.count
    units = scale(weights, parameter_set(1).refresh).units["conv1"]  # in encryption's unit the range ends at 1
    relative = np.abs(expected) / units[:, None, None]
    assert conv1.reached == pytest.approx(relative.max())
    assert len(ranges.bars(conv1.histogram)) == 25
    ranges.plot(found, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000
