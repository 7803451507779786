"""INT8 weights, biases that take a shift back, and Q/DQ that compute what they should."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import numpy_helper

from calibration.qdq import dequantise_weight, insert_qdq, mean_shift, quantise_weight
from calibration.ranges import LEVELS

NETWORK = """
<ir_version: 9, opset_import: ["": 17]>
net (float[N, 3, 8, 8] image) => (float[N, 4] y) {
    level = Conv <pads = [1, 1, 1, 1]> (image, conv_w, conv_b)
    positive = Relu (level)
    flat = Flatten (positive)
    hidden = MatMul (flat, linear_w)
    shifted = Add (hidden, linear_b)
    y = Gemm <transB = 1> (shifted, gemm_w, gemm_b)
}
"""


def network(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    shapes = {
        "conv_w": (5, 3, 3, 3),
        "conv_b": (5,),
        "linear_w": (320, 6),
        "linear_b": (6,),
        "gemm_w": (4, 6),
        "gemm_b": (4,),
    }
    model = onnx.parser.parse_model(NETWORK)
    for name, shape in shapes.items():
        values = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"image": image})[0])


IMAGE = np.random.default_rng(1).normal(1, 1, (64, 3, 8, 8)).astype(np.float32)
LIMITS = {"image": 5.0, "flat": 6.5, "shifted": 55.0}
MEANS = {"image": IMAGE.mean((0, 2, 3)), "flat": np.zeros(320, np.float32), "shifted": np.zeros(6, np.float32)}


@given(
    weight=arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-8, 8, width=32)),
    axis=st.sampled_from([0, 1]),
)
def test_a_weight_is_off_by_half_a_step_of_its_channel_at_most(weight: np.ndarray, axis: int) -> None:
    values, scale = quantise_weight(weight, axis)
    assert values.dtype == np.int8
    assert np.abs(values.astype(int)).max() <= LEVELS
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = scale.reshape(shape)
    assert (np.abs(dequantise_weight(values, scale, axis) - weight) <= 0.5001 * steps + 1e-12).all()


def test_the_int8_network_computes_about_the_same() -> None:
    model = network()
    quantised = insert_qdq(model, {"level", "hidden", "y"}, LIMITS, MEANS)
    plain = run(model, IMAGE)
    assert 0 < np.abs(run(quantised, IMAGE) - plain).max() < 0.1 * np.abs(plain).max()


def test_only_the_named_nodes_read_quantised_tensors() -> None:
    quantised = insert_qdq(network(), {"hidden"}, LIMITS, MEANS)
    made_by = {name: node.op_type for node in quantised.graph.node for name in node.output}
    reads = {node.name: [made_by.get(name) for name in node.input[:2]] for node in quantised.graph.node}
    assert reads["hidden"] == ["DequantizeLinear"] * 2
    assert reads["level"] == [None, None]
    assert "DequantizeLinear" not in reads["y"]


def test_weights_are_stored_as_int8_only() -> None:
    quantised = insert_qdq(network(), {"level", "hidden", "y"}, LIMITS, MEANS)
    stored = {tensor.name: tensor.data_type for tensor in quantised.graph.initializer}
    assert {name for name in stored if name.endswith("_w")} == set()
    assert all(stored[f"{name}_int8"] == onnx.TensorProto.INT8 for name in ("conv_w", "linear_w", "gemm_w"))


def test_every_scale_has_an_explicit_signed_zero_point() -> None:
    """TensorRT takes a missing one for signed, ONNX for unsigned."""
    quantised = insert_qdq(network(), {"level", "hidden", "y"}, LIMITS, MEANS)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    pairs = [node for node in quantised.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 3 * 3
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()


def test_the_bias_takes_back_what_rounded_weights_shift() -> None:
    model = network()
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv_w")
    values = numpy_helper.to_array(weight).copy()
    values[:, :, 0, 0] = 20.0  # so coarse a step that all other weights of a channel are rounded much
    weight.CopyFrom(numpy_helper.from_array(values, "conv_w"))
    wide = LIMITS | {"image": float(np.abs(IMAGE).max())}
    of_level = onnx.ModelProto()
    of_level.CopyFrom(model)
    del of_level.graph.node[1:]
    del of_level.graph.output[:]
    of_level.graph.output.append(onnx.helper.make_tensor_value_info("level", onnx.TensorProto.FLOAT, ["N", 5, 8, 8]))

    def mean_error(means: dict[str, np.ndarray]) -> float:
        quantised = insert_qdq(of_level, {"level"}, wide, means)
        answers = []
        for each in (of_level, quantised):
            session = ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
            # Without the border, whose zeros the correction neglects.
            answers.append(session.run(["level"], {"image": IMAGE})[0][:, :, 1:-1, 1:-1].mean((0, 2, 3)))
        return float(np.abs(answers[1] - answers[0]).max())

    assert mean_error(MEANS) < 0.5 * mean_error({"image": np.zeros(3, np.float32)})


def test_the_given_model_is_left_alone() -> None:
    model = network()
    before = model.SerializeToString(deterministic=True)
    insert_qdq(model, {"level", "hidden", "y"}, LIMITS, MEANS)
    assert model.SerializeToString(deterministic=True) == before


def test_each_group_of_a_convolution_shifts_by_its_own_inputs() -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=2)
    rng = np.random.default_rng(0)
    error, means = rng.normal(size=(6, 2, 3, 3)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    expected = [(error[channel].sum((1, 2)) * means[2 * (channel // 3) :][:2]).sum() for channel in range(6)]
    np.testing.assert_allclose(mean_shift(node, error, means), expected, rtol=1e-5)
