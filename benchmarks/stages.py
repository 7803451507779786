"""The folded detector cut into its stages, each an ONNX graph of its own.

One graph for all would be fused across the stages by the runtime, which leaves no telling whose time is whose. What the
cuts cost is the difference between their sum and the whole.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from measure import relative_difference
from torch import Tensor, nn

from export.to_onnx import OPSET
from training.networks.anomaly_map import anomaly_map, score_map
from training.networks.detector import Detector
from training.networks.features import FEATURE_SIZE, TOKENS, patchify

TAPS = ("tap0", "tap1", "tap2", "tap3")


@dataclass(frozen=True)
class Stage:
    """A step of the detector: which values it takes and gives, by name."""

    name: str
    function: Callable[..., Any]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def _backbone(detector: Detector, image: Tensor) -> Any:
    extractor = detector.small_maps.extractor
    return extractor.backbone((image.float().permute(0, 3, 1, 2) - extractor.mean_255) / extractor.std_255)


def _fusion(detector: Detector, *taps: Tensor) -> Tensor:
    size = (FEATURE_SIZE, FEATURE_SIZE)
    resized = (F.interpolate(tap, size, mode="bilinear", align_corners=True) for tap in taps[2:])
    return patchify(torch.cat([*taps[:2], *resized], dim=1) * detector.small_maps.extractor.scale)


def _encoder(detector: Detector, tokens: Tensor) -> Tensor:
    network = detector.small_maps.network
    sequence = torch.cat([network.cls, tokens, detector.small_maps.template_tokens], dim=1)
    for block in network.blocks[:-1]:
        sequence = block(sequence)
    refined: Tensor = network.norm(network.blocks[-1](sequence, torch.cat([sequence[:, :1], sequence[:, -TOKENS:]], 1)))
    return refined


def _decoder(detector: Detector, refined: Tensor) -> Tensor:
    network = detector.small_maps.network
    refined = network.fdrm_embed(refined) + network.fdrm_position
    for block in network.fdrm_blocks:
        refined = block(refined)
    reconstruction: Tensor = network.head(network.fdrm_norm(refined[:, 1:]))
    return reconstruction


# For ResNets and one template at batch 1.
STAGES = (
    Stage("backbone", _backbone, ("image",), TAPS),
    Stage("feature fusion", _fusion, TAPS, ("cells",)),
    Stage("patch embedding", lambda detector, x: detector.small_maps.network.embed(x), ("cells",), ("tokens",)),
    Stage("encoder (TFAM)", _encoder, ("tokens",), ("refined",)),
    Stage("FDRM and head", _decoder, ("refined",), ("reconstruction",)),
    Stage(
        "map",
        lambda detector, cells, rebuilt: anomaly_map(cells, rebuilt, detector.smoothing, detector.fusion),
        ("cells", "reconstruction"),
        ("anomaly_map",),
    ),
    Stage("score", lambda detector, x: score_map(x, detector.score_rule), ("anomaly_map",), ("score",)),
)


class _Step(nn.Module):
    def __init__(self, detector: Detector, stage: Stage) -> None:
        super().__init__()
        self.detector = detector
        self.function = stage.function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.detector, *inputs)


def open_session(model: Path | bytes, threads: int, profile: Path | None = None) -> ort.InferenceSession:
    """A session with the station's settings: its idle threads sleep, so that the next case has the cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def stage_cases(detector: Detector, image: np.ndarray, threads: int) -> dict[str, Callable[[], object]]:
    """A call per stage, on the values that the stages before it computed.

    Raises:
        AssertionError: one after the other they do not give what the detector gives.
    """
    values = {"image": image}
    cases: dict[str, Callable[[], object]] = {}
    for stage in STAGES:
        inputs = {name: values[name] for name in stage.takes}
        session = open_session(_export(detector, stage, inputs), threads)
        values.update(zip(stage.gives, session.run(None, inputs), strict=True))
        cases[stage.name] = partial(session.run, None, inputs)
    with torch.no_grad():
        expected, _ = detector(torch.from_numpy(image))
    assert relative_difference(torch.from_numpy(values["anomaly_map"]), expected) < 1e-4
    return cases


def operator_ms(model: Path, image: np.ndarray, threads: int, frames: int) -> dict[str, float]:
    """Milliseconds per frame in each kind of operator of the whole graph, by ONNX Runtime's profiler; largest first.

    A node's time is its median over the frames; the profiler itself adds to the time of small nodes.
    """
    with tempfile.TemporaryDirectory() as directory:
        session = open_session(model, threads, Path(directory, "profile"))
        for _ in range(frames):
            session.run(None, {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    by_node: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            by_node[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    by_operator: defaultdict[str, float] = defaultdict(float)
    for (operator, _), times in by_node.items():
        by_operator[operator] += statistics.median(times)
    return dict(sorted(by_operator.items(), key=lambda item: -item[1]))


def _export(detector: Detector, stage: Stage, inputs: dict[str, np.ndarray]) -> bytes:
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Step(detector, stage).eval(),
            tuple(torch.from_numpy(value) for value in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(stage.gives),
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
