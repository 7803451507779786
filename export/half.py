"""The same network in half precision where that is safe: between first and last weights, but for normalisation
and softmax, whose sums need float32. The image's scaling, the anomaly map and the score stay in float32.

Each node computes in one type, and casts stand where types meet, so a runtime that obeys the graph's types (TensorRT's
strongly typed networks) computes exactly this.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.errors import TfanetEdgeError
from export.onnx_graph import Links, drop_unread_constants, fold_constants, links, name_nodes, weighted_nodes

FLOAT32_OPS = frozenset({"Clip", "LayerNormalization", "Pow", "ReduceMean", "ReduceSum", "Softmax", "Sqrt", "TopK"})
QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 network in mixed precision; its inputs and outputs keep their types.

    What reads or makes a quantised tensor stays in float32, as Q/DQ does in this opset.

    Raises:
        TfanetEdgeError: a constant is too large for half precision.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    fold_constants(result)
    name_nodes(result)
    is_float = float_tensors(result)
    known = links(result)
    half = _between_weights(result, known)
    _leave_islands(half, known, is_float)
    _cast(result, half, is_float)
    drop_unread_constants(result)
    onnx.checker.check_model(result)
    return result


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    typed = [*inferred.value_info, *inferred.input, *inferred.output]
    found = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _between_weights(model: onnx.ModelProto, known: Links) -> dict[str, onnx.NodeProto]:
    """The nodes, by name, that could compute in half precision."""
    weighted = {node.name for node in weighted_nodes(model)}
    ends = {reader.name for node in weighted_nodes(model) for reader in known.read_by[node.output[0]]}
    ends = {node.name for node in model.graph.node if node.name in ends and node.op_type == "Add"} | weighted
    after: set[str] = set()
    for node in model.graph.node:
        if node.name in weighted or after.intersection(node.input):
            after.update(node.output)
    before = set(ends)
    wanted: set[str] = set()
    for node in reversed(model.graph.node):
        if node.name in before or wanted.intersection(node.output):
            wanted.update(node.input)
            before.add(node.name)
    quantised = {
        node.name
        for node in model.graph.node
        for name in node.input
        if name in known.made_by and known.made_by[name].op_type == "DequantizeLinear"
    }
    return {
        node.name: node
        for node in model.graph.node
        if node.name in before
        and after.intersection(node.output)
        and node.op_type not in FLOAT32_OPS | QDQ_OPS
        and node.name not in quantised
    }


def _leave_islands(half: dict[str, onnx.NodeProto], known: Links, is_float: set[str]) -> None:
    """Take connected nodes without a product out of `half` when everything around them is float32.

    There a cast would cost more than half precision saves.
    """
    left = set(half)
    while left:
        island, edge = set(), [left.pop()]
        while edge:
            name = edge.pop()
            island.add(name)
            near = {other.name for other in _around(half[name], known, is_float)}
            edge += list(near & left)
            left -= near
        if not any(half[name].op_type in _PRODUCTS for name in island):
            for name in island:
                del half[name]


def _around(node: onnx.NodeProto, known: Links, is_float: set[str]) -> Iterable[onnx.NodeProto]:
    for name in node.input:
        if name in is_float and name in known.made_by:
            yield known.made_by[name]
    for name in node.output:
        if name in is_float:
            yield from known.read_by.get(name, [])


def _cast(model: onnx.ModelProto, half: dict[str, onnx.NodeProto], is_float: set[str]) -> None:
    """Write the types into the graph: constants converted once, casts where a tensor of the other type is read."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    is_half: set[str] = set()
    converted: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        wants_half = node.name in half
        for index, name in enumerate(node.input):
            is_value = index == 0 or node.op_type != "Resize"  # its scales are float32 whatever it resizes
            if not is_value or name not in is_float or (name in is_half) == wants_half:
                continue
            node.input[index] = f"{name}_{'half' if wants_half else 'float'}"
            if node.input[index] in converted:
                continue
            converted.add(node.input[index])
            if name in constants:
                model.graph.initializer.append(_half_constant(constants[name], node.input[index]))
            else:
                to = TensorProto.FLOAT16 if wants_half else TensorProto.FLOAT
                nodes.append(helper.make_node("Cast", [name], [node.input[index]], f"{node.input[index]}_cast", to=to))
        if wants_half:
            is_half.update(is_float.intersection(node.output) - outputs)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]


def _half_constant(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise TfanetEdgeError(
            f"constant '{tensor.name}' reaches {np.abs(values).max():g}, too large for half precision"
        )
    return numpy_helper.from_array(half, name)
