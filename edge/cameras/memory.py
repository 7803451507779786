"""A camera whose frames are in memory already: what is measured behind it waits for no other."""

from __future__ import annotations

import os
import time

import numpy as np

from edge.cameras.camera import CameraEvent, CameraInfo, CameraState, FrameArrived, StateChanged
from edge.cameras.ring import RingGeometry, create_ring
from edge.cameras.statistics import CameraStatistics
from edge.frame import Frame, Image
from edge.pixel_format import PixelFormat, Storage

_DIFFERENT_FRAMES = 4
_SIGNIFICANT = {Storage.BITS_10: 0x03FF, Storage.BITS_12: 0x0FFF}


class MemoryCamera:
    """A camera that always has a frame: noise in a ring like the one that a real camera's frames arrive in.

    Args:
        pixel_format: of the frames.
        size_wh: width and height in pixels.

    Raises:
        ImageError: a row of that width is not possible in that format.
    """

    def __init__(self, pixel_format: PixelFormat, size_wh: tuple[int, int]) -> None:
        shape = pixel_format.shape(*size_wh)
        ring, descriptor = create_ring(RingGeometry(_DIFFERENT_FRAMES, int(np.prod(shape))))
        os.close(descriptor)
        random = np.random.default_rng(0)
        self.images = [ring.image(index, shape) for index in range(_DIFFERENT_FRAMES)]
        for image in self.images:
            image[:] = random.integers(0, 256, shape, np.uint8)
            if pixel_format.storage in _SIGNIFICANT:
                image.view("<u2")[:] &= _SIGNIFICANT[pixel_format.storage]
        self.pixel_format = pixel_format
        self.memory: Image | None = ring.memory
        self.left = 0
        self._is_started = False
        self._given = 0

    @property
    def info(self) -> CameraInfo | None:
        return None

    @property
    def statistics(self) -> CameraStatistics:
        return CameraStatistics(delivered=self._given)

    def start(self, timeout_s: float) -> None:
        """Nothing to do."""

    def trigger(self, trigger_id: int) -> None:
        """It exposes by itself."""

    def poll(self, timeout_s: float) -> CameraEvent | None:
        """The next of the `left` frames, at once."""
        if not self._is_started:
            self._is_started = True
            return StateChanged(CameraState.STREAM, "frames are in memory")
        if not self.left:
            return None
        self.left -= 1
        self._given += 1
        image = self.images[self._given % len(self.images)]
        now_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        return FrameArrived(Frame(image, self.pixel_format, self._given, None, None, now_ns, utc_ns, None, True))

    def release(self, frame: Frame) -> None:
        """Frames stay where they are."""

    def stop(self) -> None:
        """Nothing to do."""
