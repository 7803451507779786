"""What the grabber process and its parent say to each other over their pipe.

Child to parent: `StateChanged`, `CameraInfo`, `RingGeometry` (followed by the ring's descriptor), `FrameHeader`,
`FramesMissing`, `TriggerFailed`, `SignOfLife`, or an `InputError` that ends it. Parent to child: a trigger's id, or
None to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.cameras.camera import CameraInfo, FramesMissing, StateChanged, TriggerFailed
from edge.cameras.ring import RingGeometry
from edge.cameras.statistics import SignOfLife
from edge.errors import InputError
from edge.pixel_format import PixelFormat

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    Link = Connection[Any, Any]


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """A frame without its samples, which lie in the ring's slot `ring_slot`. Fields as in `edge.frame.Frame`.

    `latency_ns` is that of `CameraStatistics`; None when it is not known.
    """

    ring_slot: int
    shape: tuple[int, ...]
    pixel_format: PixelFormat
    frame_id: int
    trigger_id: int | None
    timestamp_camera_ns: int | None
    received_monotonic_ns: int
    received_utc_ns: int
    exposure_us: float | None
    is_complete: bool
    fault: str
    latency_ns: int | None


GrabberMessage = (
    StateChanged | CameraInfo | RingGeometry | FrameHeader | FramesMissing | TriggerFailed | SignOfLife | InputError
)
