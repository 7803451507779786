"""Where Q/DQ stand in the written graph, and that they are of the kind TensorRT reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

WEIGHTED = {"conv": 3, "linear": 5}  # stem, conv_1, conv_2; q, k, v, proj, head


class Graph:
    """Who makes what, by tensor name."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.nodes = list(self.model.graph.node)
        self.made_by = {output: node for node in self.nodes for output in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def of_type(self, *types: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in types]

    def quantised_source(self, tensor: str) -> str | None:
        """What a tensor was before Q and DQ; None when it does not come from DQ."""
        node = self.made_by.get(tensor)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        return str(self.made_by[node.input[0]].input[0])


@pytest.fixture
def graph(calibrate: Callable[..., int], detector_dir: Path, good_dir: Path) -> Graph:
    assert calibrate(detector_dir, "--images", good_dir) == 0
    return Graph(detector_dir / "model.int8.onnx")


def test_weighted_products_are_quantised_and_nothing_else(graph: Graph) -> None:
    weighted = 0
    for node in graph.nodes:
        sources = [graph.quantised_source(name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.op_type in ("Conv", "Gemm") or (node.op_type == "MatMul" and sources[1] in graph.constants):
            assert sources[0] is not None
            assert sources[1] in graph.constants
            assert all(name in graph.constants for name in node.input[2:]), "biases stay as they are"
            weighted += 1
        elif node.output[0] == "sum":
            assert sources == [None, "level"], "the residual of a convolution"
        else:
            assert sources == [None] * len(sources), f"{node.op_type} {node.output[0]} reads a quantised tensor"
    assert weighted == sum(WEIGHTED.values())
    assert [n.output[0] for n in graph.of_type("MatMul") if graph.quantised_source(n.input[1]) is None] == [
        "logits",
        "mixed",
        "down",
        "anomaly_map",
    ]


def test_quantisation_is_symmetric_signed_int8(graph: Graph) -> None:
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        scale, zero_point = (graph.constants[name] for name in node.input[1:])
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
        assert scale.dtype == np.float32
        assert (scale > 0).all()


def test_weights_have_a_scale_per_output_channel_and_activations_one(graph: Graph) -> None:
    for node in graph.of_type("QuantizeLinear"):
        weight, scale = graph.constants.get(node.input[0]), graph.constants[node.input[1]]
        if weight is None:
            assert scale.ndim == 0
            continue
        (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
        assert axis == (0 if weight.ndim == 4 or node.input[0] == "head_w" else 1)
        others = tuple(set(range(weight.ndim)) - {axis})
        largest = np.abs(weight).max(axis=others)
        alive = largest > 1e-6
        np.testing.assert_allclose(scale[alive], largest[alive] / 127, rtol=1e-2)


def test_a_dead_channel_does_not_overflow_its_bias(graph: Graph) -> None:
    """Runtimes add biases as int32 in units of both scales."""
    (conv,) = (node for node in graph.of_type("Conv") if node.output[0] == "conv_1")
    image_scale, weight_scale = (graph.constants[graph.made_by[name].input[1]] for name in conv.input[:2])
    bias = graph.constants[conv.input[2]].astype(np.float64)
    assert (np.abs(bias) / (image_scale * weight_scale) < 2**31).all()


def test_the_file_says_what_it_was_calibrated_on(graph: Graph) -> None:
    said = {entry.key: entry.value for entry in graph.model.metadata_props}
    assert said.keys() == {"calibration", "images", "images_sha256"}
    assert said["images"] == "10"
