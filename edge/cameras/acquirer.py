"""One open camera, through harvesters; used only inside the grabber process."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from genicam import genapi, gentl
from harvesters.core import ParameterKey, ParameterSet

from edge.cameras.features import available_entries, find_feature, write_feature, write_features, write_trigger
from edge.config import GenicamConfig, TriggerConfig
from edge.errors import CameraSetupError
from edge.frame import Image, PixelFormat

if TYPE_CHECKING:
    from harvesters.core import DeviceInfo, Harvester

DEVICE_ERRORS = (gentl.GenericException, genapi.GenericException)


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """What the camera was configured to deliver."""

    width_px: int
    height_px: int
    pixel_format: PixelFormat
    exposure_us: float | None

    @property
    def size_bytes(self) -> int:
        """One whole image."""
        return self.width_px * self.height_px * self.pixel_format.channels


class Acquirer:
    """Opens one device exclusively. Every method may raise one of DEVICE_ERRORS when the device went away."""

    def __init__(self, harvester: Harvester, device: DeviceInfo, buffers: int) -> None:
        self._harvester = harvester
        parameters = {
            ParameterKey.NUM_BUFFERS_FOR_FETCH_CALL: buffers,
            ParameterKey.ENABLE_AUTO_CHUNK_DATA_UPDATE: False,
        }
        self._acquirer = harvester.create(device, config=ParameterSet(parameters))
        # harvesters installs a SIGINT handler that destroys the device; the parent decides when to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._nodes = self._acquirer.remote_device.node_map

    def configure(self, config: GenicamConfig, trigger: TriggerConfig) -> ImageLayout:
        """Write trigger and features.

        Raises:
            CameraSetupError: a value was refused, or the pixel format is not one this program reads.
        """
        if find_feature(self._nodes, "AcquisitionMode") is not None:
            write_feature(self._nodes, "AcquisitionMode", "Continuous")
        write_trigger(self._nodes, trigger, config.features)
        write_features(self._nodes, config.features)
        return ImageLayout(
            width_px=self._nodes.Width.value,
            height_px=self._nodes.Height.value,
            pixel_format=self._pixel_format(),
            exposure_us=self._exposure_us(),
        )

    def start(self) -> None:
        """Begin to acquire."""
        self._acquirer.start()
        # The event itself, for harvesters' own fetch gives incomplete buffers back to the camera without showing them.
        self._new_buffer = next(iter(self._acquirer._new_buffer_event_monitor_dict.values()))

    def stop(self) -> None:
        """End acquisition and drop what was not fetched."""
        self._acquirer.stop()

    def fire(self) -> None:
        """Execute the software trigger."""
        self._nodes.TriggerSoftware.execute()

    def check_alive(self) -> None:
        """Read a register past the cache: raises when the device is gone, which else looks like a missing trigger."""
        self._nodes.Width.get_value(ignore_cache=True)

    def fetch(self, timeout_ms: int) -> Any | None:
        """The next buffer, complete or not, or None; the binding holds the GIL while it waits."""
        try:
            self._new_buffer.update_event_data(timeout_ms)
        except gentl.TimeoutException:
            return None
        return self._new_buffer.buffer

    def requeue(self, buffer: Any) -> None:
        """Give the buffer back to the camera; its content changes from now on."""
        buffer.parent.queue_buffer(buffer)

    def close(self) -> None:
        """Close the device; of a device that is gone, as much as is possible.

        harvesters raises half-way then and goes on from there in the next call; the end of the process frees the rest.
        """
        for release in (self._acquirer.destroy, self._acquirer.destroy, self._harvester.reset, self._harvester.reset):
            with contextlib.suppress(*DEVICE_ERRORS):
                release()
        for owner in (self._acquirer, self._harvester):
            owner._finalizer.detach()

    def _pixel_format(self) -> PixelFormat:
        node = self._nodes.PixelFormat
        readable = [format_.value for format_ in PixelFormat]
        if node.value not in readable:
            usable = [entry for entry in available_entries(node) if entry in readable]
            raise CameraSetupError(
                f"the camera delivers PixelFormat {node.value!r}, which cannot be read",
                f"set PixelFormat in camera.features to one of {', '.join(usable)}" if usable else "use another camera",
            )
        return PixelFormat(node.value)

    def _exposure_us(self) -> float | None:
        automatic = find_feature(self._nodes, "ExposureAuto")
        exposure = find_feature(self._nodes, "ExposureTime")
        if exposure is None or (automatic is not None and automatic.value != "Off"):
            return None
        return float(exposure.value)


def image_of(buffer: Any, layout: ImageLayout) -> tuple[Image, bool]:
    """The samples of a buffer, a view of shape (H, W) or (H, W, C), and whether they are complete.

    A buffer that was cut short may not know its own size; it has the layout's then.
    """
    try:
        width_px, height_px, offset_bytes = buffer.width, buffer.height, buffer.image_offset
        padding_bytes, is_complete = buffer.padding_x, bool(buffer.is_complete())
    except gentl.NotAvailableException:
        width_px, height_px, offset_bytes, padding_bytes = layout.width_px, layout.height_px, 0, 0
        is_complete = False
    channels = layout.pixel_format.channels
    row_bytes = width_px * channels
    stride_bytes = row_bytes + padding_bytes
    raw = np.frombuffer(buffer.raw_buffer, np.uint8, height_px * stride_bytes, offset_bytes)
    rows = raw.reshape(height_px, stride_bytes)[:, :row_bytes]
    return (rows if channels == 1 else rows.reshape(height_px, width_px, channels)), is_complete


def timestamp_ns(buffer: Any) -> int | None:
    """The camera's clock at exposure, None when the producer does not tell."""
    try:
        return int(buffer.timestamp_ns)
    except gentl.GenericException:
        return None
