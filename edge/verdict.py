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

TILE_PX = 16


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


def tiles(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a map's tiles."""
    return -(-size_hw[0] // TILE_PX), -(-size_hw[1] // TILE_PX)


def tile_maxima(anomaly_map: AnomalyMap) -> AnomalyMap:
    """Maximum of every tile of TILE_PX by TILE_PX map pixels, float32 (rows, columns); NaN where a tile holds one."""
    rows, columns = (np.arange(0, length, TILE_PX) for length in anomaly_map.shape)
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(anomaly_map, columns, axis=1), rows, axis=0))


def is_defective(score: float, maxima: AnomalyMap, limits: Limits) -> bool:
    """Whether a part is NG.

    Args:
        score: the image score; NG from the image threshold upwards.
        maxima: of the map's tiles.
        limits: thresholds.

    Raises:
        ValueError: the score or the map is not finite, so there is nothing to decide on.
    """
    if not (np.isfinite(score) and np.isfinite(maxima).all()):
        raise ValueError("the network's output is not finite")
    return score >= limits.image_threshold


def judge(score: float, maxima: AnomalyMap, anomaly_map: AnomalyMap, above: Image, limits: Limits) -> Judgement:
    """Decide on one part.

    Args:
        score: the image score.
        maxima: of the map's tiles.
        anomaly_map: float32 (H, W); looked at only when the part is NG.
        above: uint8 (H, W), 1 where the map reaches the pixel threshold; looked at only when the part is NG.
        limits: thresholds and smallest area.

    Raises:
        ValueError: as for `is_defective`.
    """
    if not is_defective(score, maxima, limits):
        return Judgement("OK", score, (), np.zeros(above.shape, np.uint8))
    defects, mask = find_defects(anomaly_map, above, limits.min_area_px)
    return Judgement("NG", score, defects, mask)


def find_defects(anomaly_map: AnomalyMap, above: Image, min_area_px: int) -> tuple[tuple[Defect, ...], Image]:
    """Connected regions of `above`, uint8 (H, W), and the mask that holds exactly those that are large enough."""
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(above, connectivity=8)
    mask = np.zeros_like(above)
    defects = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area < min_area_px:
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
