"""Image and mask files at the network's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.folder import read_samples
from edge.errors import ImageError
from edge.frame import Image
from edge.pixel_format import PixelFormat
from edge.preprocess import crop, preprocess
from training.data.settings import INPUT_SIZE_PX, DataSettings

Roi = tuple[int, int, int, int] | None


def to_uint8(samples: npt.NDArray[Any], white_level: float | None) -> Image:
    """Samples of any type on the scale 0..255, where `white_level` and above become 255, negative ones 0.

    Integers are rounded down, as `edge.cameras.folder` does with 16 bits; floating point is rounded to nearest.

    Raises:
        ImageError: a sample is not a number, the type's white level has to be given, or the type cannot reach it.
    """
    is_float = np.issubdtype(samples.dtype, np.floating)
    if is_float and np.isnan(samples).any():
        raise ImageError("a sample is not a number (NaN)", "replace the image")
    if white_level is None:
        white_level = {"uint8": 255.0, "uint16": 65535.0}.get(samples.dtype.name, 1.0 if is_float else None)
    if white_level is None:
        raise ImageError(f"what is white is unknown for samples of type {samples.dtype}", "set white_level")
    if not is_float and white_level > np.iinfo(samples.dtype).max:
        raise ImageError(f"{samples.dtype} samples never reach white_level {white_level:g}", "lower white_level")
    if samples.dtype == np.uint8 and white_level == 255:
        return samples
    if samples.dtype == np.uint16 and samples.size > 65536:
        # By table: a large image is converted many times faster.
        return np.take(to_uint8(np.arange(65536, dtype=np.uint16), white_level), samples)
    scaled = np.clip(samples.astype(np.float64), 0, white_level) * 255 / white_level
    return (np.rint(scaled) if is_float else np.floor(scaled)).astype(np.uint8)


def read_input(path: Path, settings: DataSettings, ignore_mask: Image | None) -> tuple[Image, tuple[int, int]]:
    """An image file as the network sees it, and the file's own height and width in pixels.

    Args:
        path: any file that OpenCV reads; grey, colour, with or without alpha.
        settings: how to read it.
        ignore_mask: what `read_ignore_mask` returned; the image must be of its size.

    Returns:
        uint8 (256, 256, 3) RGB, and (height, width).

    Raises:
        ImageError: the file cannot be read, does not suit the settings, or is not of the mask's size.
    """
    samples = read_samples(path)
    out = np.empty((*INPUT_SIZE_PX, 3), np.uint8)
    try:
        image = to_uint8(samples, settings.white_level)
        preprocess(image, PixelFormat.MONO8 if image.ndim == 2 else PixelFormat.BGR8, settings.preprocessing, out)
    except ImageError as error:
        raise ImageError(f"image '{path}': {error.problem}", error.remedy) from error
    size_px = (image.shape[0], image.shape[1])
    if ignore_mask is not None:
        _check_size(path, size_px, ignore_mask.shape, f"ignore_mask '{settings.ignore_mask}'")
    return out, size_px


def read_ignore_mask(settings: DataSettings) -> Image | None:
    """What is not judged, uint8 0 or 1 of the whole image's size; None without an ignore_mask.

    Raises:
        ImageError: the file cannot be read.
    """
    return None if settings.ignore_mask is None else _read_binary(settings.ignore_mask)


def ignored_cells(ignore_mask: Image, roi_xywh: Roi) -> npt.NDArray[np.bool_]:
    """Cells of the network's input that overlap, however little, with a pixel that is not judged; bool (256, 256).

    Args:
        ignore_mask: uint8 (H, W) of the whole image's size; not judged where it is not 0.
        roi_xywh: the region of interest the cells divide.

    Raises:
        ImageError: the region does not lie inside the mask.
    """
    sums = cv2.integral(np.asarray(crop(ignore_mask, roi_xywh) != 0, dtype=np.uint8))
    top, bottom = _bounds(sums.shape[0] - 1, INPUT_SIZE_PX[0])
    left, right = _bounds(sums.shape[1] - 1, INPUT_SIZE_PX[1])
    above, below = sums[top], sums[bottom]
    return np.asarray(below[:, right] - below[:, left] > above[:, right] - above[:, left])


def read_gt_mask(paths: Sequence[Path], image_size_px: tuple[int, int], roi_xywh: Roi) -> Image:
    """The union of mask files, 1 where any of them is above 0; uint8 (h, w) of the region of interest.

    Args:
        paths: mask files; all zeros when empty.
        image_size_px: height and width of the whole image, which every mask must have.
        roi_xywh: what is cut out, at the masks' resolution.

    Raises:
        ImageError: a mask cannot be read or is not of the image's size.
    """
    union = np.zeros(image_size_px, np.uint8)
    for path in paths:
        mask = _read_binary(path)
        _check_size(path, (mask.shape[0], mask.shape[1]), image_size_px, "its image")
        union |= mask
    return crop(union, roi_xywh)


def _bounds(length_px: int, cells: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First pixel, and the one after the last, that each of the cells overlaps; int64 (cells,) each."""
    cell = np.arange(cells, dtype=np.int64)
    return cell * length_px // cells, -(-(cell + 1) * length_px // cells)


def _read_binary(path: Path) -> Image:
    above = read_samples(path) > 0
    return np.asarray(above if above.ndim == 2 else above.any(axis=2), dtype=np.uint8)


def _check_size(path: Path, size_px: tuple[int, ...], other_px: tuple[int, ...], other: str) -> None:
    if size_px != other_px:
        raise ImageError(
            f"'{path}' is {size_px[1]}x{size_px[0]}, {other} is {other_px[1]}x{other_px[0]}",
            "both must be of one size",
        )
