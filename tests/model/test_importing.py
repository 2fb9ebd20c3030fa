"""Weights from elsewhere: every form that is read, and the first difference of every one that does not fit."""

import argparse
import gzip
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniature import ARCHITECTURE, INSECURE_SET, forward, random_weights

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from test_trained import trained, with_statistics

from lowmem_resnet20.errors import PictureError, UsageError, WeightsError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.model.sources import open_source
from lowmem_resnet20.network.architecture import RESNET20, Architecture
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.resnet20 import Network, NoObserver, pack_pictures
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.network.weights import load_weights

SMALL = Architecture(width=16, channels=(8, 16, 32), blocks_per_stage=1)
SEED = Path(__file__).parents[3] / "shared" / "data" / "seed"


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "pictures.npz", x=random.integers(0, 256, (20, 3, 16, 16), dtype=np.uint8))
    return tmp_path / "pictures.npz"


def prefixed(prefix):
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def wrapped(*wrappers):
    def wrap(state):
        for wrapper in wrappers:
            state = {"epoch": 3, "optimizer": {"state": {}}, wrapper: state}
        return state

    return wrap


#: What others save instead of a state dict by this program's names.
FLAT_VARIANTS = {
    "plain": dict,
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "net.": prefixed("net."),
    "model.": prefixed("model."),
    "compiled, then parallel": prefixed("module._orig_mod."),
    "lightning of parallel": prefixed("model.net.module."),
    "linear and shortcut": lambda state: {
        k.replace("fc.", "linear.").replace("downsample", "shortcut"): v for k, v in state.items()
    },
    "double precision": lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
}
NESTED_VARIANTS = {
    "state_dict": wrapped("state_dict"),
    "net": wrapped("net"),
    "model": wrapped("model"),
    "model_state_dict": wrapped("model_state_dict"),
    "twice": wrapped("state_dict", "model"),
    "parameters": lambda state: {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
}


def state_dict():
    return trained(SMALL).state_dict()


def check_imported(source, pictures, out):
    report = import_weights(source, out, pictures, (0.5,) * 3, (0.2,) * 3)
    weights = load_weights(out)
    x = np.random.default_rng(1).uniform(0, 1, (3, 16, 16))
    with torch.no_grad():
        expected = trained(SMALL).double()(torch.from_numpy((x[None] - 0.5) / 0.2))[0].numpy()
    assert np.abs(PlainNetwork(weights).logits(x) - expected).max() < 1e-4
    assert report.pictures == 20 and report.difference is None and weights.mean == (0.5,) * 3
    assert report.architecture == weights.architecture == SMALL


@pytest.mark.parametrize("name", [*FLAT_VARIANTS, *NESTED_VARIANTS])
def test_state_dicts(tmp_path, pictures, name):
    torch.save((FLAT_VARIANTS | NESTED_VARIANTS)[name](state_dict()), tmp_path / "s.pt")
    check_imported(tmp_path / "s.pt", pictures, tmp_path / "w")


@pytest.mark.parametrize("name", ["plain", "compiled, then parallel", "linear and shortcut"])
def test_safetensors(tmp_path, pictures, name):
    save_file(FLAT_VARIANTS[name](state_dict()), tmp_path / "s.safetensors")
    check_imported(tmp_path / "s.safetensors", pictures, tmp_path / "w")


@pytest.mark.parametrize(
    "name, form",
    [
        ("s.pth.tar", "pickle"),
        ("s.ckpt", "zip"),
        ("s.bin", "zip"),
        ("s.PTH", "zip"),
        ("s.pt", "safetensors"),
        ("s.safetensors", "zip"),
        ("s.npz", "safetensors"),
        ("s", "pickle"),
    ],
)
def test_files_are_told_by_content(tmp_path, pictures, name, form):
    if form == "safetensors":
        save_file(state_dict(), tmp_path / name)
    else:
        torch.save(state_dict(), tmp_path / name, _use_new_zipfile_serialization=form == "zip")
    check_imported(tmp_path / name, pictures, tmp_path / "w")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_of_another_name(tmp_path, pictures, save):
    with open(tmp_path / "f.pt", "wb") as file:
        save(file, **random_weights(SMALL).parameters)
    pictures = pictures.rename(tmp_path / "pictures.bin")
    assert import_weights(tmp_path / "f.pt", tmp_path / "w", pictures).pictures == 20


FLOATS = sorted({t for t in vars(torch).values() if isinstance(t, torch.dtype) and t.is_floating_point}, key=str)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_precision_is_read_or_named(tmp_path, pictures, dtype):
    """Ten numbers that each precision has, in whatever bytes it keeps them; of two in a byte none can be told."""
    state = state_dict()
    size = torch.empty(0, dtype=dtype).element_size()
    state["fc.bias"] = torch.zeros(10 * size, dtype=torch.uint8).view(dtype)
    torch.save(state, tmp_path / "s.pt")
    try:
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)
    except WeightsError as error:
        assert f"fc.bias is {dtype}, which cannot be read" in error.message and error.hint
        assert size == 1 and not (tmp_path / "w").exists()
    else:
        expected = state["fc.bias"].to(torch.float32).numpy()
        assert (load_weights(tmp_path / "w").parameters["fc.bias"] == expected).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_precision_of_safetensors_is_read_or_named(tmp_path, pictures, dtype):
    """Its reader lacks some that its writer has, and no file is damaged for it."""
    state = state_dict()
    state["fc.bias"] = torch.zeros(10 * torch.empty(0, dtype=dtype).element_size(), dtype=torch.uint8).view(dtype)
    save_file(state, tmp_path / "s.safetensors")
    try:
        import_weights(tmp_path / "s.safetensors", tmp_path / "w", pictures)
    except WeightsError as error:
        assert error.message.endswith("which cannot be read") and "another precision" in error.hint
        assert dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
def test_weights_of_few_bits_are_what_they_stand_for(tmp_path, pictures, dtype):
    rounded = {name: tensor.to(dtype).to(torch.float32) for name, tensor in state_dict().items()}
    small = {name: tensor.to(dtype) for name, tensor in rounded.items()}
    for name, state in (("few", small), ("many", rounded)):
        torch.save(state, tmp_path / f"{name}.pt")
        import_weights(tmp_path / f"{name}.pt", tmp_path / name, pictures)
    few, many = (load_weights(tmp_path / name) for name in ("few", "many"))
    assert few.fingerprint == many.fingerprint


@pytest.mark.parametrize("model", ["with parameters", "without"])
@pytest.mark.parametrize("epsilon", [0.1, 1e-3, 1.0])
def test_batch_norms_of_another_eps(tmp_path, pictures, model, epsilon):
    """Taken to be the usual, this one's logits are tenths off; shortcuts without parameters are the same with any."""
    network = trained(SMALL) if model == "with parameters" else with_statistics(OptionA(SMALL))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = epsilon
    torch.save(network.state_dict(), tmp_path / "s.pt")
    arguments = tmp_path / "s.pt", tmp_path / "w", pictures, (0.5,) * 3, (0.2,) * 3
    pixels = np.random.default_rng(1).uniform(0, 1, (4, 3, 16, 16))
    with torch.no_grad():
        expected = network.double()(torch.from_numpy((pixels - 0.5) / 0.2)).numpy()
    differences = {}
    for given in (epsilon, None):
        report = import_weights(*arguments, epsilon=given)
        assert report.epsilon == (given or 1e-5)
        logits = PlainNetwork(load_weights(tmp_path / "w")).logits(pixels)
        differences[given] = np.abs(logits - expected).max() / np.abs(expected).max()
    assert differences[epsilon] < 1e-5 and differences[None] > 1e-4


def test_what_is_folded_has_no_eps(tmp_path, pictures):
    np.savez(tmp_path / "f.npz", **random_weights(SMALL).parameters)
    assert import_weights(tmp_path / "f.npz", tmp_path / "w", pictures).epsilon is None
    with pytest.raises(UsageError, match="folded already"):
        import_weights(tmp_path / "f.npz", tmp_path / "v", pictures, epsilon=1e-3)
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(("asked", "kind"), [(4096, MemoryError), (1 << 60, WeightsError)])
def test_want_of_memory_is_not_the_files_damage(tmp_path, pictures, monkeypatch, asked, kind):
    """In PyTorch's words; a damaged file may ask for what no machine has."""

    def load(*_, **__):
        raise RuntimeError(
            f"[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to "
            f"allocate {asked} bytes. Error code 12 (Cannot allocate memory)"
        )

    torch.save(state_dict(), tmp_path / "s.pt")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(kind):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)


class OptionA(torch.nn.Module):
    """A residual network whose shortcuts have no parameters, with the names of the best-known such ResNet20."""

    class Block(torch.nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.outputs, self.stride = outputs, stride
            self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(outputs)
            self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(outputs)
            self.shortcut = torch.nn.Sequential()

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if self.stride == 2:
                quarter = self.outputs // 4
                x = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            return torch.relu(y + x)

    def __init__(self, architecture):
        super().__init__()
        first, stages = architecture.channels[0], {}
        self.conv1 = torch.nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(first)
        for block in architecture.blocks():
            made = self.Block(block.in_channels, block.out_channels, block.stride)
            stages.setdefault(f"layer{block.stage}", []).append(made)
        for name, blocks in stages.items():
            self.add_module(name, torch.nn.Sequential(*blocks))
        self.stages = list(stages)
        self.linear = torch.nn.Linear(architecture.channels[-1], architecture.classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.linear(x.mean((2, 3)))


@pytest.mark.parametrize("architecture", [SMALL, RESNET20], ids=["miniature", "full"])
def test_shortcuts_without_parameters(tmp_path, architecture):
    model = with_statistics(OptionA(architecture))
    state = torch.nn.DataParallel(model).state_dict()
    assert "module.linear.bias" in state and not any("shortcut" in name for name in state)
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "s.th")
    random = np.random.default_rng(2)
    width = architecture.width
    np.savez(tmp_path / "p.npz", x=random.integers(0, 256, (4, 3, width, width), dtype=np.uint8))
    import_weights(tmp_path / "s.th", tmp_path / "w", tmp_path / "p.npz", (0.5,) * 3, (0.2,) * 3)
    weights = load_weights(tmp_path / "w")
    pixels = random.uniform(0, 1, (4, 3, width, width))
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(weights.normalise(pixels))).numpy()
    assert np.abs(PlainNetwork(weights).logits(pixels) - expected).max() < 1e-5 * np.abs(expected).max()
    kernel = weights.parameters["layer2.0.downsample.weight"]
    assert set(np.unique(kernel)) == {0, 1} and not weights.parameters["layer2.0.downsample.bias"].any()


def test_shortcuts_without_parameters_pack_like_others(tmp_path, pictures, monkeypatch):
    """The encrypted network's packing takes the sparse kernels too: run in the clear, against its definition."""
    monkeypatch.setattr("lowmem_resnet20.model.arrangement.FIRST_CHANNELS", ARCHITECTURE.channels[:1])
    torch.save(with_statistics(OptionA(ARCHITECTURE)).state_dict(), tmp_path / "s.th")
    import_weights(tmp_path / "s.th", tmp_path / "w", pictures)
    weights, set_ = load_weights(tmp_path / "w"), INSECURE_SET
    with np.load(pictures) as file:
        pixels = file["x"][0] / 255
    scaled = scale(weights, set_.refresh)
    picture = Clear(pack_pictures(ARCHITECTURE, weights.normalise(pixels)[None]), 1)
    logits = Network(set_, scaled, ClearEvaluator(set_), NoObserver()).run(picture).values[:10]

    def approximated(name, x):
        unit = scaled.units[name][:, None, None]
        return set_.refresh.approximated_relu(x / unit) * unit

    expected = forward(weights, pixels, approximated)["fc"]
    assert np.abs(logits - expected).max() < 1e-9 * np.abs(expected).max()


def test_folded_npz_without_bias(tmp_path, pictures):
    parameters = dict(random_weights(SMALL).parameters)
    del parameters["fc.bias"]
    np.savez(tmp_path / "f.npz", **parameters)
    report = import_weights(tmp_path / "f.npz", tmp_path / "w", pictures)
    weights = load_weights(tmp_path / "w")
    assert (weights.parameters["fc.bias"] == 0).all() and report.difference is None
    assert weights.mean == (0.4914, 0.4822, 0.4465)


def test_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.jpg", "c.PNG")):
        Image.new("RGB", (40, 30), (80 * i, 10, 200)).save(folder / name)
    np.savez(tmp_path / "f.npz", **random_weights(SMALL).parameters)
    report = import_weights(tmp_path / "f.npz", tmp_path / "w", folder)
    assert report.pictures == 3 and report.useful_pictures == 0 and report.too_few


def test_pictures_that_say_nothing_are_not_counted(tmp_path):
    """150 pictures: 100 that differ, one of them 31 times, and 20 of one colour each."""
    np.savez(tmp_path / "f.npz", **random_weights(SMALL).parameters)
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (150, 3, 16, 16), dtype=np.uint8)
    x[100:130] = x[0]
    x[130:] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    for count, useful in ((150, 100), (99, 99)):
        np.savez(tmp_path / "p.npz", x=x[:count])
        report = import_weights(tmp_path / "f.npz", tmp_path / "w", tmp_path / "p.npz")
        assert (report.pictures, report.useful_pictures) == (count, useful)
        assert report.too_few == (useful < 100)


def edited(change):
    state = trained(SMALL).state_dict()
    change(state)
    return state


def _jagged():
    return torch.nested.nested_tensor([torch.zeros(10)], layout=torch.jagged)


def _quantized():
    return torch.quantize_per_tensor(torch.zeros(10), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("layer2.0.bn1.running_var"), "lacks layer2.0.bn1.running_var"),
        (lambda s: s.update({"fc.weight": torch.zeros(10, 3)}), "ResNet-8 .*a fully connected layer of 3 values"),
        (lambda s: s.update({"layer4.0.conv1.weight": torch.zeros(1)}), "has layer4.0.conv1.weight"),
        (lambda s: s.update({"epoch": 3}), "does not hold a state dict: epoch is int"),
        (lambda s: s.update({"module.fc.bias": s["fc.bias"]}), r"has module.fc.bias of shape \(10,\)"),
        (lambda s: s["bn1.weight"].fill_(float("nan")), "bn1.weight has values that are not finite"),
        (lambda s: s["layer1.0.conv1.weight"].fill_(float("inf")), "layer1.0.conv1.weight has values that are not"),
        (lambda s: s["layer1.0.bn2.running_var"].fill_(-1), "layer1.0.bn2.running_var has a negative value"),
        (lambda s: s.update({"fc.bias": torch.zeros(10, dtype=torch.int8)}), "fc.bias is not a dense .* torch.int8"),
        (lambda s: s.update({"fc.bias": torch.zeros(10, dtype=torch.complex64)}), "fc.bias is not a dense"),
        (lambda s: s.update({"fc.bias": torch.zeros(10).to_sparse()}), "fc.bias is not a dense .* torch.sparse_coo"),
        (lambda s: s.update({"fc.bias": torch.zeros(10, device="meta")}), "fc.bias is not a dense .* meta"),
        (lambda s: s.update({"fc.bias": torch.zeros(10, dtype=torch.bool)}), "fc.bias is not a dense .* torch.bool"),
        (lambda s: s.update({"fc.bias": torch.nested.nested_tensor([torch.zeros(10)])}), "fc.bias is not .* nested"),
        (lambda s: s.update({"fc.bias": _jagged()}), "holds torch.*nested|fc.bias is not a dense"),
        (
            lambda s: s.update({"fc.weight": torch.zeros(10, 32).to_sparse_csr()}),
            "fc.weight is not a dense .*sparse_csr",
        ),
        (lambda s: s.update({"fc.bias": _quantized()}), "fc.bias is not a dense .* torch.qint8"),
        (lambda s: s.update({"fc.bias": torch.zeros(1).expand(1 << 50)}), "fc.bias has shape"),
    ],
)
def test_what_does_not_fit(tmp_path, pictures, change, message):
    torch.save(edited(change), tmp_path / "s.pt")
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("state", [[], 3, {"net": [1]}, {"state_dict": {}}, {1: torch.zeros(1)}])
def test_a_checkpoint_without_a_network(tmp_path, pictures, state):
    torch.save(state, tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="does not hold a state dict"):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)


def test_wrappers_that_hold_themselves_come_to_an_end(tmp_path, pictures):
    state = {}
    state["net"] = state
    torch.save(state, tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="does not hold a state dict but dict, in which net is dict"):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    "content, name",
    [
        ({"fc.weight": Payload()}, "print"),
        ({"state_dict": {}, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_a_refused_pickle_names_what_it_refuses_and_is_never_executed(tmp_path, pictures, capsys, content, name, form):
    torch.save(content, tmp_path / "s.pt", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError) as caught:
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)
    assert caught.value.message.endswith(f"s.pt holds {name}, and nothing but tensors is read from a pickle")
    assert "model.state_dict()" in caught.value.hint
    assert "executed" not in capsys.readouterr().out


def test_a_pickle_that_torch_did_not_save(tmp_path, pictures):
    (tmp_path / "s.pkl").write_bytes(pickle.dumps({"fc.weight": np.zeros(3)}, protocol=4))
    with pytest.raises(WeightsError) as caught:
        import_weights(tmp_path / "s.pkl", tmp_path / "w", pictures)
    assert caught.value.message.endswith("s.pkl is a pickle of more than tensors: Unsupported operand 149")


def test_an_npz_of_objects_is_never_executed(tmp_path, pictures, capsys):
    np.savez(tmp_path / "s.npz", np.array([Payload()], dtype=object))
    with pytest.raises(WeightsError):
        import_weights(tmp_path / "s.npz", tmp_path / "w", pictures)
    assert "executed" not in capsys.readouterr().out


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def archive_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, "text")
    return buffer.getvalue()


def tar_of_nothing() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("checkpoint.pth"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"garbage" * 50, "is of no kind that can be imported"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a git-lfs pointer"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html></html>", "is a web page"),
        (gzip.compress(b"x"), "is compressed by gzip"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (tar_of_nothing(), "is a tar archive"),
        (torchscript(), "is a TorchScript program"),
        (archive_of("readme.txt"), "is a zip archive without weights"),
        (archive_of("archive/data.pkl"), "is damaged or cut short"),
        (b"PK\x03\x04", "is damaged or cut short"),
        (b"\x80", "is damaged or cut short"),
        (b"\x09\0\0\0\0\0\0\0{", "is damaged or cut short"),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("name", ["s.pt", "s.npz"])
def test_what_is_no_weights_is_named(tmp_path, pictures, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        import_weights(tmp_path / name, tmp_path / "w", pictures)
    assert caught.value.hint and "\n" not in caught.value.message


def test_no_file_of_weights(tmp_path, pictures, monkeypatch):
    with pytest.raises(WeightsError, match="there is no file"):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)
    os.mkfifo(tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="not a regular file"):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)
    monkeypatch.setattr("lowmem_resnet20.model.sourcefile.LARGEST_BYTES", 3)
    (tmp_path / "large.pt").write_bytes(b"12345")
    with pytest.raises(WeightsError, match="too large"):
        import_weights(tmp_path / "large.pt", tmp_path / "w", pictures)


@pytest.mark.parametrize("member", ["archive/data.pkl", "conv1.weight.npy"])
def test_a_zip_that_unpacks_to_too_much_is_refused_unpacked(tmp_path, pictures, monkeypatch, member):
    """Zeros take a thousandth of their size in an archive, and the size of the file says nothing."""
    with zipfile.ZipFile(tmp_path / "s.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(member, bytes(1 << 20))
    monkeypatch.setattr("lowmem_resnet20.model.sourcefile.LARGEST_BYTES", 1 << 18)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("nothing may be unpacked"))
    with pytest.raises(WeightsError, match="unpacks to more than"):
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures)


@pytest.mark.parametrize("form", ["zip", "pickle", "npz", "safetensors"])
def test_a_file_cut_short_or_changed_is_refused(tmp_path, pictures, form):
    path = tmp_path / "s"
    if form == "safetensors":
        save_file(state_dict(), path)
    elif form == "npz":
        with open(path, "wb") as file:
            np.savez_compressed(file, **random_weights(SMALL).parameters)
    else:
        torch.save(state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    damaged = [content[:length] for length in (2, 60, len(content) // 2, len(content) - 1)]
    if form == "npz":
        damaged.append(content[:300] + b"\xff" * 50 + content[350:])
    for each in damaged:
        path.write_bytes(each)
        with pytest.raises(WeightsError):
            import_weights(path, tmp_path / "w", pictures)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [1e30, 1e200])
def test_absurd_numbers_are_refused_in_a_line(tmp_path, pictures, factor):
    parameters = random_weights(SMALL).parameters
    np.savez(tmp_path / "f.npz", **{name: array.astype(np.float64) * factor for name, array in parameters.items()})
    with pytest.raises(WeightsError, match="not finite"):
        import_weights(tmp_path / "f.npz", tmp_path / "w", pictures)
    assert not (tmp_path / "w").exists()


def test_only_what_has_a_place_is_made_double_precision(tmp_path, monkeypatch):
    """Bytes would take eight times their place, and zeros of them nothing in the file."""
    np.savez_compressed(tmp_path / "f.npz", **random_weights(SMALL).parameters, more=np.zeros((9, 9, 99, 99), np.uint8))
    monkeypatch.setattr("lowmem_resnet20.model.sources._numbers", lambda *_: pytest.fail("nothing has been arranged"))
    with pytest.raises(WeightsError, match="more"):
        open_source(tmp_path / "f.npz")


def test_a_member_of_an_npz_that_is_no_array(tmp_path, pictures):
    np.savez(tmp_path / "f.npz", **random_weights(SMALL).parameters)
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as file:
        file.writestr("README", b"not an array")
    with pytest.raises(WeightsError, match="README"):
        import_weights(tmp_path / "f.npz", tmp_path / "w", pictures)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.full(10, np.nan), "fc.bias has values that are not finite"),
        (np.full(10, "1"), "fc.bias is <U1, not numbers"),
        (np.zeros(10, complex), "fc.bias is complex128, not numbers"),
    ],
)
def test_folded_parameters_that_are_no_numbers(tmp_path, pictures, array, message):
    np.savez(tmp_path / "f.npz", **(dict(random_weights(SMALL).parameters) | {"fc.bias": array}))
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "f.npz", tmp_path / "w", pictures)


@pytest.mark.parametrize(
    "mean, std, message",
    [
        ((125.3, 123.0, 113.9), None, r"mean 125.3, 123, 113.9 is not of pixels from 0 to 1"),
        (None, (63.0, 62.1, 66.7), r"std 63, 62.1, 66.7 is not of pixels from 0 to 1"),
        ((float("nan"),) * 3, None, "mean nan"),
        (None, (0.2, 0.0, 0.2), "std 0.2, 0, 0.2"),
        (None, (0.2, -0.2, 0.2), "std 0.2, -0.2, 0.2"),
    ],
)
def test_a_normalisation_of_other_pixels(tmp_path, pictures, mean, std, message):
    torch.save(state_dict(), tmp_path / "s.pt")
    with pytest.raises(UsageError, match=message) as caught:
        import_weights(tmp_path / "s.pt", tmp_path / "w", pictures, mean, std)
    assert ("divide it by 255" in caught.value.hint) == ("6" in message or "12" in message)


def test_hidden_pictures_are_not_calibrated_on(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "._a.png").write_bytes(b"\0\5\x16\7")
    np.savez(tmp_path / "f.npz", **random_weights(SMALL).parameters)
    report = import_weights(tmp_path / "f.npz", tmp_path / "w", tmp_path / "pictures")
    assert report.pictures == 1


def test_no_pictures(tmp_path):
    np.savez(tmp_path / "f.npz", **random_weights(SMALL).parameters)
    np.savez(tmp_path / "wrong.npz", x=np.zeros((2, 3, 8, 4), np.uint8))
    (tmp_path / "empty").mkdir()
    for pictures in ("none", "none.npz", "empty", "f.npz", "wrong.npz"):
        with pytest.raises(PictureError):
            import_weights(tmp_path / "f.npz", tmp_path / "w", tmp_path / pictures)


@pytest.mark.skipif(not SEED.exists(), reason="needs the original's weights")
def test_the_originals_weights_give_its_logits(tmp_path, inputs):
    """Raw pixels and no bias, as the original has it: its plain model's printed logits on luis.png."""
    raw = ((0.0,) * 3, (1.0,) * 3)
    import_weights(SEED / "resnet20_folded.npz", tmp_path / "w", inputs, *raw)
    logits = PlainNetwork(load_weights(tmp_path / "w")).logits(read_picture(SEED / "luis.png"))
    expected = [-0.711, -4.183, -0.293, 12.028, -4.985, 4.436, -0.528, -1.015, -2.24, -2.508]
    assert np.abs(logits - expected).max() < 1e-3
