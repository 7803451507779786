"""Reading an exported graph: who makes what, which nodes do the work, which part of the network they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

# What `training.networks.detector.Detector` calls the network in it; the demo's bundle is older than that.
_WITHIN = "small_maps."
Parts = Sequence[tuple[str, str]]
WEIGHTED_OPS = ("Conv", "Gemm", "MatMul")
_FOLDED_OPS = ("Cast", "Expand", "Reshape", "Slice", "Transpose")


@dataclass(frozen=True)
class Links:
    """Who makes and who reads each tensor of a model, as it is now."""

    constants: dict[str, onnx.TensorProto]
    made_by: dict[str, onnx.NodeProto]
    read_by: dict[str, list[onnx.NodeProto]]

    def weight(self, node: onnx.NodeProto) -> npt.NDArray[np.float32]:
        """The weight of one of `weighted_nodes`."""
        return np.asarray(numpy_helper.to_array(self.constants[node.input[1]]))


def links(model: onnx.ModelProto) -> Links:
    """Index a model's tensors by name."""
    read_by: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in filter(None, node.input):
            read_by.setdefault(name, []).append(node)
    return Links(
        {tensor.name: tensor for tensor in model.graph.initializer},
        {output: node for node in model.graph.node for output in node.output},
        read_by,
    )


def fold_constants(model: onnx.ModelProto) -> None:
    """Constants that the graph casts, cuts or turns when it is loaded become plain ones, in place.

    So every weight stands where its node reads it, in the type it is computed in.
    """
    graph = model.graph
    constants = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type in _FOLDED_OPS and all(name in constants for name in node.input):
            (value,) = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input})
            constants[node.output[0]] = np.asarray(value)
            graph.initializer.append(numpy_helper.from_array(constants[node.output[0]], node.output[0]))
            graph.node.remove(node)
    drop_unread_constants(model)


def drop_unread_constants(model: onnx.ModelProto) -> None:
    """Remove the constants that no node reads, in place."""
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every nameless node a name, in place: nodes are chosen by name."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def weighted_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The Conv, Gemm and MatMul nodes whose second input alone is a constant, as it is or dequantised, in their order.

    Attention's own products are none. Neither is anything after a product with a constant on the left: weights stand on
    the right, and a matrix on the left is the smoothing of the map.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            constants.add(node.output[0])
    in_map: set[str] = set()
    found = []
    for node in model.graph.node:
        if in_map.intersection(node.input) or (node.op_type == "MatMul" and node.input[0] in constants):
            in_map.update(node.output)
        elif node.op_type in WEIGHTED_OPS and node.input[0] not in constants and node.input[1] in constants:
            found.append(node)
    return found


def group_of(node: onnx.NodeProto, known: Links, parts: Parts) -> str:
    """The part of the network that a weighted node belongs to, by the constants' names around it.

    Its own weight, the bias added to it, or what normalises its input: the exporter keeps some of their names. A
    convolution that none of them tells of counts as one of the "convolutions", a product as the part without a
    beginning.

    Args:
        node: weighted.
        known: of its model.
        parts: beginnings of names and what they belong to, see `training.networks.trainable.Kind`.
    """
    for name in _names_around(node, known):
        for prefix, group in parts:
            if prefix and name.removeprefix(_WITHIN).startswith(prefix):
                return group
    return "convolutions" if node.op_type == "Conv" else dict(parts).get("", "products")


def _names_around(node: onnx.NodeProto, known: Links) -> Iterator[str]:
    yield from node.input[1:]
    for reader in known.read_by.get(node.output[0], []):
        if reader.op_type == "Add":
            yield from (name for name in reader.input if name in known.constants)
    above = known.made_by.get(node.input[0])
    if above is not None and above.op_type == "LayerNormalization":
        yield from above.input[1:]


def weights_dtype(model: onnx.ModelProto) -> Literal["float32", "float16", "int8"]:
    """The type in which most of the constants' elements are stored."""
    elements: dict[int, int] = {}
    for tensor in model.graph.initializer:
        elements[tensor.data_type] = elements.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    names: dict[int, Literal["float32", "float16", "int8"]] = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.INT8: "int8",
    }
    return names[max(names, key=lambda dtype: elements.get(dtype, 0))]


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model uses."""
    return int(next(entry.version for entry in model.opset_import if not entry.domain))
