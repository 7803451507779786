"""One image as the camera delivered it, with everything needed to judge whether it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


class PixelFormat(str, Enum):
    """Pixel formats by their GenICam PFNC names."""

    MONO8 = "Mono8"
    BAYER_RG8 = "BayerRG8"
    RGB8 = "RGB8"
    BGR8 = "BGR8"
    RGBA8 = "RGBa8"

    @property
    def channels(self) -> int:
        """Samples per pixel in the raw image: 1, 3 or 4."""
        return {PixelFormat.RGB8: 3, PixelFormat.BGR8: 3, PixelFormat.RGBA8: 4}.get(self, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame and where it came from.

    The image may be a view into a camera's ring: it stays valid until the frame is released to that camera.

    Attributes:
        image: uint8, (H, W) for one channel, else (H, W, C).
        pixel_format: how the samples are to be read.
        frame_id: the camera's own counter.
        trigger_id: the software trigger it answers; None when the camera was triggered otherwise.
        timestamp_camera_ns: the camera's clock, None when it has none.
        received_monotonic_ns: `time.monotonic_ns()` when the host had the frame.
        received_utc_ns: `time.time_ns()` at the same moment.
        exposure_us: exposure time, None when the camera does not tell.
        is_complete: False when the transport lost part of it.
        ring_slot: the place to give back in `Camera.release`; -1 when there is none.
    """

    image: Image
    pixel_format: PixelFormat
    frame_id: int
    trigger_id: int | None
    timestamp_camera_ns: int | None
    received_monotonic_ns: int
    received_utc_ns: int
    exposure_us: float | None
    is_complete: bool
    ring_slot: int = -1
