"""The good parts a network is calibrated on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from edge.cameras.folder import SUFFIXES, read_image
from edge.errors import ImageError
from edge.frame import Image, PixelFormat
from edge.manifest import Preprocessing
from edge.preprocess import preprocess

MIN_IMAGES = 8


def read_images(directory: Path, settings: Preprocessing, limit: int | None) -> Image:
    """Network inputs, uint8 (N, H, W, 3), of a directory's images in name order.

    Args:
        directory: every image file in it, not in folders below it.
        settings: the bundle's preprocessing.
        limit: how many at most, spread evenly over the names; None for all.

    Raises:
        ImageError: the directory cannot be read or holds fewer than MIN_IMAGES images, or an image cannot be read or
            has the wrong size.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise ImageError(f"directory '{directory}' cannot be read ({error})", "check --images") from error
    if len(paths) < MIN_IMAGES:
        raise ImageError(
            f"directory '{directory}' holds {len(paths)} images, calibration needs {MIN_IMAGES} at least",
            "put more pictures of good parts there",
        )
    count = min(len(paths), limit or len(paths))
    images = np.empty((count, *settings.input_size_px, 3), np.uint8)
    for index in range(count):
        _read_into(paths[index * len(paths) // count], settings, images[index])
    return images


def images_sha256(images: Image) -> str:
    """Hash over the pixels of a set of images."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def _read_into(path: Path, settings: Preprocessing, out: Image) -> None:
    image = read_image(path)
    try:
        preprocess(image, PixelFormat.MONO8 if image.ndim == 2 else PixelFormat.BGR8, settings, out)
    except ImageError as error:
        raise ImageError(f"image '{path}': {error.problem}", error.remedy) from error
