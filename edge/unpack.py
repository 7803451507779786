"""Raw rows of any storage → the top 8 bits of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Image
from edge.pixel_format import PixelFormat, Storage

# Per storage, where in a group of samples the top 8 bits of each begin: bits counted from the first byte's lowest.
_TOP_BITS = {
    Storage.BITS_10: (2,),
    Storage.BITS_12: (4,),
    Storage.BITS_16: (8,),
    Storage.P_10: (2, 12, 22, 32),
    Storage.P_12: (4, 16),
    Storage.GVSP_10: (0, 16),
    Storage.GVSP_12: (0, 16),
}

# So that a band's planes stay in the cache.
_BAND_ROWS = 256


def unpack(image: Image, pixel_format: PixelFormat) -> Image:
    """The top 8 bits of every sample.

    Args:
        image: raw uint8 array of the shape that `PixelFormat.shape` says; its rows may lie apart.
        pixel_format: how to read it.

    Returns:
        uint8 (H, W), of memory of its own; the image itself when its samples have 8 bits.

    Raises:
        ImageError: the image's shape does not fit its pixel format.
    """
    width_px, height_px = pixel_format.width_px(image.shape), image.shape[0]
    if pixel_format.storage is Storage.BITS_8:
        return image
    starts = _TOP_BITS[pixel_format.storage]
    count = width_px // len(starts)
    groups = image.reshape(height_px, count, image.shape[1] // count)
    samples = np.empty((height_px, count, len(starts)), np.uint8)
    for top in range(0, height_px, _BAND_ROWS):
        planes = cv2.split(groups[top : top + _BAND_ROWS])
        cv2.merge([_eight_bits(planes, start) for start in starts], samples[top : top + _BAND_ROWS])
    return samples.reshape(height_px, width_px)


def _eight_bits(planes: Sequence[npt.NDArray[Any]], start: int) -> npt.NDArray[Any]:
    index, shift = divmod(start, 8)
    if shift == 0:
        return planes[index]
    bits = planes[index] >> shift
    bits |= planes[index + 1] << (8 - shift)
    return bits
