"""From an anomaly map to a decision and its defects. Pure functions.

A part is NG when its score reaches the image threshold. Where it is defective is read off the map with the pixel
threshold, 8-connected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Image

AnomalyMap = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of one bundle and the operator's smallest area."""

    image_threshold: float
    pixel_threshold: float
    min_area_px: int


@dataclass(frozen=True, slots=True)
class Defect:
    """One connected region above the pixel threshold, in map pixels.

    Attributes:
        bbox_xywh: smallest box around it.
        area_px: its pixels.
        area_frac: its share of the map, 0..1.
        score_max: highest map value inside.
        peak_xy: where that value is.
        centroid_xy: mean position of its pixels.
    """

    bbox_xywh: tuple[int, int, int, int]
    area_px: int
    area_frac: float
    score_max: float
    peak_xy: tuple[int, int]
    centroid_xy: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision on one part. `defects` in descending order of `score_max`; `mask` uint8 (H, W), 1 = defect."""

    verdict: Literal["OK", "NG"]
    score: float
    defects: tuple[Defect, ...]
    mask: Image


def judge(anomaly_map: AnomalyMap, score: float, limits: Limits) -> Judgement:
    """Decide on one part.

    Args:
        anomaly_map: float32 (H, W).
        score: the image score; NG from the image threshold upwards.
        limits: thresholds and smallest area.

    Raises:
        ValueError: the score or the map is not finite, so there is nothing to decide on.
    """
    if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
        raise ValueError("the network's output is not finite")
    if score < limits.image_threshold:
        return Judgement("OK", score, (), np.zeros(anomaly_map.shape, np.uint8))
    defects, mask = find_defects(anomaly_map, limits)
    return Judgement("NG", score, defects, mask)


def find_defects(anomaly_map: AnomalyMap, limits: Limits) -> tuple[tuple[Defect, ...], Image]:
    """Connected regions at or above the pixel threshold and the mask that holds exactly them."""
    above = (anomaly_map >= limits.pixel_threshold).astype(np.uint8)
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(above, connectivity=8)
    mask = np.zeros_like(above)
    defects = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area < limits.min_area_px:
            continue
        window = np.s_[y : y + height, x : x + width]
        inside = labels[window] == label
        mask[window] |= inside
        values = np.where(inside, anomaly_map[window], -np.inf)
        peak_y, peak_x = np.unravel_index(int(values.argmax()), values.shape)
        defects.append(
            Defect(
                bbox_xywh=(x, y, width, height),
                area_px=area,
                area_frac=area / above.size,
                score_max=float(values[peak_y, peak_x]),
                peak_xy=(x + int(peak_x), y + int(peak_y)),
                centroid_xy=(float(centroids[label][0]), float(centroids[label][1])),
            )
        )
    defects.sort(key=lambda defect: -defect.score_max)
    return tuple(defects), mask
