"""Weights from elsewhere: every form that is read, and the first difference of every one that does not fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniature import ARCHITECTURE, random_weights

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from test_plain import trained

from lowmem_resnet20.errors import PictureError, WeightsError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.network.architecture import RESNET20
from lowmem_resnet20.network.weights import load_weights

SEED = Path(__file__).parents[3] / "shared" / "data" / "seed"


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "pictures.npz", x=random.integers(0, 256, (20, 3, 16, 16), dtype=np.uint8))
    return tmp_path / "pictures.npz"


def variant(name):
    """A state dict, as saved by this program or by others."""
    state = trained(ARCHITECTURE).state_dict()
    if name == "module":
        return {f"module.{k}": v for k, v in state.items()}
    if name == "nested":
        return {"state_dict": state, "epoch": 3}
    if name == "linear and shortcut":
        return {k.replace("fc.", "linear.").replace("downsample", "shortcut"): v for k, v in state.items()}
    return state


@pytest.mark.parametrize("name", ["plain", "module", "nested", "linear and shortcut"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_state_dicts(tmp_path, pictures, name, suffix):
    if (name, suffix) == ("nested", "safetensors"):
        pytest.skip("safetensors cannot nest")
    source = tmp_path / f"s.{suffix}"
    save_file(variant(name), source) if suffix == "safetensors" else torch.save(variant(name), source)
    report = import_weights(source, tmp_path / "w", pictures, (0.5,) * 3, (0.2,) * 3, ARCHITECTURE)
    weights = load_weights(tmp_path / "w", ARCHITECTURE)
    x = np.random.default_rng(1).uniform(0, 1, (3, 16, 16))
    with torch.no_grad():
        expected = trained(ARCHITECTURE).double()(torch.from_numpy((x[None] - 0.5) / 0.2))[0].numpy()
    assert np.abs(PlainNetwork(weights).logits(x) - expected).max() < 1e-4
    assert report.pictures == 20 and report.difference < 1e-4 and weights.mean == (0.5,) * 3


def test_folded_npz_without_bias(tmp_path, pictures):
    parameters = dict(random_weights().parameters)
    del parameters["fc.bias"]
    np.savez(tmp_path / "f.npz", **parameters)
    report = import_weights(tmp_path / "f.npz", tmp_path / "w", pictures, architecture=ARCHITECTURE)
    weights = load_weights(tmp_path / "w", ARCHITECTURE)
    assert (weights.parameters["fc.bias"] == 0).all() and report.difference is None
    assert weights.mean == (0.4914, 0.4822, 0.4465)


def test_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.jpg", "c.PNG")):
        Image.new("RGB", (40, 30), (80 * i, 10, 200)).save(folder / name)
    np.savez(tmp_path / "f.npz", **random_weights().parameters)
    report = import_weights(tmp_path / "f.npz", tmp_path / "w", folder, architecture=ARCHITECTURE)
    assert report.pictures == 3 and report.useful_pictures == 0 and report.too_few


def test_pictures_that_say_nothing_are_not_counted(tmp_path):
    """150 pictures: 100 that differ, one of them 31 times, and 20 of one colour each."""
    np.savez(tmp_path / "f.npz", **random_weights().parameters)
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (150, 3, 16, 16), dtype=np.uint8)
    x[100:130] = x[0]
    x[130:] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    for count, useful in ((150, 100), (99, 99)):
        np.savez(tmp_path / "p.npz", x=x[:count])
        report = import_weights(tmp_path / "f.npz", tmp_path / "w", tmp_path / "p.npz", architecture=ARCHITECTURE)
        assert (report.pictures, report.useful_pictures) == (count, useful)
        assert report.too_few == (useful < 100)


def edited(change):
    state = trained(ARCHITECTURE).state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("layer2.0.bn1.running_var"), "lacks layer2.0.bn1.running_var"),
        (lambda s: s.update({"fc.weight": torch.zeros(10, 3)}), r"fc.weight has shape \(10, 3\) instead of \(10, 16\)"),
        (lambda s: s.update({"layer4.0.conv1.weight": torch.zeros(1)}), "has layer4.0.conv1.weight"),
        (lambda s: s.update({"epoch": 3}), "does not hold a state dict"),
    ],
)
def test_what_does_not_fit(tmp_path, pictures, change, message):
    torch.save(edited(change), tmp_path / "s.pt")
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures, architecture=ARCHITECTURE)
    assert not (tmp_path / "w").exists()


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_is_never_executed(tmp_path, pictures, capsys):
    torch.save({"fc.weight": Payload()}, tmp_path / "s.pt")
    np.savez(tmp_path / "s.npz", np.array([Payload()], dtype=object))
    for name in ("s.pt", "s.npz"):
        with pytest.raises(WeightsError):
            import_weights(tmp_path / name, tmp_path / "w", pictures, architecture=ARCHITECTURE)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["s.pt", "s.npz", "s.safetensors", "s.txt"])
@pytest.mark.parametrize("content", [None, b"", b"garbage" * 50])
def test_no_weights(tmp_path, pictures, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError):
        import_weights(tmp_path / name, tmp_path / "w", pictures, architecture=ARCHITECTURE)


def test_no_pictures(tmp_path):
    np.savez(tmp_path / "f.npz", **random_weights().parameters)
    np.savez(tmp_path / "wrong.npz", x=np.zeros((2, 3, 8, 8), np.uint8))
    (tmp_path / "empty").mkdir()
    for pictures in ("none", "none.npz", "empty", "f.npz", "wrong.npz"):
        with pytest.raises(PictureError):
            import_weights(tmp_path / "f.npz", tmp_path / "w", tmp_path / pictures, architecture=ARCHITECTURE)


@pytest.mark.skipif(not SEED.exists(), reason="needs the original's weights")
def test_the_originals_weights_give_its_logits(tmp_path, inputs):
    """Raw pixels and no bias, as the original has it: its plain model's printed logits on luis.png."""
    raw = ((0.0,) * 3, (1.0,) * 3)
    import_weights(SEED / "resnet20_folded.npz", tmp_path / "w", inputs, *raw, architecture=RESNET20)
    logits = PlainNetwork(load_weights(tmp_path / "w")).logits(read_picture(SEED / "luis.png"))
    expected = [-0.711, -4.183, -0.293, 12.028, -4.985, 4.436, -0.528, -1.015, -2.24, -2.508]
    assert np.abs(logits - expected).max() < 1e-3
