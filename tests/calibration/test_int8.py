"""Where Q/DQ stand in the written file, and that they are of the kind TensorRT reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.calibrate import measure_ranges
from calibration.images import read_images
from calibration.int8 import limits, prepare, quantise
from edge.bundle import load_bundle
from export.outputs import run_onnx

QDQ = ("QuantizeLinear", "DequantizeLinear")


class Graph:
    """Who makes what, by tensor name."""

    def __init__(self, content: bytes) -> None:
        self.model = onnx.load_from_string(content)
        self.nodes = list(self.model.graph.node)
        self.made_by = {output: node for node in self.nodes for output in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def before(self, tensor: str) -> str | None:
        """What a tensor was before Q and DQ, or the int8 constant that it was; None when it does not come from DQ."""
        node = self.made_by.get(tensor)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        quantised = self.made_by.get(node.input[0])
        return str(node.input[0] if quantised is None else quantised.input[0])


@pytest.fixture(scope="module")
def everywhere(calibrated, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Every node that may be is in INT8, whatever it costs."""
    settings = load_bundle(calibrated.before).manifest.preprocessing
    network = prepare((calibrated.before / "model.fp32.onnx").read_bytes(), ())
    ranges = measure_ranges(network, read_images(calibrated.images, settings, None), calibrated.cache)
    limit = limits(network, ranges, dict.fromkeys(network.groups, "mse"))
    return Graph(quantise(network, network.inputs, limit, ranges))


@pytest.fixture(scope="module")
def written(calibrated) -> Graph:
    return Graph((calibrated.path / "model.int8.onnx").read_bytes())


def test_weighted_products_are_quantised_and_nothing_else(everywhere: Graph) -> None:
    weighted = []
    for node in everywhere.nodes:
        sources = [everywhere.before(name) for name in node.input]
        if node.op_type in QDQ:
            continue
        if node.op_type in ("Conv", "Gemm") or (node.op_type == "MatMul" and sources[1] in everywhere.constants):
            assert sources[0] is not None, node.name
            assert everywhere.constants[str(sources[1])].dtype == np.int8
            assert all(everywhere.constants[name].dtype in (np.float32, np.float16) for name in node.input[2:])
            weighted.append(node.op_type)
        else:
            assert sources == [None] * len(sources), f"{node.op_type} {node.output[0]} reads a quantised tensor"
    assert sorted(weighted) == ["Conv"] * 3 + ["Gemm"] + ["MatMul"] * 4


def test_the_file_stores_each_weight_as_int8_and_only_so(everywhere: Graph) -> None:
    large = {name: array.dtype for name, array in everywhere.constants.items() if array.size >= 256}
    of_map = [large.pop(name) for name in ("smoothing", "smoothing_t")]
    assert of_map == [np.float32] * 2, "the map stays in float32"
    assert len(large) == 8
    assert set(large.values()) == {np.dtype(np.int8)}


def test_the_written_file_has_the_nodes_that_the_manifest_says(calibrated, written: Graph) -> None:
    quantisation = load_bundle(calibrated.path).variant("int8").quantisation
    assert quantisation is not None
    stored = [name for name, array in written.constants.items() if array.dtype == np.int8 and array.size >= 256]
    assert len(stored) == sum(group.layers for group in quantisation.groups)


@pytest.mark.parametrize("which", ["everywhere", "written"])
def test_what_tensorrt_would_refuse_or_take_for_something_else_is_not_there(
    which: str, request: pytest.FixtureRequest
) -> None:
    """Symmetric, zero points written out and of int8, a scale per output channel of a weight, no int32 bias."""
    graph: Graph = request.getfixturevalue(which)
    pairs = [node for node in graph.nodes if node.op_type in QDQ]
    assert pairs
    for node in pairs:
        scale, zero_point = (graph.constants[name] for name in node.input[1:])
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
        assert scale.dtype == np.float32
        assert (scale > 0).all()
        assert scale.shape == zero_point.shape
        weight = graph.constants.get(node.input[0])
        if weight is None:
            assert scale.ndim == 0
            continue
        assert weight.dtype == np.int8
        (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
        assert axis == (0 if weight.ndim == 4 or "head_w" in node.input[0] else 1)
        assert scale.shape == (weight.shape[axis],)
        others = tuple(set(range(weight.ndim)) - {axis})
        assert (np.abs(weight.astype(int)).max(axis=others) <= 127).all()
    assert not [name for name, array in graph.constants.items() if array.dtype in (np.int32, np.uint8)]


def test_inputs_and_outputs_keep_their_names_and_types(written: Graph) -> None:
    ends = {value.name: value.type.tensor_type.elem_type for value in (*written.model.graph.input,)}
    assert ends == {"image": TensorProto.UINT8}
    ends = {value.name: value.type.tensor_type.elem_type for value in written.model.graph.output}
    assert ends == {"anomaly_map": TensorProto.FLOAT, "score": TensorProto.FLOAT}


def test_a_dead_channel_does_not_overflow_its_bias(calibrated, tmp_path: Path) -> None:
    model = onnx.load(calibrated.before / "model.fp32.onnx")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv_1_w")
    values = numpy_helper.to_array(weight).copy()
    values[0] *= 1e-9
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    images = read_images(calibrated.images, load_bundle(calibrated.before).manifest.preprocessing, None)
    network = prepare(model.SerializeToString(), ())
    ranges = measure_ranges(network, images, tmp_path)
    limit = limits(network, ranges, dict.fromkeys(network.groups, "mse"))
    plain = run_onnx(model.SerializeToString(), images, "fp32")
    int8 = run_onnx(quantise(network, network.inputs, limit, ranges), images, "int8")
    assert np.abs(int8.maps - plain.maps).mean() < 0.01 * plain.maps.mean()
