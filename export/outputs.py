"""What a detector answers to images, from whichever runtime, and how far two answers are apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from edge.engines.ort import OUTPUTS, open_session
from edge.errors import EngineError
from edge.frame import Image
from edge.manifest import Parity
from training.networks.detector import Detector

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
BATCH = 4
ON_THRESHOLD = 1e-6


@dataclass(frozen=True, eq=False)
class Outputs:
    """maps float32 (N,256,256); scores float32 (N,)."""

    maps: Float
    scores: Float


def run_torch(graph: Detector, images: Image, label: str) -> Outputs:
    """PyTorch's answers in float32 on the CPU.

    Args:
        graph: in eval mode.
        images: uint8 (N,256,256,3).
        label: of the progress bar.

    Raises:
        EngineError: a value is not finite.
    """

    def answer(batch: Image) -> tuple[Float, Float]:
        with torch.inference_mode():
            anomaly_map, score = graph(torch.from_numpy(batch))
        return anomaly_map.numpy(), score.numpy()

    return _in_batches(answer, images, label)


def run_onnx(model: Path | bytes, images: Image, label: str, threads: int = 0) -> Outputs:
    """ONNX Runtime's answers on the CPU.

    Args:
        model: a file, or one's content.
        images: uint8 (N,256,256,3).
        label: of the progress bar.
        threads: 0 for one per core.

    Raises:
        EngineError: ONNX Runtime refuses the model, or a value is not finite.
    """
    session = open_session(model, threads)

    def answer(batch: Image) -> tuple[Float, Float]:
        maps, scores = session.run(OUTPUTS, {"image": batch})
        return maps, scores

    return _in_batches(answer, images, label)


def measure_parity(reference: Outputs, other: Outputs, name: str, threshold: float, data_sha256: str) -> Parity:
    """How far one runtime's or precision's answers are from another's.

    Args:
        reference, other: to the same images.
        name: what computed the reference.
        threshold: image score from which a part is NG.
        data_sha256: of the good parts among the images.
    """
    varies = min(np.ptp(reference.scores), np.ptp(other.scores)) > 0
    return Parity(
        reference=name,
        images=len(reference.scores),
        data_sha256=data_sha256,
        map_error=float(np.abs(other.maps - reference.maps).max() / reference.maps.max()),
        score_error=float(np.abs(other.scores / reference.scores - 1).max()),
        score_correlation=float(np.corrcoef(reference.scores, other.scores)[0, 1]) if varies else None,
        threshold=threshold,
        flips=int(changed_verdicts(reference.scores, other.scores, threshold).sum()),
    )


def is_off_threshold(scores: Float, threshold: float) -> Bool:
    """Which scores are not the threshold's own, bool (N,).

    The part that a threshold was fitted to lies on it, where any rounding tips its verdict; new parts hardly ever do.
    """
    return np.asarray(np.abs(scores / threshold - 1) > ON_THRESHOLD)


def changed_verdicts(reference: Float, other: Float, threshold: float) -> Bool:
    """Whose verdict differs, bool (N,), but for the part that the threshold was fitted to by either."""
    are_off = is_off_threshold(reference, threshold) & is_off_threshold(other, threshold)
    return np.asarray(((reference >= threshold) != (other >= threshold)) & are_off)


def _in_batches(answer: Callable[[Image], tuple[Float, Float]], images: Image, label: str) -> Outputs:
    maps = np.empty(images.shape[:3], np.float32)
    scores = np.empty(len(images), np.float32)
    with tqdm(total=len(images), desc=label, unit="image", disable=None, leave=False) as progress:
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            maps[part], scores[part] = answer(images[part])
            progress.update(len(images[part]))
    if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
        raise EngineError(f"{label}: the network gives values that are not numbers", "train again, or on other images")
    return Outputs(maps, scores)
