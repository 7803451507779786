"""What the images of a configured camera look like, and how they lie in its buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genicam import gentl

from edge.cameras.features import available_entries, find_feature
from edge.cameras.marks import has_marks, memory_of
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


def image_in(buffer: Any, layout: ImageLayout) -> tuple[Image, str]:
    """The samples of a GenTL buffer, a view of the layout's shape, and what is wrong with them: empty for nothing.

    The height is the buffer's own, for a camera may deliver fewer lines. A buffer of which too little arrived to know
    its size, or whose image has another size than the camera was configured to, is read as if it had the right one.

    Returns:
        uint8 of the layout's shape but for the height, and one of "incomplete_frame" (says the transport layer),
        "wrong_payload_size", "torn_frame" (a part of the buffer was not written), "".
    """
    row_bytes = layout.pixel_format.row_bytes(layout.width_px)
    height_px, offset_bytes, stride_bytes, fault = layout.height_px, 0, row_bytes, ""
    memory = memory_of(buffer)
    try:
        told_px, told_offset_bytes, told_stride_bytes = buffer.height, buffer.image_offset, row_bytes + buffer.padding_x
        end_bytes = told_offset_bytes + told_px * told_stride_bytes
        if not buffer.is_complete():
            fault = "incomplete_frame"
        if buffer.width != layout.width_px or told_px > layout.height_px or end_bytes > len(memory):
            fault = "wrong_payload_size"
        else:
            height_px, offset_bytes, stride_bytes = told_px, told_offset_bytes, told_stride_bytes
            if not fault:
                # What lies before the image or between its rows may never be written.
                is_whole = told_offset_bytes == 0 and told_stride_bytes == row_bytes
                fault = _silent_fault(buffer, end_bytes - buffer.padding_x, memory[: end_bytes if is_whole else 0])
    except gentl.NotAvailableException:
        fault = "incomplete_frame"
    height_px = min(height_px, (len(memory) - offset_bytes) // stride_bytes)
    rows = memory[offset_bytes : offset_bytes + height_px * stride_bytes].reshape(height_px, stride_bytes)
    return rows[:, :row_bytes].reshape(height_px, *layout.shape[1:]), fault


def _silent_fault(buffer: Any, least_bytes: int, image_memory: Image) -> str:
    """What is wrong with an image that the transport layer calls complete."""
    try:
        is_size_right = buffer.size_filled >= least_bytes and not buffer.has_received_larger_payload()
    except gentl.GenericException:  # not every producer tells
        is_size_right = True
    if not is_size_right:
        return "wrong_payload_size"
    return "torn_frame" if has_marks(image_memory) else ""
