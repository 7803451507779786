"""Whether a frame shows anything that could be judged."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import JudgeConfig
from edge.frame import Image

QualitySums = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Measured on the network's input.

    Attributes:
        brightness: mean grey level, 0..255.
        sharpness: variance of the Laplacian of the grey image (Pech-Pacheco et al., ICPR 2000).
    """

    brightness: float
    sharpness: float


def sum_up(image_rgb: Image, out: QualitySums) -> None:
    """Sums over a uint8 (H, W, 3) image: of its grey levels, of the grey image's Laplacian, and of that squared.

    Args:
        image_rgb: what the network saw.
        out: int64 (3,), filled in place; whole numbers, so that every device comes to the same.
    """
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    laplacian = np.asarray(cv2.Laplacian(grey, cv2.CV_16S), np.int64).ravel()
    out[:] = grey.sum(dtype=np.int64), laplacian.sum(), laplacian @ laplacian


def quality_of(sums: QualitySums, pixels: int) -> Quality:
    """Quality of an image of so many pixels, from its sums."""
    grey, laplacian, squares = (int(value) / pixels for value in sums)
    return Quality(grey, squares - laplacian**2)


def refusal(quality: Quality, limits: JudgeConfig) -> str | None:
    """Why the frame must not be judged, or None."""
    if quality.brightness < limits.dark_below:
        return "black_frame"
    if quality.brightness > limits.bright_above:
        return "saturated_frame"
    return None
