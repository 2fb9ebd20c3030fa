"""The original program's weight folder, written here as its notebooks write it, and read back."""

import numpy as np
import pytest

from lowmem_resnet20.errors import WeightsError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.model.original import read_original
from lowmem_resnet20.network.weights import load_weights
from miniature import ARCHITECTURE, random_parameters

PARAMETERS = random_parameters(ARCHITECTURE, seed=4) | {"fc.bias": np.zeros(10, np.float32)}


def mask(width: int, dy: int, dx: int, stride: int) -> np.ndarray:
    """Pixels that the stride keeps and whose neighbour exists."""
    row, column = np.mgrid[:width, :width]
    inside = (row + dy >= 0) & (row + dy < width) & (column + dx >= 0) & (column + dx < width)
    return inside & (row % stride == 0) & (column % stride == 0)


def save(folder, name: str, blocks: list[np.ndarray]) -> None:
    np.savetxt(folder / f"{name}.bin", np.concatenate([b.reshape(-1) for b in blocks]))


def write_convolution(folder, name, kernel, bias, width, stride=1) -> None:
    outputs, inputs, side, _ = kernel.shape
    reach = side // 2
    for half in range(outputs // inputs):
        for shift in range(inputs):
            for tap in range(side * side):
                y, x = divmod(tap, side)
                pixels = mask(width, y - reach, x - reach, stride)
                blocks = [kernel[(b - shift) % inputs + half * inputs, b, y, x] * pixels for b in range(inputs)]
                save(folder, f"{name}-ch{shift + half * inputs}-k{tap + 1}", blocks)
        suffix = f"-bias{half + 1}" if stride == 2 else "-bias"
        values = bias[half * inputs : (half + 1) * inputs]
        save(folder, name + suffix, [value * mask(width, 0, 0, stride) for value in values])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, p = tmp_path_factory.mktemp("weights"), PARAMETERS
    first, width = ARCHITECTURE.channels[0], ARCHITECTURE.width
    for output in range(first):
        for tap in range(9):
            kernel = p["conv1.weight"][output, :, tap // 3, tap % 3]
            pixels = mask(width, tap // 3 - 1, tap % 3 - 1, 1)
            blocks = [k * pixels for k in kernel] + [0 * pixels] * (first - 3)
            save(folder, f"conv1bn1-ch{output}-k{tap + 1}", blocks)
    save(folder, "conv1bn1-bias", [np.full(width * width, b) for b in p["conv1.bias"]])
    for number, block in enumerate(ARCHITECTURE.blocks(), start=1):
        layers = [("conv1", f"layer{number}-conv1bn1", block.width, block.stride)]
        layers += [("conv2", f"layer{number}-conv2bn2", block.out_width, 1)]
        if block.stride == 2:
            layers += [("downsample", f"layer{number}dx-conv1bn1", block.width, 2)]
        for layer, name, side, stride in layers:
            kernel, bias = (p[f"{block.name}.{layer}.{part}"] for part in ("weight", "bias"))
            write_convolution(folder, name, kernel, bias, side, stride)
    save(folder, "fc", [p["fc.weight"].T])
    return folder


def test_every_parameter_is_read_back(folder):
    found = read_original(folder, ARCHITECTURE)
    assert list(found) == list(ARCHITECTURE.parameter_shapes())
    for name, array in found.items():
        assert array.dtype == np.float32 and np.array_equal(array, PARAMETERS[name]), name


def test_import(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("lowmem_resnet20.model.sources.RESNET20", ARCHITECTURE)
    monkeypatch.setattr("lowmem_resnet20.model.arrangement.FIRST_CHANNELS", ARCHITECTURE.channels[:1])
    np.savez(tmp_path / "pictures.npz", x=np.zeros((2, 3, 16, 16), np.uint8))
    import_weights(folder, tmp_path / "w", tmp_path / "pictures.npz")
    weights = load_weights(tmp_path / "w")
    assert np.array_equal(weights.parameters["layer2.0.downsample.weight"], PARAMETERS["layer2.0.downsample.weight"])


@pytest.mark.parametrize(
    "content, message",
    [
        (None, r"lacks layer2-conv2bn2-ch3-k5.bin"),
        ("1\n2\n", "has 2 numbers instead of 512"),
        ("1\nnan?\n", "something that is not a number"),
        ("nan\n" * 512, "has values that are not finite"),
    ],
)
def test_the_first_file_that_does_not_fit_is_named(folder, content, message):
    path = folder / "layer2-conv2bn2-ch3-k5.bin"
    kept = path.read_bytes()
    path.unlink()
    try:
        if content is not None:
            path.write_text(content)
        with pytest.raises(WeightsError, match=message):
            read_original(folder, ARCHITECTURE)
    finally:
        path.write_bytes(kept)
