"""The Camera protocol: what the pipeline asks of anything that delivers frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from edge.cameras.statistics import CameraStatistics
from edge.frame import Frame, Image


class CameraState(str, Enum):
    """Where a camera is between absent and streaming."""

    DISCOVER = "Discover"
    OPEN = "Open"
    CONFIGURE = "Configure"
    STREAM = "Stream"
    LOST = "Lost"
    BACKOFF = "Backoff"


@dataclass(frozen=True, slots=True)
class FrameArrived:
    """A frame; the receiver owns it until it calls `Camera.release`."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class FramesMissing:
    """A gap in the frame ids: `count` frames were lost on their way, or found every slot of the ring in use."""

    count: int
    first_frame_id: int


@dataclass(frozen=True, slots=True)
class TriggerFailed:
    """A software trigger that will never get a frame."""

    trigger_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The camera moved to another state; `reason` is for a person."""

    state: CameraState
    reason: str


CameraEvent = FrameArrived | FramesMissing | TriggerFailed | StateChanged


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """Which camera it is; empty strings where the device does not tell."""

    serial: str
    user_id: str
    vendor: str
    model: str


class Camera(Protocol):
    """Delivers frames. All methods are called from one thread; none but `start` and `poll` may block.

    A camera never raises because its device went away: it says so with `StateChanged` and tries again by itself.
    """

    @property
    def info(self) -> CameraInfo | None:
        """The device in use; None until one was opened."""

    @property
    def memory(self) -> Image | None:
        """What all images lie in while it streams, uint8; None when they do not lie in one piece."""

    @property
    def statistics(self) -> CameraStatistics:
        """What it delivered and what went wrong, since the start."""

    def start(self, timeout_s: float) -> None:
        """Begin to deliver; returns when the camera streams, or when `timeout_s` has passed without a device.

        Raises:
            InputError: the settings can never work (no producer, a feature refused its value).
        """

    def trigger(self, trigger_id: int) -> None:
        """Ask for one frame by software trigger.

        Every call is answered by exactly one `FrameArrived` or `TriggerFailed` with this id, whatever happens to the
        camera. Several may be asked for ahead; they are exposed one after the other. Ids must not repeat while
        outstanding.
        """

    def poll(self, timeout_s: float) -> CameraEvent | None:
        """The next event, or None after `timeout_s` without one."""

    def release(self, frame: Frame) -> None:
        """Give a frame's memory back to the camera."""

    def stop(self) -> None:
        """End delivery and free everything; may be called more than once."""
