"""Raw camera frame → network input, on the host.

The only definition of how a frame is cropped, demosaiced and resized: training, export and the station all call it.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.errors import ImageError
from edge.frame import Image
from edge.manifest import Preprocessing
from edge.pixel_format import Colour, PixelFormat
from edge.unpack import unpack

# OpenCV names a Bayer pattern after the second row's second and third pixel: its "BayerBG" is PFNC's BayerRG.
_TO_RGB = {
    Colour.MONO: cv2.COLOR_GRAY2RGB,
    Colour.BAYER_RG: cv2.COLOR_BayerBG2RGB,
    Colour.BAYER_GR: cv2.COLOR_BayerGB2RGB,
    Colour.BAYER_GB: cv2.COLOR_BayerGR2RGB,
    Colour.BAYER_BG: cv2.COLOR_BayerRG2RGB,
    Colour.BGR: cv2.COLOR_BGR2RGB,
    Colour.RGBA: cv2.COLOR_RGBA2RGB,
    Colour.YCBYCR: cv2.COLOR_YCrCb2RGB,
}

# A smaller image has no pixel with all its neighbours, and OpenCV would make it black.
_BAYER_SIDE_PX = 3


def check_size(size_wh: tuple[int, int], pixel_format: PixelFormat) -> None:
    """Whether a raw image of that size shows something.

    Raises:
        ImageError: its width does not fit its pixel format, it has no rows, or too few for a Bayer pattern.
    """
    width_px, height_px = size_wh
    pixel_format.row_bytes(width_px)
    is_bayer = Colour.BAYER_RG <= pixel_format.colour <= Colour.BAYER_BG
    least_px = _BAYER_SIDE_PX if is_bayer else 1
    if min(width_px, height_px) < least_px:
        raise ImageError(
            f"an image of {width_px}x{height_px} pixels is too small for {pixel_format.value}",
            f"set the camera to {least_px}x{least_px} pixels at least",
        )


def to_rgb(image: Image, pixel_format: PixelFormat) -> Image:
    """A raw image to RGB (H, W, 3); one in RGB8 is returned as it is.

    Args:
        image: raw uint8 array of the shape that `PixelFormat.shape` says; its rows may lie apart.
        pixel_format: how to read it.

    Raises:
        ImageError: the image's shape does not fit its pixel format, or it is too small for a Bayer pattern.
    """
    check_size((pixel_format.width_px(image.shape), image.shape[0]), pixel_format)
    samples = unpack(image, pixel_format)
    if pixel_format.colour is Colour.RGB:
        return samples
    if pixel_format.colour is Colour.YCBYCR:
        samples = _ycrcb(samples)
    return np.asarray(cv2.cvtColor(samples, _TO_RGB[pixel_format.colour]), dtype=np.uint8)


def _ycrcb(samples: Image) -> Image:
    """Pairs Y0 Cb Y1 Cr, (H, 2 W), to (H, W, 3) in OpenCV's order Y Cr Cb, both pixels with the pair's chroma."""
    y0, cb, y1, cr = cv2.split(samples.reshape(len(samples), -1, 4))
    return np.asarray(cv2.merge([y0, cr, cb, y1, cr, cb]), dtype=np.uint8).reshape(len(samples), -1, 3)


def preprocess(image: Image, pixel_format: PixelFormat, settings: Preprocessing, out: Image) -> None:
    """Write the network's input for one raw frame into `out`.

    Args:
        image: raw uint8 array of the shape that `PixelFormat.shape` says; its rows may lie apart.
        pixel_format: how to read it.
        settings: the bundle's preprocessing.
        out: uint8 (h, w, 3), RGB, filled in place.

    Raises:
        ImageError: the image's shape does not fit its pixel format, or the region of interest does not lie inside it.
    """
    height_px, width_px = settings.input_size_px
    rgb = crop(to_rgb(image, pixel_format), settings.roi_xywh)
    if rgb.shape[:2] == (height_px, width_px):
        np.copyto(out, rgb)
        return
    shrinks = rgb.shape[0] >= height_px and rgb.shape[1] >= width_px
    cv2.resize(rgb, (width_px, height_px), dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def crop(image: Image, roi_xywh: tuple[int, int, int, int] | None) -> Image:
    """The region of interest of an image or mask, uint8 (H, W) or (H, W, C), as a view; all of it when None.

    Raises:
        ImageError: the region does not lie inside the image.
    """
    x, y, width, height = region((image.shape[1], image.shape[0]), roi_xywh)
    return image[y : y + height, x : x + width]


def region(size_wh: tuple[int, int], roi_xywh: tuple[int, int, int, int] | None) -> tuple[int, int, int, int]:
    """The region of interest of an image of that size; all of it when None.

    Raises:
        ImageError: the region does not lie inside the image.
    """
    if roi_xywh is None:
        return 0, 0, *size_wh
    x, y, width, height = roi_xywh
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > size_wh[0] or y + height > size_wh[1]:
        raise ImageError(
            f"region of interest {roi_xywh} does not lie inside the {size_wh[0]}x{size_wh[1]} image",
            "choose a region inside, or set the camera to the size that the region was chosen for",
        )
    return roi_xywh
