"""An ONNX file, to the network's folded parameters: its graph is read, and nothing in it is run.

Every value must go where the network's values go, and nowhere else.  Taken are convolutions with batch norm or folded,
shortcuts of option A and B, any of ONNX's forms of the average over a picture and of the fully connected layer, and a
normalisation of the pixels by constants at the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import WeightsError, on_one_line
from ..network.architecture import Architecture
from .arrangement import Arrangement, arrange
from .folding import fold
from .sourcefile import LARGEST_BYTES, read_regular

_REFUSED = "the graph must be that of a ResNet of He et al. for CIFAR-10, up to its logits"
_EXTERNAL_HINT = "keep the data in a file of its own right beside the graph, or in the graph: onnx.save(model, FILE)"
#: What hands its first input on when a network evaluates.
_PASSING = ("Identity", "Dropout", "Cast")
#: Numbers that a padding is made of, at most.
_FEW = 64
#: Numbers in double precision that nodes take, all together.
MOST_NUMBERS = LARGEST_BYTES // 8
_TO_A_ROW = ("Flatten", "Reshape", "Squeeze")


@dataclass(frozen=True)
class Graph:
    """What a graph holds.

    arrangement, tensors: as :func:`.folding.fold` takes them, without batch norms;
    side: of its pictures; 0 where it takes any;
    mean, std: of pixels in [0, 1]; None where it takes them normalised.
    """

    arrangement: Arrangement
    tensors: Mapping[str, np.ndarray]
    side: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def parameters(self, architecture: Architecture) -> dict[str, np.ndarray]:
        """Return folded parameters (float32)."""
        return fold(self.tensors, self.arrangement.layers, self.arrangement.linear, architecture)


@np.errstate(all="ignore")  # as in folding
def read_graph(path: Path, content: bytes) -> Graph:
    """Read an ONNX file's content; tensors that it keeps elsewhere are read from a file beside it alone.

    Errors: WeightsError naming the first node that is not the network's.
    """
    try:
        return _Reader(path, onnx.load_model_from_string(content).graph).read()
    except (WeightsError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - damaged files raise errors of many kinds
        raise WeightsError(f"{path} cannot be read as ONNX: {on_one_line(error)}") from None


class _Reader:
    """A graph: its nodes by the values they take, constants, and values that are others by another name."""

    def __init__(self, path: Path, graph: onnx.GraphProto) -> None:
        self.path = path
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.others: dict[str, str] = {}
        self.takers: dict[str, list[onnx.NodeProto]] = {}
        self.makers: dict[str, onnx.NodeProto] = {}
        self.arranged: dict[str, np.ndarray | None] = {}
        self.files: dict[Path, bytes] = {}
        self.numbers = 0
        made = {"", *self.constants, *(value.name for value in graph.input)}
        for node in graph.node:
            if node.domain not in ("", "ai.onnx") or not node.output or not made.issuperset(node.input):
                raise self._refused(node, "which is not of ONNX itself, or not in its place")
            made.update(node.output)
            self.makers[node.output[0]] = node
            if node.op_type == "Constant":
                value = {a.name: a for a in node.attribute}.get("value")
                if value is not None:
                    self.constants[node.output[0]] = value.t
            elif node.op_type in _PASSING and node.input:
                self.others[node.output[0]] = self._value(node.input[0])
            elif node.op_type != "Shape":
                for name in dict.fromkeys(map(self._value, node.input)):
                    self.takers.setdefault(name, []).append(node)

    def read(self) -> Graph:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            counts = f"{len(inputs)} inputs and {len(self.graph.output)} outputs"
            raise WeightsError(f"{self.path} has {counts} instead of pictures and logits", _REFUSED)
        pixels, scale, shift = self._normalised(inputs[0].name)
        convolutions = [node for node in self.graph.node if node.op_type == "Conv"]
        nodes = {str(number): node for number, node in enumerate(convolutions)}
        tensors, ends = {}, {}
        for name, node in nodes.items():
            tensors[f"{name}.weight"], tensors[f"{name}.bias"], ends[name] = self._convolution(node)
        tensors |= self._linear()
        arrangement = arrange(self.path, {name: array.shape for name, array in tensors.items()})
        final = self._follow(arrangement, pixels, nodes, ends)
        side = self._side(inputs[0]) or final * 4
        if final and side != final * 4:
            raise WeightsError(f"{self.path}: the average is over {final}x{final} pixels, not over all", _REFUSED)
        if not {len(scale), len(shift)} <= {1, arrangement.colours}:
            raise WeightsError(f"{self.path} normalises {max(len(scale), len(shift))} colours and takes 1", _REFUSED)
        mean, std = _normalisation(scale, shift, arrangement.colours)
        return Graph(arrangement, tensors, side, mean, std)

    # --- parts ------------------------------------------------------------------------------------------------

    def _convolution(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray, str]:
        """Return weight and bias, with the batch norm behind it, and the name of what comes out."""
        weight = self._constant(node, 1, 4)
        bias = self._constant(node, 2, 1) if len(node.input) > 2 else np.zeros(len(weight))
        end = node.output[0]
        takers = self.takers.get(end, [])
        if len(takers) == 1 and takers[0].op_type == "BatchNormalization":
            norm = takers[0]
            gain, offset, mean, variance = (self._constant(norm, i, 1) for i in range(1, 5))
            if {len(weight)} != {len(part) for part in (gain, offset, mean, variance)} or variance.min() < 0:
                raise self._refused(norm, "which does not fit the convolution before it")
            factor = gain / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
            weight, bias, end = weight * factor[:, None, None, None], offset + (bias - mean) * factor, norm.output[0]
        return weight, bias, end

    def _linear(self) -> dict[str, np.ndarray]:
        """Return weight and bias of every fully connected layer, which ``_follow`` expects one of."""
        found: dict[str, np.ndarray] = {}
        for node in self.graph.node:
            if node.op_type not in ("Gemm", "MatMul"):
                continue
            name, weight = "fc_" + node.output[0].replace(".", "_"), self._constant(node, 1, 2)
            found[f"{name}.weight"] = weight if _attribute(node, "transB", 0) else weight.T
            if _attribute(node, "transA", 0) or {_attribute(node, part, 1.0) for part in ("alpha", "beta")} != {1.0}:
                raise self._refused(node, "with factors of its own")
            end, takers = node, self.takers.get(node.output[0], [])
            if node.op_type == "MatMul" and len(takers) == 1 and takers[0].op_type == "Add":
                end = takers[0]
                place = [self._value(value) for value in end.input].index(node.output[0])
                found[f"{name}.bias"] = self._constant(end, 1 - place, 1)
            elif len(node.input) > 2:
                found[f"{name}.bias"] = self._constant(node, 2, 1)
        return found

    def _normalised(self, value: str) -> tuple[str, np.ndarray, np.ndarray]:
        """Return the value that goes into the network, and the factor and summand of the pixels in it."""
        scale, shift = np.ones(1), np.zeros(1)
        while (takers := self.takers.get(value, [])) and takers[0].op_type in ("Sub", "Add", "Mul", "Div"):
            node = takers[0]
            if len(takers) > 1 or self._value(node.input[0]) != value:
                raise self._refused(node, "which is no normalisation of pixels")
            number = self._constant(node, 1).reshape(-1)
            scales = node.op_type in ("Mul", "Div")
            if len(number) not in (1, 3) or number.dtype.kind in "iu" or (scales and not number.all()):
                raise self._refused(node, "which is no normalisation by colour")
            by = {"Mul": number, "Div": 1 / number} if scales else {}
            scale, shift = scale * by.get(node.op_type, 1.0), shift * by.get(node.op_type, 1.0)
            shift = shift + {"Add": number, "Sub": -number}.get(node.op_type, 0.0)
            value = node.output[0]
        return value, scale, shift

    def _side(self, value: onnx.ValueInfoProto) -> int:
        sides = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim][2:]
        return sides[0] if len(sides) == 2 and sides[0] == sides[1] else 0

    # --- the way of values ------------------------------------------------------------------------------------

    def _follow(self, found: Arrangement, x: str, nodes: Mapping[str, onnx.NodeProto], ends: Mapping[str, str]) -> int:
        """Check every step of the way; returns the side of the window of the average, 0 for all there is."""

        def convolved(value: str, layer: str, stride: int, reach: int) -> str:
            name = found.layers[layer].convolution
            self._check_convolution(nodes[name], value, stride, reach)
            return ends[name]

        self._check_takers(x, "Conv")
        x = self._next(convolved(x, "conv1", 1, 1), "Relu")
        for block in found.architecture(self.path, 32).blocks():
            down = f"{block.name}.downsample"
            plain = down not in found.layers
            self._check_takers(x, "Conv", *(["Add"] if block.stride == 1 else ["Slice"] if plain else ["Conv"]))
            y = self._next(convolved(x, f"{block.name}.conv1", block.stride, 1), "Relu")
            self._check_takers(y, "Conv")
            y = convolved(y, f"{block.name}.conv2", 1, 1)
            if block.stride == 2:
                x = self._padded(x, block.out_channels // 4) if plain else convolved(x, down, 2, 0)
            total = self._next(x, "Add", among=True)
            if self._next(y, "Add") != total:
                raise WeightsError(f"{self.path}: {total} does not add {x} and {y}", _REFUSED)
            x = self._next(total, "Relu")
        return self._head(x)

    def _head(self, x: str) -> int:
        node = self._only(x, "GlobalAveragePool", "ReduceMean", "AveragePool")
        side = 0
        if node.op_type == "ReduceMean":
            given = self._constant(node, 1, 1) if len(node.input) > 1 else np.array(_attribute(node, "axes", []))
            if sorted(int(axis) % 4 for axis in given) != [2, 3]:
                raise self._refused(node, "which is not over rows and columns")
        elif node.op_type == "AveragePool":
            window = _attribute(node, "kernel_shape", [])
            if len(window) != 2 or window[0] != window[1] or any(_attribute(node, "pads", [])):
                raise self._refused(node, "which is not over all of a picture")
            side = int(window[0])
        node = self._only(node.output[0], *_TO_A_ROW, "Gemm", "MatMul")
        while node.op_type in _TO_A_ROW:
            node = self._only(node.output[0], *_TO_A_ROW, "Gemm", "MatMul")
        end = node.output[0]
        if node.op_type == "MatMul" and self.takers.get(end):
            end = self._next(end, "Add")
        if self._value(self.graph.output[0].name) != end or self.takers.get(end):
            last = next(iter(self.takers.get(end, [])), None)
            what = f"{last.op_type} {_called(last)}" if last else "something else"
            raise WeightsError(f"{self.path} goes on with {what} after its fully connected layer", _REFUSED)
        return side

    def _padded(self, x: str, quarter: int) -> str:
        """Return every second row and column, with a quarter of zeros as channels on either side: option A."""
        strided: set[int] = set()
        node = self._only(x, "Slice", among=True)
        while node.op_type == "Slice":
            starts, _, axes, steps = (self._constant(node, i, 1) for i in range(1, 5))
            if starts.any() or not (set(axes % 4) <= {2, 3} and (steps == 2).all()):
                if not (not starts.any() and (steps == 1).all()):  # all of an axis is taken
                    raise self._refused(node, "which is not every second row and column")
            else:
                strided |= set(map(int, axes % 4))
            node = self._only(node.output[0], "Slice", "Pad")
        pads = self._constant(node, 1, 1) if len(node.input) > 1 else np.array(_attribute(node, "pads", []))
        filled = self._constant(node, 2).tolist() if any(node.input[2:3]) else _attribute(node, "value", 0.0)
        zeros = filled in (0, [0]) and _attribute(node, "mode", "constant") == "constant" and not any(node.input[3:])
        if strided != {2, 3} or pads.tolist() != [0, quarter, 0, 0, 0, quarter, 0, 0] or not zeros:
            raise self._refused(node, "which does not pad a quarter of the channels on either side with zeros")
        return node.output[0]

    def _check_convolution(self, node: onnx.NodeProto, value: str, stride: int, reach: int) -> None:
        expected = {"strides": [stride] * 2, "pads": [reach] * 4, "dilations": [1, 1], "group": 1, "auto_pad": "NOTSET"}
        usual = {"strides": [1, 1], "pads": [0] * 4} | {n: expected[n] for n in ("dilations", "group", "auto_pad")}
        for name, wanted in expected.items():
            is_so = _attribute(node, name, usual[name])
            if is_so != wanted:
                raise self._refused(node, f"whose {name} are {is_so} instead of {wanted}")
        if self._value(node.input[0]) != value:
            raise self._refused(node, f"which takes {node.input[0]} instead of {value}")

    def _check_takers(self, value: str, *kinds: str) -> None:
        found = [node.op_type for node in self.takers.get(value, [])]
        if sorted(found) != sorted(kinds):
            raise WeightsError(f"{self.path}: {value} goes to {_listed(found)} instead of {_listed(kinds)}", _REFUSED)

    def _next(self, value: str, kind: str, among: bool = False) -> str:
        return self._only(value, kind, among=among).output[0]

    def _only(self, value: str, *kinds: str, among: bool = False) -> onnx.NodeProto:
        """Return the one node, of these kinds, that takes a value; or, ``among`` others, the first."""
        takers = self.takers.get(value, [])
        fitting = [node for node in takers if node.op_type in kinds]
        if not fitting or (len(takers) > 1 and not among):
            found = _listed(f"{node.op_type} {_called(node)}" for node in takers)
            raise WeightsError(f"{self.path}: {value} goes to {found} instead of {_listed(kinds)}", _REFUSED)
        return fitting[0]

    # --- constants --------------------------------------------------------------------------------------------

    def _value(self, name: str) -> str:
        return self.others.get(name, name)

    def _constant(self, node: onnx.NodeProto, place: int, dimensions: int | None = None) -> np.ndarray:
        """Return what a node takes at a place, in double precision where it is no integer."""
        name = self._value(node.input[place]) if place < len(node.input) else ""
        try:
            array = self._array(name)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise WeightsError(f"{self.path}: {name} is damaged: {on_one_line(error)}") from None
        if array is None:
            raise self._refused(node, f"whose input {place} is computed, and not a constant")
        if dimensions is not None and (array.ndim != dimensions or not array.size):
            raise self._refused(node, f"whose {name} has shape {array.shape}")
        self.numbers += array.size  # of a constant that many nodes take, each time: every one makes its own of it
        if self.numbers > MOST_NUMBERS:
            raise WeightsError(f"{self.path} has more numbers than this network's weights can be", _REFUSED)
        if array.dtype.kind in "iu":
            return array
        try:
            array = array.astype(np.float64, casting="same_kind")
        except (ValueError, TypeError):
            raise self._refused(node, f"whose {name} is {array.dtype}") from None
        if not np.isfinite(array).all():
            raise WeightsError(f"{self.path}: {name} has values that are not finite")
        return array

    def _array(self, name: str, deepest: int = _FEW) -> np.ndarray | None:
        """Return a constant, or the few numbers that PyTorch's former exporter has for a padding: made of constants, by
        operations that only arrange them.  None for what is neither."""
        if name in self.constants:
            return numpy_helper.to_array(self._whole(self.constants[name]))
        if name not in self.arranged:
            node = self.makers.get(name)
            self.arranged[name] = self._arrange(node, deepest) if node is not None and deepest else None
        return self.arranged[name]

    def _arrange(self, node: onnx.NodeProto, deepest: int) -> np.ndarray | None:
        if node.op_type not in ("ConstantOfShape", "Concat", "Reshape", "Slice", "Transpose"):
            return None
        given = [self._array(self._value(value), deepest - 1) for value in node.input]
        if any(array is None or array.dtype.kind not in "iu" or array.size > _FEW for array in given):
            return None
        first, *rest = (np.asarray(array) for array in given)
        if node.op_type == "ConstantOfShape":
            value = _attribute(node, "value", None)
            filled = 0 if value is None else int(numpy_helper.to_array(value).item())
            return np.full(first.tolist(), filled) if 0 <= first.prod() <= _FEW else None
        if node.op_type == "Concat":
            return np.concatenate([first, *rest], _attribute(node, "axis", 0))
        if node.op_type == "Reshape":
            return first.reshape(rest[0].tolist())
        if node.op_type == "Transpose":
            return first.transpose(_attribute(node, "perm", None))
        [start], [end], [axis], [step] = (part.tolist() for part in rest)
        if not 0 <= axis < first.ndim:
            return None
        return first[(slice(None),) * axis + (slice(start, end, step),)]

    def _whole(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """Return a tensor with its data, from the file beside the graph where it lies there."""
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return tensor
        facts = {entry.key: entry.value for entry in tensor.external_data}
        name = facts.get("location", "")
        file = self.path.parent / name
        if name in ("", ".", "..") or "/" in name or "\\" in name or not file.is_file() or file.is_symlink():
            raise WeightsError(
                f"{self.path} keeps {tensor.name} in {name!r}, which is no file beside it", _EXTERNAL_HINT
            )
        too_large = WeightsError(f"{file} is too large")
        content = self.files.get(file) or read_regular(file, LARGEST_BYTES, too_large)
        self.files[file] = content
        start = int(facts.get("offset", 0))
        length = int(facts.get("length", len(content) - start))
        if not 0 <= start <= start + length <= len(content):
            raise WeightsError(f"{file} is cut short")
        return onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=content[start : start + length])

    def _refused(self, node: onnx.NodeProto, why: str) -> WeightsError:
        return WeightsError(f"{self.path} has {node.op_type} {_called(node)}, {why}", _REFUSED)


def _called(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _listed(names: Any) -> str:
    return " and ".join(names) or "nothing"


def _attribute(node: onnx.NodeProto, name: str, otherwise: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    if found is None:
        return otherwise
    value = helper.get_attribute_value(found)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _normalisation(
    scale: np.ndarray, shift: np.ndarray, colours: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std of pixels in [0, 1] for ``scale * pixels + shift``; of pixels up to 255, they are 255 times
    that."""
    if (scale == 1).all() and not shift.any():
        return None, None
    std = np.broadcast_to(1 / scale, colours)
    mean = np.broadcast_to(-shift / scale, colours)
    unit = 255.0 if max(std.max(), mean.max()) > 1 else 1.0
    return tuple(map(float, mean / unit)), tuple(map(float, std / unit))
