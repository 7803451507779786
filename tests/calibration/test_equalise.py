"""Equalised networks compute the same, and every channel that shares a scale reaches about as far."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from calibration.equalise import equalise
from export.probe import Probe

# A residual, a branch that is resized, and taps that are concatenated and scaled: a backbone in small.
NETWORK = """
<ir_version: 9, opset_import: ["": 17]>
net (uint8[N, 16, 16, 3] image) => (float[N, 14, 8, 8] y, float[N, 4, 8, 8] other) {
    pixels = Cast <to = 1> (image)
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    stem = Conv <pads = [1, 1, 1, 1]> (planes, stem_w, stem_b)
    positive = Relu (stem)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (positive)
    inner = Conv <pads = [1, 1, 1, 1]> (pooled, inner_w, inner_b)
    inner_positive = Relu (inner)
    outer = Conv <pads = [1, 1, 1, 1]> (inner_positive, outer_w, outer_b)
    sum = Add (outer, pooled)
    level = Relu (sum)
    below = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (level, below_w, below_b)
    below_positive = Relu (below)
    last = Conv <pads = [1, 1, 1, 1]> (below_positive, last_w, last_b)
    size = Shape (level)
    resized = Resize <mode = "linear"> (below_positive, none, none, sizes)
    taps = Concat <axis = 1> (level, resized)
    y = Mul (taps, scale)
    wide = Resize <mode = "linear"> (last, none, none, last_sizes)
    other = Softmax <axis = 1> (wide)
}
"""
SHAPES = {"stem": (6, 3), "inner": (5, 6), "outer": (6, 5), "below": (8, 6), "last": (4, 8)}


@pytest.fixture
def model() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {
        "scale": rng.uniform(0.5, 2, (14, 1, 1)),
        "none": np.zeros(0),
        "sizes": np.array([1, 8, 8, 8]),
        "last_sizes": np.array([1, 4, 8, 8]),
    }
    for name, shape in SHAPES.items():
        spread = np.exp(rng.normal(0, 2, shape[0]))  # channels of very different reach
        constants[f"{name}_w"] = rng.normal(0, 0.1, (*shape, 3, 3)) * spread[:, None, None, None]
        constants[f"{name}_b"] = rng.normal(0, 0.1, shape[0]) * spread
    network = onnx.parser.parse_model(NETWORK)
    for name, values in constants.items():
        dtype = values.dtype if values.dtype == np.int64 else np.float32
        network.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), name))
    for node in network.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(network)
    return network


IMAGES = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.concatenate(each) for each in zip(*(session.run(None, {"image": i[None]}) for i in IMAGES), strict=True)]


def reach(model: onnx.ModelProto, tensor: str) -> np.ndarray:
    probe = Probe(model, [tensor])
    return np.max([np.abs(probe.run(image)[tensor]).max(axis=(0, 2, 3)) for image in IMAGES], axis=0)


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def test_it_computes_the_same(model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    for plain, equal in zip(run(model), run(equalise(model, IMAGES)), strict=True):
        np.testing.assert_allclose(equal, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("tensor", ["pooled", "level", "inner_positive", "below_positive"])
def test_channels_reach_more_alike(model: onnx.ModelProto, tensor: str) -> None:
    before, after = reach(model, tensor), reach(equalise(model, IMAGES), tensor)
    alive = before > 0
    assert np.log(after[alive]).std() < 0.75 * np.log(before[alive]).std()


def test_sums_and_taps_are_divided_alike(model: onnx.ModelProto) -> None:
    equal = equalise(model, IMAGES)
    ratios = reach(model, "pooled") / reach(equal, "pooled")
    np.testing.assert_allclose(
        constant(equal, "scale")[:6, 0, 0] / constant(model, "scale")[:6, 0, 0], ratios, rtol=1e-4
    )
    for name in ("stem", "outer"):
        np.testing.assert_allclose(constant(model, f"{name}_b") / constant(equal, f"{name}_b"), ratios, rtol=1e-4)


def test_what_something_else_reads_stays_as_it_is(model: onnx.ModelProto) -> None:
    """The softmax sees the last convolution's own values: nothing may divide them."""
    equal = equalise(model, IMAGES)
    assert (constant(equal, "last_b") == constant(model, "last_b")).all()


def test_a_constant_that_two_nodes_read_is_left_alone(model: onnx.ModelProto) -> None:
    (outer,) = (node for node in model.graph.node if node.name == "outer")
    outer.input[2] = "stem_b"
    for plain, equal in zip(run(model), run(equalise(model, IMAGES)), strict=True):
        np.testing.assert_allclose(equal, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())


def test_a_dead_channel_does_no_harm(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name in ("inner_w", "inner_b"):
            values = numpy_helper.to_array(tensor).copy()
            values[2] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for plain, equal in zip(run(model), run(equalise(model, IMAGES)), strict=True):
        assert np.isfinite(equal).all()
        np.testing.assert_allclose(equal, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())
