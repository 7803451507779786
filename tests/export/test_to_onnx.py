"""The exported graph: the same numbers as PyTorch, half the size, nothing left to compute per frame."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from export.graph import detector_graph
from export.to_onnx import OPSET, _without_chatter, write_onnx
from training.networks.backbones import build_backbone
from training.networks.detector import Detector
from training.networks.tfanet import Preset, TFANet

MINI = Preset(32, 2, 2, 16, 1, 2)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph(images: np.ndarray) -> Detector:
    torch.manual_seed(0)
    return detector_graph(
        build_backbone("resnet18").eval(), TFANet(512, MINI).eval(), images[:1], "top1pct", "product", half_weights=True
    )


@pytest.fixture(scope="module")
def model_path(graph: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(graph, path)
    return path


@torch.no_grad()
def test_onnx_runtime_gives_the_same_for_any_batch(graph: Detector, model_path: Path, images: np.ndarray) -> None:
    anomaly_map, score = graph(torch.from_numpy(images))
    session = ort.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        maps, scores = session.run(None, {"image": images[:batch]})
        assert maps.dtype == scores.dtype == np.float32
        np.testing.assert_allclose(maps, anomaly_map[:batch], atol=1e-5 * float(anomaly_map.max()))
        np.testing.assert_allclose(scores, score[:batch], rtol=1e-5)


def test_weights_are_stored_in_half_and_folded_when_loaded(model_path: Path, tmp_path: Path) -> None:
    model = onnx.load(model_path)
    assert [entry.version for entry in model.opset_import] == [OPSET]
    elements = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert model_path.stat().st_size < 2.2 * elements
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    ort.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(tmp_path / "folded.onnx")
    assert not [tensor.name for tensor in folded.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16]
    casts = [node for node in folded.graph.node if node.op_type == "Cast"]
    assert len(casts) <= 1, "only the image itself is converted per frame"


def test_the_file_says_nothing_of_the_machine_it_was_made_on(model_path: Path) -> None:
    assert str(Path(__file__).parents[2]).encode() not in model_path.read_bytes()


def test_the_exporter_is_heard_again_afterwards(model_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("torch.onnx._internal.exporter._compat", "onnxscript.version_converter"):
        assert logging.getLogger(name).filters == []
    logger = logging.getLogger("onnxscript.version_converter")
    with _without_chatter():
        logger.warning("The model version conversion is not supported by %s", "anything")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
