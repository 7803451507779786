"""Image figures: how well one score per image tells defective parts from good ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from training.metrics.curve import Curve


@dataclass(frozen=True, slots=True)
class ImageMetrics:
    """Figures in 0..1; all None where there are not both good and defective images.

    Attributes:
        auroc: area under the receiver operating characteristic.
        ap: average precision, the step-wise sum as in scikit-learn.
        f1_max: largest F1 over all thresholds, an image being rejected from the threshold upwards.
        f1_threshold: the highest score that reaches it.
    """

    auroc: float | None
    ap: float | None
    f1_max: float | None
    f1_threshold: float | None


def image_metrics(scores: npt.NDArray[np.float32], defective: npt.NDArray[np.bool_]) -> ImageMetrics:
    """Figures of scored images.

    Args:
        scores: float32 (N,), higher is more anomalous.
        defective: bool (N,).

    Raises:
        ValueError: shapes differ, or a score is not finite; names its index.
    """
    if not _both_classes(scores, defective):
        return ImageMetrics(None, None, None, None)
    fpr, tpr, thresholds = roc_curve(defective, scores.astype(np.float64), drop_intermediate=False)
    # Whole counts, so that equal F1 compare equal.
    found = np.rint(tpr * defective.sum())
    rejected = found + np.rint(fpr * (~defective).sum())
    f1 = 2 * found / (rejected + defective.sum())
    best = int(np.argmax(f1))
    return ImageMetrics(
        auroc=float(roc_auc_score(defective, scores.astype(np.float64))),
        ap=float(average_precision_score(defective, scores.astype(np.float64))),
        f1_max=float(f1[best]),
        f1_threshold=float(thresholds[best]),
    )


def image_roc(scores: npt.NDArray[np.float32], defective: npt.NDArray[np.bool_]) -> Curve | None:
    """The receiver operating characteristic; arguments and errors as for `image_metrics`, None where that has none."""
    if not _both_classes(scores, defective):
        return None
    fpr, tpr, _ = roc_curve(defective, scores.astype(np.float64))
    return Curve(fpr, tpr)


def _both_classes(scores: npt.NDArray[np.float32], defective: npt.NDArray[np.bool_]) -> bool:
    if scores.ndim != 1 or scores.shape != defective.shape:
        raise ValueError(f"scores {scores.shape} and labels {defective.shape} must both be (N,)")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ValueError(f"score of image {bad[0]} is {scores[bad[0]]}, not a finite number")
    return bool(defective.any() and not defective.all())
