"""What a person sees of an inspection: the part, its anomaly map as colours, its defects as outlines.

Colours are absolute: they depend on the pixel threshold alone, never on the other pixels of the image, so a good part
stays grey and the same colour means the same value on every part.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Image

FULL_SCALE = 2.0
"""The colour scale ends at this multiple of the pixel threshold."""

_OPACITY = 0.8
_FADE_IN = (0.2, 0.5)  # share of the scale where colour begins to show, and where it is as opaque as it gets
_NOT_A_NUMBER_RGB = (255, 0, 255)
_OUTLINE_RGB = (255, 214, 0)
# Inferno: its brightness grows with the value, so it reads the same with any colour vision.
_PALETTE_RGB: Image = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[0, :, ::-1]
)


def heat_map(image_rgb: Image, anomaly_map: npt.NDArray[np.float32], pixel_threshold: float) -> Image:
    """Blend the anomaly map over the image; at the threshold and above the colour is at its most opaque.

    Args:
        image_rgb: uint8 (H, W, 3).
        anomaly_map: float32 (H, W), zero or more; a pixel that is not finite is painted magenta.
        pixel_threshold: greater than zero, in the map's unit.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    finite = np.isfinite(anomaly_map)
    level = np.clip(np.where(finite, anomaly_map, 0.0) / (FULL_SCALE * pixel_threshold), 0.0, 1.0)
    blended = _blend(image_rgb, level)
    blended[~finite] = _NOT_A_NUMBER_RGB
    return blended


def outline(image_rgb: Image, mask: Image, scale: int = 1, line_px: int = 1) -> Image:
    """Draw the border of every defect in yellow on black, around the defect rather than over it.

    Args:
        image_rgb: uint8 (H, W, 3).
        mask: uint8 (H, W), not zero = defect.
        scale: whole-number enlargement of the result; the border is drawn at the larger size.
        line_px: thickness of the yellow line, in pixels of the mask.

    Returns:
        uint8 (H * scale, W * scale, 3), RGB.
    """
    drawn = enlarge(image_rgb, scale)
    size = (drawn.shape[1], drawn.shape[0])
    share = cv2.resize((mask != 0).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    inside = (share >= 0.5).astype(np.uint8)
    for reach_px, colour in ((line_px + 1, (0, 0, 0)), (line_px, _OUTLINE_RGB)):
        drawn[cv2.dilate(inside, _disc(2 * reach_px * scale + 1)) != inside] = colour
    return drawn


def enlarge(image_rgb: Image, scale: int) -> Image:
    """A smooth copy, `scale` times as wide and high."""
    return np.asarray(cv2.resize(image_rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)


def colour_scale(width_px: int, height_px: int) -> Image:
    """The legend of `heat_map` on mid grey: 0 at the left edge, FULL_SCALE times the threshold at the right.

    Returns:
        uint8 (height_px, width_px, 3), RGB.
    """
    level = np.broadcast_to(np.linspace(0.0, 1.0, width_px), (height_px, width_px))
    return _blend(np.full((height_px, width_px, 3), 110, np.uint8), level)


def _blend(image_rgb: Image, level: npt.NDArray[np.floating]) -> Image:
    """`level` (H, W) in 0..1 along the palette."""
    start, end = _FADE_IN
    opacity = _OPACITY * np.clip((level - start) / (end - start), 0.0, 1.0)[..., None]
    colour = _PALETTE_RGB[(level * 255).round().astype(np.uint8)]
    return np.asarray((image_rgb * (1 - opacity) + colour * opacity).round(), dtype=np.uint8)


def _disc(diameter_px: int) -> Image:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)), dtype=np.uint8)
