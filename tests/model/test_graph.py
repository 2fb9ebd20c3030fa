"""ONNX files, as PyTorch exports them and as others write them; compared with what ONNX's own evaluator computes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from test_arrangement import Folded, Net, pictures
from test_importing import OptionA
from test_trained import trained, with_statistics
from torch import nn

from lowmem_resnet20.errors import UsageError, WeightsError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.model.sources import open_source
from lowmem_resnet20.model.trained import ResNet
from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.weights import load_weights

SMALL = Architecture(width=16, channels=(8, 16, 32), blocks_per_stage=1)


class Alone(nn.Module):
    """A module that takes pictures and no more."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def exported(model: nn.Module, colours: int = 3, side: int = 16, **options) -> onnx.ModelProto:
    buffer, zeros = io.BytesIO(), torch.zeros(1, colours, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Alone(model).eval(), (zeros,), buffer, dynamo=False, **options)
    return onnx.load_model_from_string(buffer.getvalue())


def check(model: onnx.ModelProto, folder: Path, *normalisation, given=None, colours: int = 3, scale: float = 1.0):
    """Import a graph, with its logits as ONNX's own evaluator computes them, which must agree."""
    onnx.save(model, folder / "m.onnx")
    x = np.load(pictures(folder, colours))["x"] / 255.0 * scale
    mean, std = given or ((0.0,), (1.0,))
    evaluator, name = ReferenceEvaluator(model), model.graph.input[0].name
    rows = [((p - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1)))[None].astype(np.float32) for p in x]
    np.save(folder / "l.npy", np.concatenate([evaluator.run(None, {name: row})[0].reshape(1, -1) for row in rows]))
    arguments = folder / "m.onnx", folder / "w", folder / "pictures.npz", *normalisation
    report = import_weights(*arguments, logits=folder / "l.npy")
    assert report.difference < 1e-4 and report.epsilon is None
    return load_weights(folder / "w")


class Normalised(nn.Module):
    """Pixels to logits."""

    def __init__(self, network, scale=1.0):
        super().__init__()
        self.network, self.scale = network, scale
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.45])[:, None, None] * scale)
        self.register_buffer("std", torch.tensor([0.25, 0.2, 0.3])[:, None, None] * scale)

    def forward(self, x):
        return self.network((x - self.mean) / self.std)


GIVEN = ((0.5,), (0.25,))


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "with batch norm"])
@pytest.mark.parametrize("dynamic", [True, False], ids=["any number of pictures", "one picture"])
def test_what_pytorch_exports(tmp_path, fold, dynamic):
    training = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}} if dynamic else {}
    model = exported(trained(SMALL), training=training, do_constant_folding=fold, **axes)
    assert ("BatchNormalization" in {node.op_type for node in model.graph.node}) != fold
    weights = check(model, tmp_path, *GIVEN, given=GIVEN)
    assert weights.architecture == SMALL and weights.epsilon is None


def test_shortcuts_without_parameters(tmp_path):
    assert check(exported(with_statistics(OptionA(SMALL))), tmp_path, *GIVEN, given=GIVEN).architecture == SMALL
    check(exported(Net(SMALL, Folded, bias=True, norm=False)), tmp_path, *GIVEN, given=GIVEN)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_a_normalisation_in_the_graph(tmp_path, scale):
    """Of pixels in [0, 1], and of bytes."""
    weights = check(exported(Normalised(trained(SMALL), scale)), tmp_path, scale=scale)
    assert np.allclose(weights.mean, (0.5, 0.4, 0.45)) and np.allclose(weights.std, (0.25, 0.2, 0.3))


class Head(nn.Module):
    def __init__(self, head, colours=3):
        super().__init__()
        self.network, self.head = trained(Architecture(16, (8, 16, 32), 1, colours)), head

    def forward(self, x):
        network = self.network
        x = torch.relu(network.bn1(network.conv1(x)))
        for stage in (network.layer1, network.layer2, network.layer3):
            x = stage[0](x)
        return self.head(network, x)


HEADS = {
    "average and flatten": lambda n, x: n.fc(torch.flatten(nn.functional.avg_pool2d(x, 4), 1)),
    "average and view": lambda n, x: n.fc(nn.functional.avg_pool2d(x, x.size(3)).view(x.size(0), -1)),
    "adaptive": lambda n, x: n.fc(nn.functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)),
    "matrix product": lambda n, x: x.mean((2, 3)) @ n.fc.weight.T + n.fc.bias,
    "without bias": lambda n, x: x.mean((2, 3)) @ n.fc.weight.T,
}


@pytest.mark.parametrize("name", HEADS)
def test_forms_of_the_head(tmp_path, name):
    weights = check(exported(Head(HEADS[name], 1), 1), tmp_path, *GIVEN, given=GIVEN, colours=1)
    assert weights.architecture.input_channels == 1


class Block(nn.Module):
    """One that is not the network's, at the end of the first stage."""

    def __init__(self, inner):
        super().__init__()
        self.network, self.inner = trained(SMALL), inner

    def forward(self, x):
        n = self.network
        x = torch.relu(n.bn1(n.conv1(x)))
        return n.fc(n.layer3(n.layer2(self.inner(n.layer1, x))).mean((2, 3)))


def nothing(n, x):
    return n(x)


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: Block(lambda n, x: n(x) * 0.5), "goes to Mul instead of"),
        (lambda: Block(lambda n, x: nn.functional.max_pool2d(n(x), 1)), "goes to MaxPool instead of Conv"),
        (lambda: Block(lambda n, x: n[0].bn2(n[0].conv2(torch.relu(n[0].bn1(n[0].conv1(x)))))), "instead of"),
        (lambda: Block(lambda n, x: torch.sigmoid(n(x))), "goes to Sigmoid instead of"),
        (lambda: Head(lambda n, x: torch.softmax(n.fc(x.mean((2, 3))), 1)), "goes on with Softmax .* after"),
        (lambda: Head(lambda n, x: n.fc(x.amax((2, 3)))), "goes to ReduceMax .* instead of"),
        (lambda: Head(lambda n, x: n.fc(x[:, :, ::2].mean((2, 3)))), "goes to Slice .* instead of"),
        (lambda: Head(lambda n, x: n.fc(nn.functional.avg_pool2d(x, 2)[:, :, 0, 0])), "instead of"),
        (
            lambda: Head(lambda n, x: n.fc(torch.flatten(nn.functional.avg_pool2d(x[:, :, :, :], 4), 1)) * 2),
            "goes on with Mul",
        ),
    ],
    ids=range(9),
)
def test_what_is_not_the_network_is_named(tmp_path, model, message):
    onnx.save(exported(model()), tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match=message) as caught:
        import_weights(tmp_path / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN)
    assert caught.value.hint and not (tmp_path / "w").exists()


def graph_node(model, kind, place=0):
    return [node for node in model.graph.node if node.op_type == kind][place]


def with_attribute(kind, place, **attributes):
    def change(model):
        node = graph_node(model, kind, place)
        kept = [a for a in node.attribute if a.name not in attributes]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in attributes.items())])

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (with_attribute("Conv", 1, strides=[2, 2]), r"whose strides are \[2, 2\] instead of \[1, 1\]"),
        (with_attribute("Conv", 1, pads=[0, 0, 2, 2]), r"whose pads are \[0, 0, 2, 2\]"),
        (with_attribute("Conv", 1, dilations=[2, 2]), "whose dilations are"),
        (with_attribute("Conv", 1, group=2), "whose group are 2"),
        (with_attribute("Conv", 1, auto_pad="SAME_LOWER"), "whose auto_pad are SAME_LOWER"),
        (with_attribute("Gemm", 0, alpha=2.0), "with factors of its own"),
        (lambda m: setattr(graph_node(m, "Relu"), "domain", "evil"), "is not of ONNX itself"),
        (
            lambda m: m.graph.initializer.pop(),
            "not in its place|and not a constant",
        ),
        (lambda m: m.graph.output.add(), "1 inputs and 2 outputs"),
        (lambda m: setattr(m.graph.initializer[0], "raw_data", b"\0" * 7), "is damaged"),
        (
            lambda m: m.graph.initializer[0].CopyFrom(
                numpy_helper.from_array(np.zeros((10, 32), np.complex64), m.graph.initializer[0].name)
            ),
            "whose .* is complex64",
        ),
        (lambda m: m.graph.node.reverse(), "not in its place"),
    ],
)
def test_a_graph_changed_in_one_place(tmp_path, change, message):
    model = exported(trained(SMALL))
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN)


@pytest.mark.parametrize("mode, value", [("edge", 0.0), ("constant", 1.0)])
def test_shortcuts_are_padded_with_zeros_alone(tmp_path, mode, value):
    model = exported(with_statistics(OptionA(SMALL)))
    pad = graph_node(model, "Pad")
    del pad.attribute[:], pad.input[2:]
    pad.attribute.append(helper.make_attribute("mode", mode))
    pad.input.append("filled")
    value = helper.make_node("Constant", [], ["filled"], value=numpy_helper.from_array(np.float32(value)))
    model.graph.node.insert(0, value)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match=r"does not pad .* with zeros"):
        open_source(tmp_path / "m.onnx")


@pytest.mark.parametrize("axis", [-1, 1 << 40])
def test_a_padding_is_arranged_along_axes_that_there_are(tmp_path, axis):
    """An axis of a thousand million would take gigabytes; of one below zero another axis would be taken."""
    model = exported(with_statistics(OptionA(SMALL)))
    constants = {"data": [0, 0], "begin": [0], "end": [2], "axis": [axis], "step": [1]}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values)))
        for name, values in constants.items()
    ]
    for node in reversed([*nodes, helper.make_node("Slice", list(constants), ["pads"])]):
        model.graph.node.insert(0, node)
    graph_node(model, "Pad").input[1] = "pads"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="input 1 is computed, and not a constant"):
        open_source(tmp_path / "m.onnx")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.zeros(1, np.float32), np.full(1, 200, np.uint8)])
def test_pixels_times_nothing_or_bytes_are_no_normalisation(tmp_path, number):
    model = exported(trained(SMALL))
    entrance = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["scaled" if value == entrance else value for value in node.input]
    model.graph.initializer.append(numpy_helper.from_array(number, "factor"))
    model.graph.node.insert(0, helper.make_node("Mul", [entrance, "factor"], ["scaled"]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="has Mul scaled, which is no normalisation"):
        open_source(tmp_path / "m.onnx")


def test_one_constant_for_very_many_nodes(tmp_path, monkeypatch):
    """A small file may have a large constant taken by thousands of nodes, each of which makes its own of it."""
    model = exported(trained(SMALL))
    onnx.save(model, tmp_path / "m.onnx")
    monkeypatch.setattr("lowmem_resnet20.model.graph.MOST_NUMBERS", 100_000)
    open_source(tmp_path / "m.onnx")
    conv = graph_node(model, "Conv", 6)
    for number in range(20):
        model.graph.node.append(helper.make_node("Conv", [conv.input[0], conv.input[1]], [f"more{number}"]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="more numbers than this network's weights can be"):
        open_source(tmp_path / "m.onnx")


def test_other_networks_are_named(tmp_path):
    onnx.save(exported(ResNet(Architecture(16, (64, 128, 256), 1))), tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match=r"this is a ResNet-8 \(3 stages of 64, 128 and 256 channels"):
        import_weights(tmp_path / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN)


def test_data_beside_the_graph_and_nowhere_else(tmp_path):
    inside, outside = tmp_path / "model", tmp_path / "data.bin"
    inside.mkdir()
    model = exported(trained(SMALL))
    onnx.save(model, tmp_path / "whole.onnx")
    onnx.save(model, inside / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    arguments = inside / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN
    import_weights(*arguments)
    import_weights(tmp_path / "whole.onnx", tmp_path / "v", *arguments[2:])
    assert load_weights(tmp_path / "w").fingerprint == load_weights(tmp_path / "v").fingerprint
    (inside / "m.data").rename(outside)
    with pytest.raises(WeightsError, match=r"keeps .* in 'm.data', which is no file beside it"):
        import_weights(*arguments)
    (inside / "m.data").symlink_to(outside)
    with pytest.raises(WeightsError, match="no file beside it"):
        import_weights(*arguments)
    changed = onnx.load(inside / "m.onnx", load_external_data=False)
    for place in ("../data.bin", str(outside), "..", ""):
        for tensor in changed.graph.initializer:
            tensor.external_data[0].value = place
        (inside / "m.onnx").write_bytes(changed.SerializeToString())
        with pytest.raises(WeightsError, match="no file beside it"):
            import_weights(*arguments)
    (inside / "m.data").unlink()
    (inside / "m.data").write_bytes(outside.read_bytes()[:99])
    for tensor in changed.graph.initializer:
        tensor.external_data[0].value = "m.data"
    (inside / "m.onnx").write_bytes(changed.SerializeToString())
    with pytest.raises(WeightsError, match="is cut short"):
        import_weights(*arguments)


def test_damaged_files_and_an_eps(tmp_path):
    content = exported(trained(SMALL)).SerializeToString()
    for damaged in (content[: len(content) // 2], content[:20] + b"\xff" * 30 + content[50:]):
        (tmp_path / "m.onnx").write_bytes(damaged)
        with pytest.raises(WeightsError):
            import_weights(tmp_path / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN)
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UsageError, match="folded already"):
        import_weights(tmp_path / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN, epsilon=1e-3)
    bad = onnx.load_model_from_string(content)
    array = numpy_helper.to_array(bad.graph.initializer[0]).copy()
    array.flat[0] = np.nan
    bad.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, bad.graph.initializer[0].name))
    (tmp_path / "m.onnx").write_bytes(bad.SerializeToString())
    with pytest.raises(WeightsError, match="values that are not finite"):
        import_weights(tmp_path / "m.onnx", tmp_path / "w", pictures(tmp_path), *GIVEN)


def test_changed_bytes_are_refused_or_read(tmp_path):
    content, random = exported(with_statistics(OptionA(SMALL))).SerializeToString(), np.random.default_rng(0)
    path, refused = tmp_path / "m.onnx", 0
    for place in random.integers(0, 6000, 60):
        changed = bytearray(content)
        changed[place] = random.integers(256)
        path.write_bytes(changed)
        try:
            open_source(path)
        except WeightsError as error:
            refused += 1
            assert "\n" not in error.message
    assert refused > 10
