"""Multiply-accumulates of an exported graph, node by node."""

from __future__ import annotations

import numpy as np
import onnx

from export.onnx_graph import WEIGHTED_OPS
from export.probe import Probe


def multiply_accumulates(model: onnx.ModelProto) -> dict[str, int]:
    """Of one frame, for every named convolution, transposed or not, Gemm and MatMul, by ONNX Runtime's shapes.

    Raises:
        EngineError: ONNX Runtime refuses the network.
    """
    products = [node for node in model.graph.node if node.op_type in (*WEIGHTED_OPS, "ConvTranspose")]
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    wanted = sorted({name for node in products for name in (*node.input[:2], node.output[0])} - constants.keys())
    probe = Probe(model, wanted)
    values = probe.run(np.zeros((*probe.image_size_px, 3), np.uint8))
    shapes = constants | {name: value.shape for name, value in values.items()}
    return {node.name: _of_node(node, shapes) for node in products}


def _of_node(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    outputs = int(np.prod(shapes[node.output[0]]))
    if node.op_type == "Conv":
        return outputs * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(shapes[node.input[0]])) * int(np.prod(shapes[node.input[1]][1:]))
    transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return outputs * shapes[node.input[0]][0 if transposed else -1]
