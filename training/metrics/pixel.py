"""Pixel and region figures over all test pixels of a product, exact: every distinct score is a threshold.

scikit-learn defines AUROC, average precision and F1, but would sort tens of millions of pixels once for each. Here one
sort serves all five figures; tests hold it equal to scikit-learn to 1e-9, and AUPRO to a brute-force reference.

Between two scores that occur on defects only the false positives grow: ROC and PRO run level, average precision gains
nothing, F1 falls. So the thresholds at which defect pixels are found carry the whole of every curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.metrics.curve import Curve

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """Figures in 0..1; all None where there are not both defect pixels and defect-free ones.

    Attributes:
        auroc: area under the receiver operating characteristic.
        ap: average precision, the step-wise sum as in scikit-learn.
        f1_max: largest F1 over all thresholds, a pixel being marked from the threshold upwards.
        f1_threshold: the highest score that reaches it.
        aupro_30: mean over the defect regions of the share marked, averaged over false-positive rates 0..0.3
            (Bergmann et al., "Uninformed Students", CVPR 2020).
        aupro_05: the same over 0..0.05.
    """

    auroc: float | None
    ap: float | None
    f1_max: float | None
    f1_threshold: float | None
    aupro_30: float | None
    aupro_05: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PixelCurves:
    """For plots, at most 1000 points each: `roc` over pixels, `pro` over regions."""

    roc: Curve
    pro: Curve


def pixel_metrics(
    maps: Iterable[Map], masks: Sequence[Mask], counted: npt.NDArray[np.bool_] | None = None
) -> tuple[PixelMetrics, PixelCurves | None]:
    """Figures and curves of anomaly maps; takes about 12 bytes per pixel and 170 more per defect pixel.

    Args:
        maps: one per image, float32 (H,W), higher is more anomalous; sizes may differ between images. Each is taken
            when its turn comes, once.
        masks: ground truth of each image, uint8 or bool (H,W), defect where > 0. 8-connected defect pixels are one
            region. An image without any counts as defect-free pixels.
        counted: bool (H,W), what counts of every image, the rest being neither defect nor defect-free; None for all.

    Returns:
        The figures, and the curves where there are figures.

    Raises:
        ValueError: counts, sizes or types do not fit, or a map holds a value that is not finite; names the image.
    """
    ranked, weights = _ranked_pixels(maps, masks, counted)
    hits = np.flatnonzero(ranked[:, 0])
    defects, good = len(hits), len(ranked) - len(hits)
    if not defects or not good:
        return PixelMetrics(None, None, None, None, None, None), None
    keys = np.ascontiguousarray(ranked[:, 1])
    overlap = np.append(0.0, np.cumsum(weights[ranked[hits, 0]]))

    hit_keys = keys[hits]
    found = np.flatnonzero(np.append(hit_keys[1:] != hit_keys[:-1], True)) + 1
    marked = hits[found - 1] + 1  # of pixels with one score, those of defects are the last
    levels = hit_keys[found - 1]
    found_before = np.append(0, found[:-1])
    marked_before = np.searchsorted(keys, levels)

    # Pixels with one score are marked together, so the curves go straight from before them to after them.
    corners_found = np.r_[0, np.stack([found_before, found], axis=1).ravel(), defects]
    corners_marked = np.r_[0, np.stack([marked_before, marked], axis=1).ravel(), len(keys)]
    fpr = (corners_marked - corners_found) / good
    roc, pro = Curve(fpr, corners_found / defects), Curve(fpr, overlap[corners_found])

    f1 = 2 * found / (marked + defects)
    best = int(np.argmax(f1))
    metrics = PixelMetrics(
        auroc=roc.mean_height(),
        ap=float(np.sum((found - found_before) / defects * (found / marked))),
        f1_max=float(f1[best]),
        f1_threshold=float(_scores(levels[best : best + 1])[0]),
        aupro_30=pro.mean_height(0.3),
        aupro_05=pro.mean_height(0.05),
    )
    return metrics, PixelCurves(roc.thinned(), pro.thinned())


def _ranked_pixels(
    maps: Iterable[Map], masks: Sequence[Mask], counted: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
    """All pixels by descending score, then region: (P,2) of region number and key; the weight of each region's pixels.

    Region 0 is what is free of defects.
    """
    # One 64-bit number per pixel, score above region, sorts in place; an argsort would need more time and memory.
    sizes_px = [mask.size if counted is None else np.count_nonzero(counted) for mask in masks]
    packed = np.empty(sum(sizes_px), dtype="<u8")
    fields = packed.view("<u4").reshape(-1, 2)
    areas_px = [np.zeros(1, dtype=np.int64)]
    start = regions = 0
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        _check(index, anomaly_map, mask, counted)
        defect = mask > 0 if counted is None else (mask > 0) & counted
        count, labels = cv2.connectedComponents(defect.astype(np.uint8), connectivity=8)
        areas_px.append(np.bincount(labels.ravel(), minlength=count)[1:])
        labels[labels > 0] += regions
        regions += count - 1
        stop = start + sizes_px[index]
        fields[start:stop, 0] = labels.ravel() if counted is None else labels[counted]
        fields[start:stop, 1] = _keys(anomaly_map.ravel() if counted is None else anomaly_map[counted])
        start = stop
    packed.sort()
    area_px = np.concatenate(areas_px)
    area_px[0] = 1
    return fields, 1 / (area_px * max(1, regions))


def _check(index: int, anomaly_map: Map, mask: Mask, counted: npt.NDArray[np.bool_] | None) -> None:
    if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape or not anomaly_map.size:
        raise ValueError(f"image {index}: map {anomaly_map.shape} and mask {mask.shape} must both be (H,W)")
    if counted is not None and counted.shape != mask.shape:
        raise ValueError(f"image {index}: mask {mask.shape} but counted {counted.shape}")
    if anomaly_map.dtype != np.float32:
        raise ValueError(f"image {index}: the map is {anomaly_map.dtype}, not float32")
    if not np.isfinite(anomaly_map).all():
        raise ValueError(f"image {index}: the map holds values that are not finite")


def _keys(scores: Map) -> npt.NDArray[np.uint32]:
    """Unsigned integers that ascend as the scores descend, and are equal where they are equal."""
    bits = (scores + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0
    return _flipped_where_positive(bits)


def _scores(keys: npt.NDArray[np.uint32]) -> Map:
    """What `_keys` was made from."""
    return _flipped_where_positive(keys).view(np.float32)


def _flipped_where_positive(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """IEEE 754 orders the bits of negative numbers downwards already; those of the others are turned round."""
    flipped: npt.NDArray[np.uint32] = np.where(bits >> 31 == 1, bits, bits ^ np.uint32(0x7FFFFFFF))
    return flipped
