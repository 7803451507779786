"""Explicit Q/DQ: which tensors compute in INT8, with which scales, and nothing else.

The rules are those that TensorRT's parser accepts: symmetric signed int8, one scale per tensor for activations and one
per output channel for weights, biases and outputs in floating point. Weights are stored as int8. A
residual is added in floating point: quantised as well, it would cost a quarter more error.

A rounded weight also shifts the mean of its output. The shift follows from the input's mean, and the bias takes it back
(Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from calibration.ranges import LEVELS
from export.onnx_graph import Links, drop_unread_constants, links, weighted_nodes

Float = npt.NDArray[np.float32]

_MIN_SCALE = 1e-12
_LARGEST_BIAS = 2**30


def insert_qdq(
    model: onnx.ModelProto, nodes: Collection[str], limits: Mapping[str, float], means: Mapping[str, Float]
) -> onnx.ModelProto:
    """A copy of a float32 network whose named weighted nodes compute in INT8.

    Args:
        model: its constants folded and its nodes named.
        nodes: of `weighted_nodes`.
        limits: by tensor that such a node reads, the largest magnitude that INT8 still tells apart, above 0.
        means: by the same tensors, the mean of each input channel, float32 (C,).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    known = links(result)
    weights: list[onnx.NodeProto] = []
    pairs: dict[str, list[onnx.NodeProto]] = {}
    for node in weighted_nodes(result):
        if node.name not in nodes:
            continue
        axis, weight = channel_axis(node), known.weight(node)
        least = _least_scales(node, known, limits[node.input[0]] / LEVELS)
        values, scales = quantise_weight(weight, axis, least)
        shift = mean_shift(node, dequantise_weight(values, scales, axis) - weight, means[node.input[0]])
        _correct_bias(node, known, shift)
        if node.input[0] not in pairs:
            pairs[node.input[0]] = _pair(result, node.input[0], limits[node.input[0]])
        node.input[0] = pairs[node.input[0]][-1].output[0]
        weights.append(_dequantised_weight(result, node.input[1], values, scales, axis))
        node.input[1] = weights[-1].output[0]
    ordered = weights + [node for value in result.graph.input for node in pairs.get(value.name, [])]
    for node in result.graph.node:
        ordered.append(node)
        for name in node.output:
            ordered += pairs.get(name, [])
    del result.graph.node[:]
    result.graph.node.extend(ordered)
    del result.graph.value_info[:]
    drop_unread_constants(result)
    onnx.checker.check_model(result)
    return result


def quantise_weight(weight: Float, axis: int, least: Float | float = _MIN_SCALE) -> tuple[npt.NDArray[np.int8], Float]:
    """A weight as int8 and one scale per channel of `axis`, its largest magnitude at 127; no scale below `least`."""
    others = tuple(set(range(weight.ndim)) - {axis})
    scale = np.maximum(np.abs(weight).max(axis=others) / LEVELS, least).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.rint(weight / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8), scale


def dequantise_weight(values: npt.NDArray[np.int8], scale: Float, axis: int) -> Float:
    """What the runtime makes of an int8 weight."""
    shape = [1] * values.ndim
    shape[axis] = -1
    return values * scale.reshape(shape)


def channel_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in a weighted node's weight."""
    if node.op_type == "Conv":
        return 0
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else 1


def _least_scales(node: onnx.NodeProto, known: Links, input_scale: float) -> Float | float:
    """Below which ONNX Runtime, which adds biases as int32 in units of both scales, overflows: dead channels do."""
    if len(node.input) < 3:
        return _MIN_SCALE
    bias = np.abs(numpy_helper.to_array(known.constants[node.input[2]]))
    return np.asarray(np.maximum(bias / (input_scale * _LARGEST_BIAS), _MIN_SCALE), np.float32)


def mean_shift(node: onnx.NodeProto, error: Float, means: Float) -> Float:
    """What a weight's error adds to the mean of each output channel.

    Args:
        node: Conv, Gemm or MatMul.
        error: of its weight, in the weight's shape.
        means: of the input channels, (C,); a convolution's border is neglected.
    """
    if node.op_type == "Conv":
        of_group = means.reshape(-1, error.shape[1])
        groups = error.sum(axis=(2, 3)).reshape(len(of_group), -1, error.shape[1])
        return np.asarray((groups @ of_group[..., None]).ravel(), np.float32)
    return np.asarray(error @ means if channel_axis(node) == 0 else means @ error, np.float32)


def _correct_bias(node: onnx.NodeProto, known: Links, shift: Float) -> None:
    """Take a shift back where the node has a bias, its own or in the Add behind it."""
    names = list(node.input[2:])
    for reader in known.read_by.get(node.output[0], []):
        if reader.op_type == "Add":
            names += [name for name in reader.input if name in known.constants]
    for name in names[:1]:
        bias = known.constants[name]
        values = np.asarray(numpy_helper.to_array(bias))
        if values.shape == shift.shape and len(known.read_by[name]) == 1:
            bias.CopyFrom(numpy_helper.from_array(values - shift, name))


def _pair(model: onnx.ModelProto, name: str, limit: float) -> list[onnx.NodeProto]:
    scale, zero = _constants(model, name, np.array(limit / LEVELS, np.float32))
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_int8"], f"{name}_quantise"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_int8", scale, zero], [f"{name}_dequantised"], f"{name}_dequantise"
        ),
    ]


def _dequantised_weight(
    model: onnx.ModelProto, name: str, values: npt.NDArray[np.int8], scales: Float, axis: int
) -> onnx.NodeProto:
    scale, zero = _constants(model, name, scales)
    model.graph.initializer.append(numpy_helper.from_array(values, f"{name}_int8"))
    inputs, outputs = [f"{name}_int8", scale, zero], [f"{name}_dequantised"]
    return helper.make_node("DequantizeLinear", inputs, outputs, f"{name}_dequantise", axis=axis)


def _constants(model: onnx.ModelProto, name: str, scale: Float) -> tuple[str, str]:
    names = f"{name}_scale", f"{name}_zero"
    model.graph.initializer.append(numpy_helper.from_array(scale, names[0]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), names[1]))
    return names
