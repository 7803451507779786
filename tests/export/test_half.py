"""Half precision: the same answers, types that meet only in casts, and float32 where sums are made."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from calibration.qdq import insert_qdq
from edge.errors import TfanetEdgeError
from export.cost import multiply_accumulates
from export.graph import detector_graph
from export.half import FLOAT32_OPS, to_half
from export.onnx_graph import fold_constants, group_of, links, name_nodes, weighted_nodes, weights_dtype
from export.to_onnx import write_onnx
from training.networks.backbones import build_backbone
from training.networks.tfanet import Preset, TFANet
from training.networks.tfanet_detector import KIND

MINI = Preset(32, 2, 2, 16, 1, 2)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    torch.manual_seed(0)
    backbone, network = build_backbone("resnet18").eval(), TFANet(512, MINI).eval()
    for parameter in network.parameters():
        if parameter.dim() == 1:  # the exporter merges constants that are equal, as only untrained ones are
            torch.nn.init.normal_(parameter, float(parameter.detach().mean()), 0.01)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(detector_graph(backbone, network, IMAGES[:1], "std", "direction", half_weights=False), path)
    model = onnx.load(path)
    fold_constants(model)
    name_nodes(model)
    return model


@pytest.fixture(scope="module")
def half(plain: onnx.ModelProto) -> onnx.ModelProto:
    return to_half(plain)


def run(model: onnx.ModelProto, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    maps, scores = session.run(["anomaly_map", "score"], {"image": images})
    return maps, scores


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Of every tensor, as ONNX itself infers them; strict, so types that do not fit are an error."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_the_answers_are_the_same_to_half_precision(plain: onnx.ModelProto, half: onnx.ModelProto) -> None:
    (maps, scores), (half_maps, half_scores) = run(plain, IMAGES), run(half, IMAGES)
    assert half_maps.dtype == half_scores.dtype == np.float32
    assert 0 < np.abs(half_maps - maps).max() < 0.01 * maps.max()
    np.testing.assert_allclose(half_scores, scores, rtol=0.01)


def test_the_file_is_half_as_large(plain: onnx.ModelProto, half: onnx.ModelProto) -> None:
    assert len(half.SerializeToString()) < 0.52 * len(plain.SerializeToString())
    assert (weights_dtype(plain), weights_dtype(half)) == ("float32", "float16")


def test_sums_and_the_map_stay_in_float32_and_products_with_weights_do_not(half: onnx.ModelProto) -> None:
    types = element_types(half)
    last = weighted_nodes(half)[-1].output[0]
    in_map = {last}
    for node in half.graph.node:
        kind = types[node.output[0]]
        if node.op_type in FLOAT32_OPS:
            assert kind == TensorProto.FLOAT, node.name
        if in_map.intersection(node.input) and node.op_type != "Cast" and last not in node.input:
            assert kind != TensorProto.FLOAT16, node.name
        if in_map.intersection(node.input):
            in_map.update(node.output)
    assert all(types[node.output[0]] == TensorProto.FLOAT16 for node in weighted_nodes(half))
    attention = [node for node in half.graph.node if node.op_type == "Softmax"]
    assert len(attention) == MINI.depth + MINI.fdrm_depth


def test_the_given_model_is_left_alone(plain: onnx.ModelProto) -> None:
    before = plain.SerializeToString(deterministic=True)
    to_half(plain)
    assert plain.SerializeToString(deterministic=True) == before


def test_between_quantised_products_nothing_is_cast(plain: onnx.ModelProto) -> None:
    """Where all weights are INT8, convolutions meet nothing but float32 up to the next quantisation."""
    nodes = weighted_nodes(plain)
    quantised = insert_qdq(
        plain,
        {node.name for node in nodes},
        {node.input[0]: 4.0 for node in nodes},
        {node.input[0]: np.zeros(channels(plain, node), np.float32) for node in nodes},
    )
    mixed = to_half(quantised)
    types = element_types(mixed)
    for node in mixed.graph.node:
        if node.op_type in ("QuantizeLinear", "Conv", "Relu", "MaxPool"):
            assert types[node.input[0]] == TensorProto.FLOAT, node.name
    halves = Counter(node.op_type for node in mixed.graph.node if types[node.output[0]] == TensorProto.FLOAT16)
    assert set(halves) <= {"Cast", "MatMul", "Mul", "Transpose", "Reshape", "Split", "Add", "Concat", "Expand", "Slice"}
    assert halves["MatMul"] == 2 * (MINI.depth + MINI.fdrm_depth), "attention's own products"


def channels(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    return int(links(model).weight(node).shape[1 if node.op_type == "Conv" else 0])


def test_a_constant_too_large_is_named() -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["": 17]>
        net (float[2, 2] image) => (float[2, 2] y) { x = MatMul (image, weight) y = Relu (x) }
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.full((2, 2), 7e4, np.float32), "weight"))
    with pytest.raises(TfanetEdgeError, match="'weight' reaches 70000, too large for half precision"):
        to_half(model)


def test_every_weighted_node_belongs_to_its_part_of_the_network(plain: onnx.ModelProto) -> None:
    known = links(plain)
    found = Counter(group_of(node, known, KIND.parts) for node in weighted_nodes(plain))
    assert found == {
        "stem": 1,
        "layer1": 4,
        "layer2": 5,
        "layer3": 5,
        "patch embedding": 1,
        "encoder": 4 * MINI.depth
        + 1,  # the last block asks with fewer tokens, so its queries have a product of their own
        "decoder": 1 + 4 * MINI.fdrm_depth,
        "prediction": 1,
    }


def test_multiply_accumulates_are_counted_per_node(plain: onnx.ModelProto) -> None:
    work = multiply_accumulates(plain)
    by_group: Counter[str] = Counter()
    known = links(plain)
    for node in weighted_nodes(plain):
        by_group[group_of(node, known, KIND.parts)] += work[node.name]
    assert by_group["stem"] == 64 * 3 * 7 * 7 * 128 * 128
    assert by_group["layer1"] == 4 * 64 * 64 * 3 * 3 * 64 * 64
    assert by_group["patch embedding"] == 256 * 16 * 512 * MINI.dim
    assert by_group["prediction"] == 256 * MINI.fdrm_dim * 16 * 512
    smoothing = [node for node in plain.graph.node if node.op_type == "MatMul" and node.output[0] == "anomaly_map"]
    assert [work[node.name] for node in smoothing] == [256 * 256 * 64]


def test_products_without_weights_are_counted(tmp_path: Path) -> None:
    model = helper.make_model(
        onnx.parser.parse_graph(
            """
            net (uint8[1, 2, 2, 3] image) => (float[1, 2, 2, 2] y) {
                x = Cast <to = 1> (image) t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul (x, t)
            }
            """
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    name_nodes(model)
    assert list(multiply_accumulates(model).values()) == [2 * 2 * 2 * 3]


def test_what_resizes_in_half_precision_keeps_its_scales() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        enlarged (float[N, 4, 8, 8] image) => (float[N, 4, 16, 16] anomaly_map)
        <float[4] scales = {1.0, 1.0, 2.0, 2.0}> {
            first = Conv (image, kernel_1)
            large = Resize <mode = "nearest"> (first, , scales)
            last = Conv (large, kernel_2)
            anomaly_map = Mul (last, last)
        }
    """)
    kernels = np.random.default_rng(0).normal(size=(2, 4, 4, 1, 1)).astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(kernels[i], f"kernel_{i + 1}") for i in range(2))
    half = to_half(model)
    types = element_types(half)
    (resize,) = [node for node in half.graph.node if node.op_type == "Resize"]
    assert [types[name] for name in (resize.input[0], resize.input[2], resize.output[0])] == [
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
    ]
    image = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    plain, found = (
        ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
        for one in (model, half)
    )
    np.testing.assert_allclose(found, plain, atol=0.01 * plain.max())
