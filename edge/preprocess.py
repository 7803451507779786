"""Raw camera frame → network input, on the host.

The only definition of how a frame is cropped, demosaiced and resized: training, export and the station all call it.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.errors import ImageError
from edge.frame import Image
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat

# OpenCV names a Bayer pattern after the second row's second and third pixel: its "BayerBG" is PFNC's BayerRG.
_TO_RGB = {
    PixelFormat.MONO8: cv2.COLOR_GRAY2RGB,
    PixelFormat.BAYER_RG8: cv2.COLOR_BayerBG2RGB,
    PixelFormat.BGR8: cv2.COLOR_BGR2RGB,
    PixelFormat.RGBA8: cv2.COLOR_RGBA2RGB,
}


def to_rgb(image: Image, pixel_format: PixelFormat) -> Image:
    """Raw uint8 samples, (H, W) or (H, W, C), to RGB (H, W, 3); an RGB image is returned as it is."""
    if pixel_format is PixelFormat.RGB8:
        return image
    return np.asarray(cv2.cvtColor(image, _TO_RGB[pixel_format]), dtype=np.uint8)


def preprocess(image: Image, pixel_format: PixelFormat, settings: Preprocessing, out: Image) -> None:
    """Write the network's input for one raw frame into `out`.

    Args:
        image: uint8 (H, W) or (H, W, C) as the pixel format says.
        pixel_format: how to read it.
        settings: the bundle's preprocessing.
        out: uint8 (h, w, 3), RGB, filled in place.

    Raises:
        ImageError: the region of interest does not lie inside the image.
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
    if roi_xywh is None:
        return image
    x, y, width, height = roi_xywh
    if x < 0 or y < 0 or width < 1 or height < 1 or y + height > image.shape[0] or x + width > image.shape[1]:
        raise ImageError(
            f"region of interest {roi_xywh} does not lie inside the {image.shape[1]}x{image.shape[0]} image",
            "choose a region inside, or set the camera to the size that the region was chosen for",
        )
    return image[y : y + height, x : x + width]
