"""What the images of a configured camera look like, and how they lie in its buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from genicam import gentl

from edge.cameras.features import available_entries, find_feature
from edge.errors import CameraSetupError, ImageError
from edge.frame import Image
from edge.pixel_format import PixelFormat


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """What the camera was configured to deliver; `exposure_us` is None when it does not tell, or changes by itself."""

    width_px: int
    height_px: int
    pixel_format: PixelFormat
    exposure_us: float | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the raw uint8 array, as `PixelFormat.shape` says."""
        return self.pixel_format.shape(self.width_px, self.height_px)


def read_layout(nodes: Any) -> ImageLayout:
    """Read the layout from the camera's features.

    Raises:
        CameraSetupError: the pixel format is not one this program reads, or does not allow the width.
    """
    node = nodes.PixelFormat
    readable = [pixel_format.value for pixel_format in PixelFormat]
    if node.value not in readable:
        usable = [entry for entry in available_entries(node) if entry in readable]
        raise CameraSetupError(
            f"the camera delivers PixelFormat {node.value!r}, which cannot be read",
            f"set PixelFormat in camera.features to one of {', '.join(usable)}" if usable else "use another camera",
        )
    automatic = find_feature(nodes, "ExposureAuto")
    exposure = find_feature(nodes, "ExposureTime")
    changes = automatic is not None and automatic.value != "Off"
    layout = ImageLayout(
        width_px=nodes.Width.value,
        height_px=nodes.Height.value,
        pixel_format=PixelFormat(node.value),
        exposure_us=None if exposure is None or changes else float(exposure.value),
    )
    try:
        layout.pixel_format.row_bytes(layout.width_px)
    except ImageError as error:
        raise CameraSetupError(error.problem, f"in camera.features, {error.remedy}") from error
    return layout


def image_in(buffer: Any, layout: ImageLayout) -> tuple[Image, bool]:
    """The samples of a GenTL buffer, a view of the layout's shape, and whether they are complete.

    The height is the buffer's own, for a camera may deliver fewer lines. A buffer of which too little arrived to know
    its size is read as a whole.
    """
    try:
        height_px, offset_bytes, padding_bytes = buffer.height, buffer.image_offset, buffer.padding_x
        is_complete = bool(buffer.is_complete())
    except gentl.NotAvailableException:
        height_px, offset_bytes, padding_bytes, is_complete = layout.height_px, 0, 0, False
    row_bytes = layout.pixel_format.row_bytes(layout.width_px)
    stride_bytes = row_bytes + padding_bytes
    samples = np.frombuffer(buffer.raw_buffer, np.uint8, height_px * stride_bytes, offset_bytes)
    rows = samples.reshape(height_px, stride_bytes)[:, :row_bytes]
    return rows.reshape(height_px, *layout.shape[1:]), is_complete


def timestamp_ns(buffer: Any) -> int | None:
    """The camera's clock at exposure, None when the producer does not tell."""
    try:
        return int(buffer.timestamp_ns)
    except gentl.GenericException:
        return None
