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
        ValueError: shapes differ, labels that are not bool, or a score that is not finite; names its index.
    """
    if not _both_classes(scores, defective):
        return ImageMetrics(None, None, None, None)
    exact = _as_float64(scores)
    fpr, tpr, thresholds = roc_curve(defective, exact, drop_intermediate=False)
    # Whole counts, so that equal F1 compare equal.
    count = int(defective.sum())
    found = np.rint(tpr * count)
    rejected = found + np.rint(fpr * (len(defective) - count))
    f1 = 2 * found / (rejected + count)
    best = int(np.argmax(f1))
    return ImageMetrics(
        auroc=float(roc_auc_score(defective, exact)),
        ap=float(average_precision_score(defective, exact)),
        f1_max=float(f1[best]),
        f1_threshold=float(thresholds[best]),
    )


def image_roc(scores: npt.NDArray[np.float32], defective: npt.NDArray[np.bool_]) -> Curve | None:
    """The receiver operating characteristic; arguments and errors as for `image_metrics`, None where that has none."""
    if not _both_classes(scores, defective):
        return None
    fpr, tpr, _ = roc_curve(defective, _as_float64(scores))
    return Curve(fpr, tpr)


def _both_classes(scores: npt.NDArray[np.float32], defective: npt.NDArray[np.bool_]) -> bool:
    if scores.ndim != 1 or scores.shape != defective.shape:
        raise ValueError(f"scores {scores.shape} and labels {defective.shape} must both be (N,)")
    if defective.dtype != np.bool_:
        raise ValueError(f"the labels are {defective.dtype}, not bool")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ValueError(f"score of image {bad[0]} is {scores[bad[0]]}, not a finite number")
    return bool(defective.any() and not defective.all())


def _as_float64(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """scikit-learn subtracts scores from each other, which can overflow in single precision."""
    return scores.astype(np.float64)
