"""Whether a frame shows anything that could be judged."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from edge.config import JudgeConfig
from edge.frame import Image


@dataclass(frozen=True, slots=True)
class Quality:
    """Measured on the network's input.

    Attributes:
        brightness: mean grey level, 0..255.
        sharpness: variance of the Laplacian of the grey image (Pech-Pacheco et al., ICPR 2000).
    """

    brightness: float
    sharpness: float


def measure(image_rgb: Image) -> Quality:
    """Quality of a uint8 (H, W, 3) image."""
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return Quality(float(cv2.mean(grey)[0]), float(deviation[0, 0]) ** 2)


def refusal(quality: Quality, limits: JudgeConfig) -> str | None:
    """Why the frame must not be judged, or None."""
    if quality.brightness < limits.dark_below:
        return "black_frame"
    if quality.brightness > limits.bright_above:
        return "saturated_frame"
    return None
