"""One image as the camera delivered it, with everything needed to judge whether it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.pixel_format import PixelFormat

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame and where it came from.

    The image may be a view into a camera's ring: it stays valid until the frame is released to that camera.

    Attributes:
        image: uint8, of the shape that `PixelFormat.shape` says.
        pixel_format: how the samples are to be read.
        frame_id: the camera's own counter; 0 when it was lost with a part of the frame.
        trigger_id: the software trigger it answers; None when the camera was triggered otherwise.
        timestamp_camera_ns: the camera's clock, None when it has none.
        received_monotonic_ns: `time.monotonic_ns()` when the host had the frame.
        received_utc_ns: `time.time_ns()` at the same moment.
        exposure_us: exposure time, None when the camera does not tell.
        is_complete: False when the transport lost part of it.
        ring_slot: the place to give back in `Camera.release`; -1 when there is none.
        fault: why it must not be judged, a short identifier; empty for a sound frame.
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
    fault: str = ""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixel_format.width_px(self.image.shape), self.image.shape[0]
