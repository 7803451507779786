"""What the grabber process asks of the library that it reaches cameras through."""

from __future__ import annotations

from typing import Any, Protocol

from edge.cameras.camera import CameraInfo
from edge.cameras.chunks import FrameFacts
from edge.cameras.clock import ClockMap
from edge.cameras.layout import ImageLayout
from edge.cameras.statistics import TransportCounts
from edge.config import TriggerConfig
from edge.frame import Image


class Source(Protocol):
    """One open camera. Every method may raise one of its transport's `errors` when the device went away."""

    def configure(self, trigger: TriggerConfig) -> ImageLayout:
        """Write trigger and features.

        Raises:
            CameraSetupError: a value was refused, or the pixel format is not one this program reads.
        """

    def start(self) -> None:
        """Begin to acquire."""

    def stop(self) -> None:
        """End acquisition and drop what was not fetched."""

    def fire(self) -> None:
        """Execute the software trigger."""

    def is_maybe_lost(self) -> bool:
        """Whether it was said that the device went away; answers at once."""

    def check_alive(self) -> None:
        """Raises when the device is gone, which else looks like a missing trigger."""

    def fetch(self, timeout_ms: int) -> Any | None:
        """The next buffer, complete or not, or None."""

    def facts(self, buffer: Any) -> FrameFacts:
        """What is told of the frame in it."""

    def image_in(self, buffer: Any, layout: ImageLayout) -> tuple[Image, str]:
        """The samples of a buffer, and what is wrong with them, as `edge.cameras.layout.image_in`."""

    def requeue(self, buffer: Any) -> None:
        """Give the buffer back to the camera; its content changes from now on."""

    def read_clock(self) -> ClockMap | None:
        """The camera's clock against the host's, by latching it; None when the camera cannot."""

    @property
    def transport_counts(self) -> TransportCounts:
        """Since acquisition began."""

    def close(self) -> None:
        """Close the device; of a device that is gone, as much as is possible."""


class Transport(Protocol):
    """Finds cameras and opens them."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it and its cameras raise when a device does not answer."""

    def find(self) -> list[tuple[CameraInfo, Any]]:
        """Every camera there is now, each with what `open` takes."""

    def open(self, device: Any) -> Source:
        """Open a camera for this program alone."""

    def close(self) -> None:
        """Free the library."""
