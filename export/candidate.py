"""What a recommendation measures of one detector: time, size and cost before any training, separation after one."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from edge.engines.ort import OUTPUTS, default_threads, open_session
from edge.frame import Image
from export.choice import Measured
from export.cost import multiply_accumulates
from export.to_onnx import write_onnx
from training.checkpoint import load_state
from training.distributed import World
from training.evaluation.predict import anomaly_maps, image_scores, predict
from training.networks.backbones import fold_batch_norm, load_backbone
from training.networks.detector import Detector
from training.run import STATE, Run
from training.settings import TrainSettings
from training.synthetic import with_defects

DEFECTS_PER_PART = 6
FRAMES, WARM_UP = 50, 5


def untrained_detector(settings: TrainSettings, weights: Path | None) -> Detector:
    """As it is exported after a training, but for the values of its weights."""
    backbone = load_backbone(settings.network.backbone, weights)
    trainable = settings.kind.build(backbone, settings.network, None).eval()
    return Detector(trainable.maps(), settings.kind.fuse, settings.score_rule, settings.network.fusion).eval()


def timed(settings: TrainSettings, detector: Detector, image: Image) -> Measured:
    """Time, size and cost of the exported network in ONNX Runtime."""
    fold_batch_norm(detector)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        write_onnx(detector, path)
        times_ms = _times_ms(path, image)
        return Measured(
            detector=settings.detector,
            title=settings.kind.title,
            preset=settings.network.preset,
            backbone=settings.network.backbone,
            median_ms=median(times_ms),
            p95_ms=float(np.quantile(times_ms, 0.95)),
            model_bytes=path.stat().st_size,
            multiply_accumulates=sum(multiply_accumulates(onnx.load(path)).values()),
        )


def trained(run: Run, held_out: Image, world: World) -> dict[str, Any]:
    """What a training adds to the figures."""
    settings = run.record.settings

    def scores(images: Image) -> list[float]:
        maps = anomaly_maps(predict(run, list(images), world.device), settings.network.fusion)
        return [float(score) for score in image_scores(maps, settings.score_rule)]

    damaged = [scores(with_defects(held_out, settings.seed + number)[0]) for number in range(DEFECTS_PER_PART)]
    return {
        "epochs": settings.epochs,
        "training_s": sum(epoch.seconds for epoch in load_state(run.path / STATE).history),
        "good_scores": tuple(scores(held_out)),
        "damaged_scores": tuple(zip(*damaged, strict=True)),
    }


def _times_ms(path: Path, image: Image) -> list[float]:
    """Of frame after frame, with the station's own number of threads."""
    session = open_session(path, default_threads(), spins=False)
    times_ms = []
    for number in range(-WARM_UP, FRAMES):
        started_ns = time.perf_counter_ns()
        session.run(OUTPUTS, {"image": image})
        if number >= 0:
            times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
    return times_ms
