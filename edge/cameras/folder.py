"""A directory of images as a camera: for trying a bundle, and for replaying what a camera saw."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.camera import (
    CameraEvent,
    CameraInfo,
    CameraState,
    FrameArrived,
    FramesMissing,
    StateChanged,
    TriggerFailed,
)
from edge.cameras.statistics import CameraStatistics, StatisticsCounter
from edge.config import FolderConfig, TriggerConfig
from edge.errors import CameraSetupError, ImageError
from edge.frame import Frame, Image
from edge.pixel_format import PixelFormat

SUFFIXES = frozenset(
    {".bmp", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".tif", ".tiff", ".webp"}
)


class FolderCamera:
    """A `Camera` that delivers a directory's images in name order, over again.

    Grey images come as Mono8, others as BGR8 without their alpha channel. 16-bit samples are scaled down to 8 bit.
    Frame ids count from 1. A file that cannot be read takes its turn as a frame that is missing.
    """

    def __init__(self, config: FolderConfig, trigger: TriggerConfig) -> None:
        self._directory = config.directory
        self._trigger_config = trigger
        self._paths: list[Path] = []
        self._events: deque[CameraEvent] = deque()
        self._requests: deque[int] = deque()
        self._frame_id = 0
        self._next_at_s = 0.0
        self._counter = StatisticsCounter()

    @property
    def info(self) -> CameraInfo | None:
        """The directory, as model; None before `start`."""
        return CameraInfo("", self._directory.name, "", str(self._directory)) if self._paths else None

    @property
    def memory(self) -> Image | None:
        return None

    @property
    def statistics(self) -> CameraStatistics:
        """Files read; those that could not be are missing."""
        return self._counter.snapshot()

    def start(self, timeout_s: float) -> None:
        """Look for the images.

        Raises:
            ImageError: the directory is missing, or holds no image that OpenCV reads.
            CameraSetupError: the trigger is a line, which a directory does not have.
        """
        if self._trigger_config.mode == "line":
            raise CameraSetupError("a folder has no trigger line", "set trigger.mode to 'software' or 'free_run'")
        try:
            entries = sorted(self._directory.iterdir())
        except OSError as error:
            raise ImageError(
                f"directory '{self._directory}' cannot be read ({error})", "check camera.directory"
            ) from error
        paths = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not any(cv2.haveImageReader(str(path)) for path in paths):
            broken = f" ('{paths[0].name}' cannot be read)" if paths else ""
            raise ImageError(
                f"directory '{self._directory}' holds no readable image{broken}", "put PNG or JPEG files there"
            )
        self._paths = paths
        self._next_at_s = time.monotonic()
        self._events.append(StateChanged(CameraState.STREAM, f"{len(paths)} images of '{self._directory}'"))

    def trigger(self, trigger_id: int) -> None:
        """Queue one frame; the next `poll` reads it."""
        if self._paths and self._trigger_config.mode == "software":
            self._requests.append(trigger_id)
        else:
            reason = "the camera is stopped" if not self._paths else f"trigger.mode is '{self._trigger_config.mode}'"
            self._events.append(TriggerFailed(trigger_id, reason))

    def poll(self, timeout_s: float) -> CameraEvent | None:
        """The next event, or None after `timeout_s`."""
        if self._events:
            return self._events.popleft()
        if self._requests:
            return self._next_frame(self._requests.popleft())
        wait_s = self._next_at_s - time.monotonic()
        if not self._paths or self._trigger_config.mode != "free_run" or wait_s > timeout_s:
            time.sleep(timeout_s)
            return None
        time.sleep(max(wait_s, 0.0))
        self._next_at_s = max(self._next_at_s + self._trigger_config.interval_ms / 1e3, time.monotonic())
        return self._next_frame(None)

    def release(self, frame: Frame) -> None:
        """Every frame has memory of its own: nothing to do."""

    def stop(self) -> None:
        """End delivery; triggers outstanding fail."""
        self._paths = []
        self._events.extend(TriggerFailed(trigger_id, "the camera was stopped") for trigger_id in self._requests)
        self._requests.clear()

    def _next_frame(self, trigger_id: int | None) -> CameraEvent:
        path = self._paths[self._frame_id % len(self._paths)]
        self._frame_id += 1
        received_monotonic_ns, received_utc_ns = time.monotonic_ns(), time.time_ns()
        try:
            image = read_image(path)
        except ImageError as error:
            self._counter.count_missing(1)
            if trigger_id is None:
                return FramesMissing(1, self._frame_id)
            return TriggerFailed(trigger_id, error.problem)
        self._counter.count_frame(is_complete=True, latency_ns=None)
        return FrameArrived(
            Frame(
                image=image,
                pixel_format=PixelFormat.MONO8 if image.ndim == 2 else PixelFormat.BGR8,
                frame_id=self._frame_id,
                trigger_id=trigger_id,
                timestamp_camera_ns=None,
                received_monotonic_ns=received_monotonic_ns,
                received_utc_ns=received_utc_ns,
                exposure_us=None,
                is_complete=True,
            )
        )


def read_image(path: Path) -> Image:
    """An image file as uint8, (H, W) Mono8 or (H, W, 3) BGR8; 16-bit samples are scaled down, alpha is dropped.

    Raises:
        ImageError: OpenCV cannot read it, or its samples are of another type.
    """
    samples = read_samples(path)
    if samples.dtype == np.uint16:
        samples = samples // 257
    elif samples.dtype != np.uint8:
        raise ImageError(f"image '{path}' has samples of type {samples.dtype}", "convert it to 8 or 16 bit")
    return samples.astype(np.uint8, copy=False)


def read_samples(path: Path) -> npt.NDArray[Any]:
    """An image file's samples as they are stored, (H, W) or BGR (H, W, 3); alpha is dropped.

    Raises:
        ImageError: the file cannot be opened, OpenCV cannot read it, or it is neither grey nor colour.
    """
    # From memory, because OpenCV fills up a JPEG file that was cut off with grey.
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        samples = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except (OSError, cv2.error) as error:
        raise ImageError(f"image '{path}' cannot be read ({error})", "replace it") from error
    if samples is None:
        raise ImageError(f"image '{path}' cannot be read", "replace it")
    if samples.ndim == 2:
        return samples
    if samples.shape[2] not in {3, 4}:
        raise ImageError(f"image '{path}' has {samples.shape[2]} channels", "convert it to grey or colour")
    return np.ascontiguousarray(samples[..., :3])
