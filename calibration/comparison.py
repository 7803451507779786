"""INT8 against FP32 on the same images: how far the maps move, and how many verdicts with them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from edge.bundle import GoldenVectors
from edge.engines.ort import OUTPUTS
from edge.errors import EngineError
from edge.frame import Image
from edge.verdict import AnomalyMap


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from FP32 to INT8.

    Attributes:
        frames: golden vectors and images together.
        golden_map_error: largest |map - golden| of the golden vectors, as a share of each golden map's maximum.
        golden_score_error: largest |score - golden| of the golden vectors, as a share of each golden score.
        map_error: largest |INT8 - FP32| of all frames, as a share of the largest golden value.
        score_correlation: Pearson's, over all frames; None when either's scores are all equal.
        flips: frames whose verdict changed.
        fp32_ms, int8_ms: median time per frame on one thread.
    """

    frames: int
    golden_map_error: float
    golden_score_error: float
    map_error: float
    score_correlation: float | None
    flips: int
    fp32_ms: float
    int8_ms: float

    @property
    def flip_share(self) -> float:
        """Share of the frames whose verdict changed."""
        return self.flips / self.frames


def compare(fp32: bytes, int8: bytes, images: Image, golden: GoldenVectors, threshold: float) -> Comparison:
    """Run both networks frame by frame, the golden vectors first.

    Args:
        fp32, int8: ONNX files.
        images: uint8 (N, H, W, 3).
        golden: the bundle's vectors.
        threshold: image score from which a part is NG.

    Raises:
        EngineError: ONNX Runtime refuses a file, or INT8 gives something that is not a number.
    """
    networks = (_Network(fp32), _Network(int8))
    golden_map_errors, golden_score_errors, map_errors = [], [], []
    scores = np.empty((len(golden.image) + len(images), 2))
    for index, image in enumerate(tqdm([*golden.image, *images], "comparing", unit="image", disable=None)):
        (plain, scores[index, 0]), (quantised, scores[index, 1]) = (network.run(image) for network in networks)
        if not np.isfinite(quantised).all() or not np.isfinite(scores[index, 1]):
            raise EngineError("the INT8 network gives values that are not numbers", "calibrate on other images")
        map_errors.append(np.abs(quantised - plain).max() / golden.anomaly_map.max())
        if index < len(golden.image):
            reference = golden.anomaly_map[index]
            golden_map_errors.append(np.abs(quantised - reference).max() / reference.max())
            golden_score_errors.append(abs(scores[index, 1] / golden.score[index] - 1))
    varies = (np.ptp(scores, axis=0) > 0).all()
    return Comparison(
        frames=len(scores),
        golden_map_error=float(max(golden_map_errors)),
        golden_score_error=float(max(golden_score_errors)),
        map_error=float(max(map_errors)),
        score_correlation=float(np.corrcoef(scores.T)[0, 1]) if varies else None,
        flips=int(((scores[:, 0] >= threshold) != (scores[:, 1] >= threshold)).sum()),
        fp32_ms=networks[0].median_ms,
        int8_ms=networks[1].median_ms,
    )


class _Network:
    """An ONNX file on one thread, one frame at a time, as a station runs it."""

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"ONNX Runtime cannot load the network ({error})", "export the bundle again") from error
        self._times_ms: list[float] = []

    @property
    def median_ms(self) -> float:
        return float(np.median(self._times_ms))

    def run(self, image: Image) -> tuple[AnomalyMap, float]:
        started_ns = time.perf_counter_ns()
        anomaly_map, score = self._session.run(OUTPUTS, {"image": image[None]})
        self._times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        return anomaly_map[0], float(score[0])
