"""Our files before NVIDIA's own parser and builder (TensorRT for RTX, for an Ampere GPU that is not there)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from calibration.qdq import channel_axis, insert_qdq
from edge.manifest import Precision
from export.acceptance import Acceptance, examine
from export.graph import detector_graph
from export.half import to_half
from export.onnx_graph import fold_constants, links, name_nodes, weighted_nodes
from export.to_onnx import write_onnx
from training.networks.backbones import build_backbone
from training.networks.tfanet import PRESETS, TFANet

DEMO = Path(__file__).parents[2] / "simulator" / "demo_bundle" / "model.fp32.onnx"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="needs TensorRT for RTX, which this platform has not",
)


def accepted(path: Path) -> Acceptance:
    """The file's plan, with the inputs and outputs that every engine relies on."""
    found = examine(path)
    assert found.refusal is None
    assert found.warnings == ()
    assert found.inputs == {"image": "UINT8"}
    assert found.outputs == {"anomaly_map": "FLOAT", "score": "FLOAT"}
    assert found.plan_bytes > 0
    return found


def test_float32_stays_float32() -> None:
    found = accepted(DEMO)
    assert set(found.computes_in) == {"fp32"}
    assert found.layers["CONVOLUTION"] == sum(node.op_type == "Conv" for node in onnx.load(DEMO).graph.node)
    assert "QUANTIZE" not in found.layers


def test_half_precision_is_what_the_file_says_and_fuses_attention(tmp_path: Path) -> None:
    half = to_half(onnx.load(DEMO))
    onnx.save(half, tmp_path / "half.onnx")
    found = accepted(tmp_path / "half.onnx")
    assert set(found.computes_in) == {"fp16", "fp32"}
    assert found.fused_attentions == sum(node.op_type == "Softmax" for node in half.graph.node)
    assert found.computes_in["fp16"] > found.computes_in["fp32"]


def test_int8_is_what_the_file_says(tmp_path: Path) -> None:
    model = onnx.load(DEMO)
    fold_constants(model)
    name_nodes(model)
    known, nodes = links(model), weighted_nodes(model)
    channels = {node.input[0]: known.weight(node).shape[1 - channel_axis(node)] for node in nodes}
    # The ranges decide what the numbers are, not in which type they are computed.
    means = {name: np.zeros(count, np.float32) for name, count in channels.items()}
    quantised = insert_qdq(model, [node.name for node in nodes], dict.fromkeys(channels, 1.0), means)
    onnx.save(to_half(quantised), tmp_path / "int8.onnx")
    found = accepted(tmp_path / "int8.onnx")
    assert (found.layers["QUANTIZE"], found.layers["DEQUANTIZE"]) == (len(channels), len(channels) + len(nodes))
    assert found.computes_in["int8"] == len(nodes)
    assert found.fused_attentions == sum(node.op_type == "Softmax" for node in model.graph.node)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_largest_preset_is_built(tmp_path: Path) -> None:
    torch.manual_seed(0)
    taps = build_backbone("wide_resnet50_2").eval()
    network = TFANet(sum(taps.tap_channels), PRESETS["base"]).eval()
    template = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    graph = detector_graph(taps, network, template, "max", "direction", half_weights=True)
    write_onnx(graph, tmp_path / "model.onnx")
    found = accepted(tmp_path / "model.onnx")
    assert set(found.computes_in) == {"fp32"}
    assert found.layers["NORMALIZATION"] >= 2 * PRESETS["base"].depth


def conv_and_linear(quantise: str, zero_point: int = 0, zero_type: type = np.int8) -> onnx.ModelProto:
    """A convolution and a matrix product, ReLUs and biases, in a detector's dress.

    Args:
        quantise: `weights stored`: int8 weights and DequantizeLinear; `weights in float`: float weights, Q and DQ;
            `island`: the first, all the rest in float16; `bias`: the first, the convolution's bias in int32;
            `wrong axis`: the first, the matrix scaled along what is summed over; `weights alone`: the first, nothing
            else quantised.
        zero_point: of the activations.
        zero_type: its type.
    """
    rng, nodes, constants = np.random.default_rng(0), [], {}

    def add(operator: str, *inputs: str, **attributes: object) -> str:
        name = f"{operator}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(name: str, value: np.ndarray) -> str:
        constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def activation(value: str) -> str:
        if quantise == "weights alone":
            return value
        scale = constant("scale", np.float32(0.05)), constant("zero", zero_type(zero_point))
        return add("DequantizeLinear", add("QuantizeLinear", value, *scale), *scale)

    def weight(name: str, value: np.ndarray, axis: int) -> str:
        if quantise == "wrong axis" and name == "matrix":
            axis = 0
        others = tuple(index for index in range(value.ndim) if index != axis)
        steps = np.abs(value).max(others, keepdims=True) / 127
        scale = constant(f"{name}_scale", steps.ravel().astype(np.float32))
        zero = constant(f"{name}_zero", np.zeros(value.shape[axis], np.int8))
        if quantise == "weights in float":
            stored = add("QuantizeLinear", constant(name, value.astype(np.float32)), scale, zero, axis=axis)
        else:
            stored = constant(name, np.rint(value / steps).astype(np.int8))
        return add("DequantizeLinear", stored, scale, zero, axis=axis)

    def bias() -> str:
        if quantise != "bias":
            return constant("bias", rng.normal(size=32).astype(np.float32))
        return add(
            "DequantizeLinear",
            constant("bias", np.arange(32, dtype=np.int32)),
            constant("bias_scale", np.full(32, 0.01, np.float32)),
            axis=0,
        )

    def between(value: str) -> str:
        if quantise != "island":
            return add("Relu", value)
        return add("Cast", add("Relu", add("Cast", value, to=TensorProto.FLOAT16)), to=TensorProto.FLOAT)

    value = add("Transpose", add("Cast", "image", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    kernel = weight("kernel", rng.normal(size=(32, 3, 3, 3)), axis=0)
    value = between(add("Conv", activation(value), kernel, bias(), pads=[1, 1, 1, 1]))
    value = add("Transpose", value, perm=[0, 2, 3, 1])
    value = between(add("MatMul", activation(value), weight("matrix", rng.normal(size=(32, 16)), axis=1)))
    nodes.append(helper.make_node("ReduceMean", [value], ["anomaly_map"], axes=[3], keepdims=0))
    nodes.append(helper.make_node("ReduceMax", ["anomaly_map"], ["score"], axes=[1, 2], keepdims=0))
    shape = ["N", 64, 64]
    graph = helper.make_graph(
        nodes,
        "conv_and_linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*shape, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, shape[:1]),
        ],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def write(model: onnx.ModelProto) -> Path:
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return write


@pytest.mark.parametrize(
    ("quantise", "quantised", "precisions"),
    [
        ("weights stored", 2, ["int8", "int8"]),
        ("weights in float", 4, ["int8", "int8"]),
        ("island", 2, ["int8", "int8"]),
        ("wrong axis", 2, ["fp32", "int8"]),
        ("weights alone", 0, ["fp32", "fp32"]),
    ],
)
def test_what_is_quantised_rightly_computes_in_int8(
    quantise: str, quantised: int, precisions: list[Precision], save: Callable[[onnx.ModelProto], Path]
) -> None:
    found = accepted(save(conv_and_linear(quantise)))
    assert (found.layers.get("QUANTIZE", 0), found.layers["DEQUANTIZE"]) == (quantised, 4 if quantised else 2)
    assert sorted(found.computes_in.elements()) == precisions


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (conv_and_linear("weights stored", zero_point=3), "Non-zero zero point is not supported"),
        (conv_and_linear("weights stored", zero_point=128, zero_type=np.uint8), "Non-zero zero point is not supported"),
        (conv_and_linear("bias"), "has type Int32"),
    ],
)
def test_what_tensorrt_cannot_compute_is_refused(
    model: onnx.ModelProto, reason: str, save: Callable[[onnx.ModelProto], Path]
) -> None:
    refusal = examine(save(model)).refusal
    assert refusal is not None
    assert "node '" in refusal
    assert reason in refusal


def test_unsigned_activations_are_taken_for_signed(save: Callable[[onnx.ModelProto], Path]) -> None:
    """Why calibration writes a signed zero point: this file is built, and computes something else than it says."""
    found = examine(save(conv_and_linear("weights stored", zero_type=np.uint8)))
    assert found.refusal is None
    assert any("Defaulting to INT8" in warning for warning in found.warnings)
