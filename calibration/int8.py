"""INT8 by explicit Q/DQ: which tensors are quantised, with which scales, and nothing else.

The rules are those that TensorRT's parser accepts: symmetric signed int8, one scale per tensor for activations and one
per output channel for weights, each weight as Q/DQ pair, biases and outputs in floating point.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from edge.errors import BundleError
from edge.frame import Image

QUANTISED_OPS = ("Conv", "Gemm", "MatMul")
FOLDED_OPS = ("Cast", "Slice", "Transpose")
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": False,
    "OpTypesToExcludeOutputQuantization": list(QUANTISED_OPS),
    "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "MatMul": 1},
    # ONNX Runtime computes a Conv's bias in int32 all the same, so a dead channel's tiny scale must not overflow it.
    "QDQDisableWeightAdjustForInt32Bias": False,
}


class _Frames:
    """Calibration images one by one, as `quantize_static` asks for them."""

    def __init__(self, images: Image) -> None:
        self._frames: Iterator[Image] = iter(tqdm(images, "calibrating", unit="image", disable=None))

    def get_next(self) -> dict[str, Image] | None:
        """The next input, None after the last."""
        frame = next(self._frames, None)
        return None if frame is None else {"image": frame[None]}


def quantise(model: onnx.ModelProto, images: Image) -> onnx.ModelProto:
    """The same network with Q/DQ, its ranges the smallest and largest values that the images caused.

    Args:
        model: float network with the input `image`; changed in place.
        images: uint8 (N, H, W, 3), good parts.

    Raises:
        BundleError: the network has no weights that could be INT8.
    """
    fold_constants(model)
    name_nodes(model)
    nodes = nodes_to_quantise(model)
    if not nodes:
        raise BundleError(f"the network has no {', '.join(QUANTISED_OPS)} with weights", "stay with fp32")
    with tempfile.TemporaryDirectory() as directory:
        plain, quantised = Path(directory) / "plain.onnx", Path(directory) / "int8.onnx"
        # Its optimisation would merge MatMul and Add into something that is not quantised.
        quant_pre_process(model, plain, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            plain,
            quantised,
            _Frames(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPS),
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=_OPTIONS,
        )
        result = onnx.load(quantised)
    keep_float_where_not_meant(result, set(nodes))
    del result.graph.value_info[:]
    del result.metadata_props[:]
    onnx.checker.check_model(result)
    return result


def fold_constants(model: onnx.ModelProto) -> None:
    """Weights that the graph casts, cuts or transposes when it is loaded become plain float32 weights, in place.

    Only what is stored as a constant is quantised as a weight.
    """
    graph = model.graph
    constants = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type in FOLDED_OPS and all(name in constants for name in node.input):
            (value,) = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input})
            constants[node.output[0]] = np.asarray(value)
            graph.initializer.append(numpy_helper.from_array(constants[node.output[0]], node.output[0]))
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for tensor in list(graph.initializer):
        if tensor.name not in read:
            graph.initializer.remove(tensor)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every nameless node a name, in place: nodes are chosen by name."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def nodes_to_quantise(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes with a weight: Conv, Gemm and MatMul whose second input alone is a constant.

    So attention's own products stay in floating point. So does everything after a product with a constant on the left:
    weights stand on the right, and a matrix on the left is the smoothing of the map.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    in_map: set[str] = set()
    names = []
    for node in model.graph.node:
        if in_map.intersection(node.input) or (node.op_type == "MatMul" and node.input[0] in constants):
            in_map.update(node.output)
        elif node.op_type in QUANTISED_OPS and node.input[1] in constants:
            names.append(node.name)
    return names


def keep_float_where_not_meant(model: onnx.ModelProto, quantised: set[str]) -> None:
    """Undo that all readers of a quantised tensor read it quantised, in place.

    Only the chosen nodes do, and an Add behind a Conv for its residual: together they run as one INT8 kernel.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}

    def is_made_by(name: str, op_type: str) -> bool:
        return name in made_by and made_by[name].op_type == op_type

    for node in model.graph.node:
        residual = node.op_type == "Add" and any(is_made_by(name, "Conv") for name in node.input)
        if node.name in quantised or residual or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for index, name in enumerate(node.input):
            if is_made_by(name, "DequantizeLinear"):
                node.input[index] = made_by[made_by[name].input[0]].input[0]
