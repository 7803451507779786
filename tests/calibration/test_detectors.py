"""Every detector of the table goes the whole way, from good parts to verdicts of a station; none is treated apart."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from played_gpu import PlayedGpu

from calibration import command as calibrate_int8
from calibration import images, judged
from edge.bundle import load_bundle
from edge.config import EngineConfig, FolderConfig, Identity, MqttConfig, OutboxConfig, StationConfig, TriggerConfig
from edge.startup import open_station
from export.build_command import build_variants
from export.onnx_graph import fold_constants, group_of, links, weighted_nodes
from simulator.broker import embedded_broker
from training.networks.table import DETECTORS

# What makes a training short where the smallest preset does not, and good enough that parts differ in their scores.
SHORT = {
    "efficientad": (
        *("--teacher-steps", 2, "--teacher-batch", 2, "--teacher-target-px", 64),
        *("--teacher-procedural-images", 2, "--penalty-images", 2, "--penalty-weight", 0, "--snc", "none"),
        *("--score-rule", "std", "--lr", 0.001, "--batch", 1),
    ),
    "stfpm": ("--lr", 0.01),
}
WIDE = ("--max-flips", 1, "--max-swaps", 1, "--max-auroc-drop", 1, "--max-aupro-drop", 1)


@pytest.fixture(scope="module")
def more_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good parts like the product's, to fit thresholds to and then to calibrate on."""
    rng, directory = np.random.default_rng(1), tmp_path_factory.mktemp("parts")
    for index in range(4):
        image = np.full((96, 120, 3), 120, np.uint8)
        cv2.circle(image, (60, 48), 36, (170, 170, 165), -1)
        cv2.circle(image, (60, 48), 14, (70, 70, 75), -1)
        noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(directory / f"{index}.png"), noisy)
    return directory


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little work for a calibration as there can be; its groups are those of a detector it does not know."""
    for module in (images, judged):
        monkeypatch.setattr(module, "MIN_IMAGES", 4)
    monkeypatch.setattr(judged, "FEW", 2)
    monkeypatch.setattr(calibrate_int8, "DETECTORS", {})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.usefixtures("few_images")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_from_good_parts_to_verdicts(
    detector: str,
    verb: Callable[..., int],
    product: Path,
    more_parts: Path,
    backbone_weights: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    smallest = ("--backbone", "resnet18", "--epochs", 1, "--batch", 6, "--precision", "float32")
    command = ("train", "--data", product, "--weights", backbone_weights, "--out", run, "--device", "cpu")
    assert verb(*command, "--detector", detector, "--held-out-share", 0.25, *smallest, *SHORT.get(detector, ())) == 0
    losses = [epoch["held_out_loss"] for epoch in json.loads((run / "history.json").read_text())]
    assert len(losses) == 1
    assert np.isfinite(losses).all()
    assert verb("evaluate", "--run", run, "--data", product, "--json", tmp_path / "out.json", "--device", "cpu") == 0
    assert verb("export", run, "--out", bundle) == 0
    graph = onnx.load(bundle / "model.fp32.onnx")
    fold_constants(graph)
    found = {group_of(node, links(graph), DETECTORS[detector].parts) for node in weighted_nodes(graph)}
    assert len(found) > 2, "INT8 is decided part by part"
    assert found <= {part for _, part in DETECTORS[detector].parts} | {"products"}

    assert verb("threshold", "fit", bundle, "--images", more_parts) == 0
    quick = ("--method", "minmax", "--cache", tmp_path / "cache")
    assert verb("calibrate-int8", bundle, "--images", more_parts, *quick, *WIDE) == 0
    assert verb("verify", bundle) == 0
    manifest = load_bundle(bundle).manifest
    assert manifest.detector == detector
    assert manifest.variants.keys() == {"fp32", "fp16", "int8"}
    assert manifest.image_threshold.n == 4

    stop = threading.Event()
    with embedded_broker() as (host, port):
        config = StationConfig(
            bundle=bundle,
            identity=Identity(site="plant", area="test", line="l1", station="s1"),
            camera=FolderConfig(kind="folder", directory=product / "test" / "scratch"),
            trigger=TriggerConfig(mode="software", interval_ms=0, deadline_ms=60_000),
            engine=EngineConfig(kind="onnxruntime", precision="int8"),
            mqtt=MqttConfig(host=host, port=port),
            outbox=OutboxConfig(path=tmp_path / "outbox.sqlite"),
        )
        with open_station(config, is_simulated=True) as station:
            station.run(stop, 2)
            verdicts = station.verdicts
    assert verdicts.total() == 2
    assert verdicts["OK"] + verdicts["NG"] == 2

    capfd.readouterr()
    assert verb("demo", "--bundle", bundle, "--triggers", 2, "--json") == 0
    assert json.loads(capfd.readouterr().out)["schema_valid"] == 2

    request.getfixturevalue("tensorrt")
    from export.build_engine import BuildOptions

    built = load_bundle(bundle)
    gpu = PlayedGpu(bundle / built.variant("int8").file)
    build_variants(built, ["int8"], BuildOptions(aim_at=(8, 6)), tmp_path / "plans", gpu)
    assert len(gpu.plans) == 1
