"""The good parts a network is calibrated on, or its thresholds are fitted to."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge.errors import ImageError
from edge.frame import Image
from edge.manifest import Preprocessing
from training.data.images import read_input
from training.data.layouts import find_layout, train_images
from training.data.settings import INPUT_SIZE_PX, DataSettings
from training.image_sets import evenly

MIN_IMAGES = 8

_log = logging.getLogger(__name__)


def read_images(directory: Path, settings: Preprocessing, limit: int | None) -> Image:
    """Network inputs, uint8 (N, 256, 256, 3), of good parts in name order.

    Images whose size is not that of most are taken all the same, and told of in a warning.

    Args:
        directory: of images, without those in folders below it; or of a product, of which the good parts to train on
            are taken (`training.data.layouts`).
        settings: the bundle's preprocessing.
        limit: how many at most, spread evenly over the names; None for all.

    Raises:
        ImageError: the directory cannot be read or holds fewer than MIN_IMAGES images, or an image cannot be read or
            does not suit the settings.
    """
    paths = train_images(find_layout(directory))
    if len(paths) < MIN_IMAGES:
        raise ImageError(
            f"directory '{directory}' holds {len(paths)} images of good parts, {MIN_IMAGES} are needed at least",
            "put more pictures of good parts there",
        )
    chosen = [paths[index] for index in evenly(len(paths), limit or len(paths))]
    reading, sizes_px = data_settings(settings), Counter[tuple[int, int]]()
    images = np.empty((len(chosen), *INPUT_SIZE_PX, 3), np.uint8)
    for index, path in enumerate(tqdm(chosen, "images", unit="image", leave=False, disable=None)):
        images[index], size_px = read_input(path, reading, None)
        sizes_px[size_px] += 1
    _warn_of_sizes(directory, sizes_px)
    return images


def data_settings(settings: Preprocessing) -> DataSettings:
    """How to read image files so that they become what the bundle's network sees."""
    return DataSettings(roi_xywh=settings.roi_xywh, white_level=settings.white_level)


def _warn_of_sizes(directory: Path, sizes_px: Counter[tuple[int, int]]) -> None:
    (usual, usual_count), *others = sizes_px.most_common()
    if others:
        total, odd = sizes_px.total(), ", ".join(f"{width}x{height}" for (height, width), _ in others)
        _log.warning(
            "%d of %d images in '%s' are not %dx%d but %s: resized like the others",
            *(total - usual_count, total, directory, usual[1], usual[0], odd),
        )
