"""JPEGs of inspections, made only when a page asks, and once however many pages ask."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from edge import overlay
from edge.dashboard.page_state import View
from edge.dashboard.scoreboard import Scoreboard
from edge.frame import Image

_SCALE = 3
_THUMBNAIL_LINE_PX = 3  # still to be seen when the thumbnail is shrunk
_KEPT = 96  # the rejected parts of a full strip in every view, and the newest parts


class Pictures:
    """Draws what the scoreboard holds."""

    def __init__(self, scoreboard: Scoreboard, pixel_threshold: float) -> None:
        self._scoreboard = scoreboard
        self._pixel_threshold = pixel_threshold
        self._cached_jpeg = lru_cache(maxsize=_KEPT)(self._jpeg)

    def jpeg(self, result_id: str, view: View) -> bytes | None:
        """One view of an inspection; None when it is not kept or has no such view."""
        try:
            return self._cached_jpeg(result_id, view)
        except LookupError:
            return None

    def _jpeg(self, result_id: str, view: View) -> bytes:
        inspection = self._scoreboard.find(result_id)
        image = inspection.image_rgb if inspection else None
        if inspection is None or image is None:
            raise LookupError(result_id)
        anomaly_map, mask = inspection.anomaly_map, inspection.mask
        if view == "thumbnail":
            return encode(image if mask is None else overlay.outline(image, mask, line_px=_THUMBNAIL_LINE_PX))
        if view == "frame":
            return encode(overlay.enlarge(image, _SCALE))
        if view == "heatmap" and anomaly_map is not None:
            return encode(overlay.enlarge(overlay.heat_map(image, anomaly_map, self._pixel_threshold), _SCALE))
        if view == "outline" and mask is not None:
            return encode(overlay.outline(image, mask, _SCALE))
        raise LookupError(view)


def encode(image_rgb: Image) -> bytes:
    """JPEG with full colour resolution: thin coloured lines stay sharp."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        88,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image_rgb[:, :, ::-1]), options)
    return data.tobytes()
