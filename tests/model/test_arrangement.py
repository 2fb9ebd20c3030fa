"""Networks in the naming of others: the same numbers as their own modules give, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from test_trained import trained
from torch import nn
from torch.nn.functional import pad

from lowmem_resnet20.errors import WeightsError
from lowmem_resnet20.model.arrangement import arrange
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.model.trained import ResNet
from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.weights import load_weights

SMALL = Architecture(width=16, channels=(8, 16, 32), blocks_per_stage=1)
TWO = Architecture(width=16, channels=(8, 16, 32), blocks_per_stage=2)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {n: tuple(t.shape) for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}


def pictures(folder: Path, colours: int = 3, side: int = 16) -> Path:
    x = np.random.default_rng(0).integers(0, 256, (6, colours, side, side), dtype=np.uint8)
    np.savez(folder / "pictures.npz", x=x)
    return folder / "pictures.npz"


def check(model: nn.Module, file: Path, architecture: Architecture, state=None) -> None:
    """Import a file of the model's and compare the logits with the model's own, over all layers."""
    given = pictures(file.parent, architecture.input_channels)
    with np.load(given) as content:
        x = content["x"] / 255.0
    with torch.no_grad():
        expected = model.double().eval()(torch.from_numpy((x - 0.5) / 0.25)).numpy()
    np.save(file.parent / "logits.npy", expected)
    out = file.parent / "w"
    report = import_weights(file, out, given, (0.5,), (0.25,), logits=file.parent / "logits.npy")
    weights = load_weights(out)
    assert weights.architecture == report.architecture == architecture
    assert np.abs(PlainNetwork(weights).logits(x) - expected).max() < 1e-5 * np.abs(expected).max()
    assert report.difference < 1e-5 * np.abs(expected).max()


class Net(nn.Module):
    """A network of blocks made by ``block(inputs, outputs, stride)``, with the names of a dictionary."""

    def __init__(self, architecture, block, stem="stem", stages="stage{}", head="head", bias=False, norm=True):
        super().__init__()
        first = architecture.channels[0]
        parts = [nn.Conv2d(architecture.input_channels, first, 3, 1, 1, bias=bias)]
        self.add_module(stem, nn.Sequential(*parts, *([nn.BatchNorm2d(first)] if norm else [])))
        self.stem_name, self.order = stem, []
        for i, of in enumerate(architecture.blocks()):
            self.add_module(f"{stages.format(of.stage)}_{i}", block(of.in_channels, of.out_channels, of.stride))
            self.order.append(f"{stages.format(of.stage)}_{i}")
        self.add_module(head, nn.Linear(architecture.channels[-1], architecture.classes))
        self.head_name = head

    def forward(self, x):
        x = torch.relu(getattr(self, self.stem_name)(x))
        for name in self.order:
            x = getattr(self, name)(x)
        return getattr(self, self.head_name)(x.mean((2, 3)))


class Numbered(nn.Module):
    """Sequentials by number, a shortcut called skip."""

    def __init__(self, c, o, stride):
        super().__init__()
        first = [nn.Conv2d(c, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        self.body = nn.Sequential(*first, nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o))
        self.skip = nn.Identity()
        if stride > 1:
            self.skip = nn.Sequential(nn.Conv2d(c, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


class Apart(nn.Module):
    """Convolutions with biases, in one list, batch norms without scale and shift in another."""

    def __init__(self, c, o, stride):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(c, o, 3, stride, 1), nn.Conv2d(o, o, 3, 1, 1)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(o, affine=False), nn.BatchNorm2d(o, affine=False)])
        self.projection = nn.Conv2d(c, o, 1, stride) if stride > 1 else None
        self.projection_norm = nn.BatchNorm2d(o) if stride > 1 else None

    def forward(self, x):
        y = self.norms[1](self.convs[1](torch.relu(self.norms[0](self.convs[0](x)))))
        return torch.relu(y + (x if self.projection is None else self.projection_norm(self.projection(x))))


class Named(nn.Module):
    """A shortcut beside the others, whose batch norm sorts before theirs."""

    def __init__(self, c, o, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.norm2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        if stride > 1:
            self.downsample_conv, self.downsample_norm = nn.Conv2d(c, o, 1, stride, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        down = hasattr(self, "downsample_conv")
        return torch.relu(y + (self.downsample_norm(self.downsample_conv(x)) if down else x))


class Folded(nn.Module):
    """Without batch norm, and shortcuts without parameters."""

    def __init__(self, c, o, stride):
        super().__init__()
        self.conv_1, self.conv_2, self.o, self.stride = (
            nn.Conv2d(c, o, 3, stride, 1),
            nn.Conv2d(o, o, 3, 1, 1),
            o,
            stride,
        )

    def forward(self, x):
        y = self.conv_2(torch.relu(self.conv_1(x)))
        if self.stride > 1:
            x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.o // 4, self.o // 4))
        return torch.relu(y + x)


NETS = {
    "numbered": lambda: Net(TWO, Numbered, head="classifier"),
    "apart": lambda: Net(TWO, Apart, stem="initial", stages="layers{}", head="linear", bias=True),
    "named": lambda: Net(TWO, Named, stages="block"),
    "folded": lambda: Net(SMALL, Folded, bias=True, norm=False),
}


@pytest.mark.parametrize("form", ["torch", "safetensors"])
@pytest.mark.parametrize("name", NETS)
def test_other_names_give_the_same_numbers(tmp_path, name, form):
    torch.manual_seed(1)
    model = statistics(NETS[name]())
    if form == "torch":
        torch.save({"epoch": 1, "model": nn.DataParallel(model).state_dict()}, tmp_path / "s")
    else:  # by which tensors come in an order of its own
        save_file(model.state_dict(), tmp_path / "s")
    check(model, tmp_path / "s", SMALL if name == "folded" else TWO)


def statistics(model: nn.Module) -> nn.Module:
    """Batch norms that are not the identity, with scale and shift or without."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "module._orig_mod.", "ema.", "model.net.", "student.0."])
def test_any_prefix(tmp_path, prefix):
    model = trained(SMALL)
    torch.save({prefix + name: tensor for name, tensor in model.state_dict().items()}, tmp_path / "s")
    check(model, tmp_path / "s", SMALL)


def test_names_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[2, 2, 2], layer_type="basic", num_labels=10
    )
    model = transformers.ResNetForImageClassification(config)
    embedder = model.resnet.embedder
    embedder.pooler = nn.Identity()
    embedder.embedder.convolution = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
    statistics(model)
    torch.save(model.state_dict(), tmp_path / "s")

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).logits

    check(Logits(), tmp_path / "s", TWO)


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(16, (8, 16, 32), 18),
        Architecture(16, (32, 64, 128), 1, 1, 43),
        Architecture(16, (16, 32, 64), 3, 3, 128),
        Architecture(16, (8, 16, 32), 1, 1, 2),
    ],
    ids=str,
)
def test_every_shape(tmp_path, architecture):
    torch.save(trained(architecture).state_dict(), tmp_path / "s")
    check(trained(architecture), tmp_path / "s", architecture)


def test_the_moving_average_is_taken(tmp_path):
    """Of timm's two state dicts, and of two networks in one."""
    model, other = trained(SMALL, 1), trained(SMALL, 2)
    torch.save({"state_dict": other.state_dict(), "state_dict_ema": model.state_dict()}, tmp_path / "s")
    check(model, tmp_path / "s", SMALL)
    both = {f"{name}.{n}": t for name, m in (("net", other), ("model_ema", model)) for n, t in m.state_dict().items()}
    torch.save({"state_dict": both}, tmp_path / "s")
    check(model, tmp_path / "s", SMALL)


def test_optimizers_are_no_networks_and_two_networks_are_refused(tmp_path):
    model = trained(SMALL)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.zeros(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    torch.save({"optimizer": optimizer.state_dict(), "net": model.state_dict()}, tmp_path / "s")
    check(model.eval(), tmp_path / "s", SMALL)
    torch.save({"teacher": model.state_dict(), "student": model.state_dict()}, tmp_path / "s")
    with pytest.raises(WeightsError, match="holds 2 state dicts: teacher, student"):
        import_weights(tmp_path / "s", tmp_path / "v", pictures(tmp_path))


class Lettered(Numbered):
    """Names without numbers: which convolution comes first is anyone's guess."""

    def __init__(self, c, o, stride):
        nn.Module.__init__(self)
        self.later, self.earlier = nn.Conv2d(o, o, 3, 1, 1), nn.Conv2d(c, o, 3, stride, 1)
        self.skip = nn.Conv2d(c, o, 1, stride) if stride > 1 else nn.Identity()

    def body(self, x):
        return self.later(torch.relu(self.earlier(x)))


def test_names_that_go_together_need_no_answers():
    for name in ("apart", "named", "numbered"):
        found = arrange(Path("s"), shapes_of(NETS[name]()))
        assert not found.doubt
        assert all(found.layers[layer].norm for layer in found.layers)


def test_what_names_leave_open_is_taken_only_if_answers_agree(tmp_path):
    class Wrong(Lettered):
        def __init__(self, c, o, stride):
            super().__init__(c, o, stride)
            if stride == 1:
                self.earlier, self.later = self.later, self.earlier

    for block in (Lettered, Wrong):
        model = Net(SMALL, block, bias=True, norm=False)
        torch.save(model.state_dict(), tmp_path / "s")
        with pytest.raises(WeightsError, match=r"whether .*\.earlier or .*\.later comes first, and there is nothing"):
            import_weights(tmp_path / "s", tmp_path / "w", pictures(tmp_path))
        if block is Lettered:  # as the alphabet has it
            check(model, tmp_path / "s", SMALL)
    (tmp_path / "w").unlink()
    model.eval().double()
    with np.load(pictures(tmp_path)) as content, torch.no_grad():
        np.save(tmp_path / "l.npy", model(torch.from_numpy(content["x"] / 255.0)).numpy()[:, ::-1])
    with pytest.raises(WeightsError, match="a logit of the imported network is off by"):
        import_weights(
            tmp_path / "s", tmp_path / "w", tmp_path / "pictures.npz", (0.0,), (1.0,), logits=tmp_path / "l.npy"
        )
    assert not (tmp_path / "w").exists()


def bare(name: str) -> nn.Module:
    models = pytest.importorskip("torchvision").models
    return getattr(models, name)(weights=None)


class Normed(Numbered):
    def __init__(self, c, o, stride):
        super().__init__(c, o, stride)
        self.body[1] = nn.GroupNorm(2, o)


@pytest.mark.parametrize(
    "model, message",
    [
        (
            lambda: bare("resnet18"),
            r"ResNet-18 \(7x7 first convolution, 4 stages of 64, 128, 256 and 512 channels, .*1,000",
        ),
        (lambda: bare("resnet50"), r"ResNet-50 \(7x7 first convolution, bottleneck blocks, 4 stages"),
        (lambda: bare("vgg11"), "a network of 8 convolutions and 3 fully connected layers"),
        (lambda: bare("mobilenet_v2"), "a network of 52 convolutions and 1 fully connected layer"),
        (
            lambda: ResNet(Architecture(channels=(8, 16, 32, 64), blocks_per_stage=2)),
            r"ResNet-18 \(4 stages of 8, 16, 32",
        ),
        (lambda: ResNet(Architecture(channels=(64, 128, 256))), "ResNet-20 .*3 stages of 64, 128 and 256 channels"),
        (lambda: Net(TWO, Normed), "is a norm without running mean and variance"),
    ],
)
def test_other_networks_are_named(model, message):
    with pytest.raises(WeightsError, match=message) as caught:
        arrange(Path("s"), shapes_of(model()))
    assert caught.value.hint


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("layer2.0.conv2.weight"), "layer2.0 has 1 convolution and 2 batch norms"),
        (
            lambda s: s.pop("layer1.1.conv1.weight") and s.pop("layer1.1.bn1.running_mean"),
            "lacks layer1.1.bn1.running_mean",
        ),
        (lambda s: s.update({"fc.weight": (129, 32), "fc.bias": (129,)}), "129 classes"),
        (lambda s: s.update({"fc.weight": (1, 32), "fc.bias": (1,)}), "1 classes"),
        (lambda s: s.update({"conv1.weight": (8, 4, 3, 3)}), "4 colours"),
        (lambda s: s.update({"conv1.weight": (8, 3, 5, 5)}), "5x5 first convolution"),
        (lambda s: s.update({"layer1.0.conv1.weight": (8, 8, 5, 5)}), "5x5 convolutions"),
        (lambda s: s.update({"layer1.0.conv1.weight": (8, 64, 3, 3)}), "layer1.0.conv1 of shape .* has no place"),
        (
            lambda s: s.update({"conv0.weight": (8, 3, 3, 3), "bn0.running_mean": (8,), "bn0.running_var": (8,)}),
            "ResNet-15",
        ),
        (lambda s: s.update({"layer1.0.conv1.weight_g": (8,)}), "has layer1.0.conv1.weight_g, which this network"),
        (lambda s: s.update({"layer1.0.se.weight": (8, 8)}), "2 fully connected layers"),
        (lambda s: s.update({"layer1.0.bn1.running_var": (9,)}), r"running_var has shape \(9,\) instead of \(8,\)"),
        (lambda s: s.update({"conv1.bias": (9,)}), r"conv1.bias has shape \(9,\) instead of \(8,\)"),
        (lambda s: s.update({"bn1.running_mean": ()}), "bn1"),
        (lambda s: s.update(dict.fromkeys([n for n in s if n.startswith("bn1.")], ())), "bn1.* is a single number"),
        (lambda s: s.update({f"n{i}.weight": (1,) for i in range(5000)}), "tensors"),
        (lambda s: s.update({"a" * 300: (1,)}), "a name that is too long"),
        (lambda s: [s.pop(n) for n in list(s) if "bn" in n or "downsample.1" in n], "has neither batch norm nor bias"),
        (lambda s: s.clear(), "a network of 0 convolutions and 0 fully connected layers"),
    ],
)
def test_the_first_difference_is_named(change, message):
    shapes = shapes_of(ResNet(TWO))
    change(shapes)
    with pytest.raises(WeightsError, match=message):
        arrange(Path("s"), shapes)


def test_a_network_that_no_ring_holds(tmp_path):
    torch.save(trained(Architecture()).state_dict(), tmp_path / "s")
    with pytest.raises(WeightsError) as caught:
        import_weights(tmp_path / "s", tmp_path / "w", pictures(tmp_path), side=64)
    assert caught.value.message.endswith("this is a ResNet-20 with 64x64 pictures: 65,536 slots, a ring holds 32,768")
    with pytest.raises(WeightsError, match="ResNet-20 with 28x28 pictures: width and channels must be powers of two"):
        import_weights(tmp_path / "s", tmp_path / "w", pictures(tmp_path, side=28))


def test_pre_activation_networks_are_not_taken_for_others():
    class Before(nn.Module):
        def __init__(self, c, o, stride):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, o, 3, stride, 1, bias=False)
            self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
            if stride > 1:
                self.shortcut = nn.Conv2d(c, o, 1, stride)

    with pytest.raises(WeightsError, match="batch norm"):
        arrange(Path("s"), shapes_of(Net(TWO, Before)))
