"""GigE Vision cameras without their maker's GenTL producer, through Aravis; used only inside the grabber process.

Aravis finds the camera, holds its control channel and receives its packets. Features are written with the same GenICam
reference implementation as behind a producer, to which Aravis' registers are the camera's port.

Sources: AIA GigE Vision 1.2, bootstrap registers; the reference manual of Aravis 0.8.

Raises:
    AravisError: on import, as `edge.cameras.aravis_devices`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from genicam import genapi

from edge.cameras.aravis_devices import REGISTER_BYTES, Aravis, GLib, Place, Registers, find_cameras
from edge.cameras.camera import CameraInfo
from edge.cameras.chunks import FrameFacts
from edge.cameras.clock import ClockMap, read_latched
from edge.cameras.features import find_feature, write_settings
from edge.cameras.layout import ImageLayout, read_layout
from edge.cameras.marks import has_marks, write_marks
from edge.cameras.statistics import TransportCounts
from edge.config import AravisConfig, TriggerConfig
from edge.frame import Image

_CONTROL = 0x0A00
_CLOCK_CONTROL, _CLOCK_HIGH, _CLOCK_LOW = 0x0944, 0x0948, 0x094C
_LATCH = 2


class AravisTransport:
    """A `Transport` of GigE Vision cameras."""

    errors = (GLib.GError, genapi.GenericException)

    def __init__(self, config: AravisConfig) -> None:
        self._config = config

    def find(self) -> list[tuple[CameraInfo, Place]]:
        """As `find_cameras`."""
        return find_cameras()

    def open(self, device: Place) -> AravisCamera:
        """Take control of a camera."""
        return AravisCamera(device, self._config)

    def close(self) -> None:
        """Nothing is open but cameras."""


@dataclass(frozen=True, slots=True)
class _Received:
    """A buffer that Aravis gave out, with the memory behind it, uint8 (N,)."""

    buffer: Any
    memory: Image

    @property
    def is_complete(self) -> bool:
        return bool(self.buffer.get_status() == Aravis.BufferStatus.SUCCESS)


class AravisCamera:
    """A `Source`: one GigE Vision camera under this program's control.

    Raises:
        GLib.GError: another program controls it, or it went away.
    """

    def __init__(self, place: Place, config: AravisConfig) -> None:
        self._place = place
        self._config = config
        self._device = Aravis.open_device(place.name)
        self._check_control()
        # With the right to packet sockets Aravis would use one, and lose what comes before it is set up.
        self._device.set_stream_options(Aravis.GvStreamOption.PACKET_SOCKET_DISABLED)
        xml, _ = self._device.get_genicam_xml()
        self._nodes = genapi.NodeMap()
        self._nodes.load_xml_from_string(xml)
        self._nodes.connect(Registers(self._device))
        self._stream: Any = None
        self._memories: dict[Any, Image] = {}
        self._earlier_ids: dict[Any, int] = {}
        self._marks_buffers = False

    def configure(self, trigger: TriggerConfig) -> ImageLayout:
        """Write trigger and features, as `edge.cameras.features.write_settings`."""
        write_settings(self._nodes, self._config.features, trigger)
        self._marks_buffers = trigger.mode != "free_run"
        return read_layout(self._nodes)

    def start(self) -> None:
        """Open a stream of its own, so that packets of an earlier one find no receiver, and begin to acquire."""
        self._stream = Aravis.Camera.new_with_device(self._device).create_stream(None, None)
        self._tune(self._stream)
        payload_bytes = int(self._nodes.PayloadSize.value)
        for _ in range(self._config.ring_slots):
            memory = np.zeros(payload_bytes, dtype=np.uint8)
            self._queue(Aravis.Buffer.new(payload_bytes, memory.ctypes.data), memory)
        self._lock(True)
        self._nodes.AcquisitionStart.execute()

    def stop(self) -> None:
        """End acquisition and drop what was not fetched."""
        self._nodes.AcquisitionStop.execute()
        self._lock(False)
        self._end_stream()

    def fire(self) -> None:
        """Execute the software trigger."""
        self._nodes.TriggerSoftware.execute()

    def is_maybe_lost(self) -> bool:
        """Whether the camera left Aravis' heartbeat unanswered, or another program took control."""
        return not self._device.is_controller()

    def check_alive(self) -> None:
        """Raises without control, and when a register cannot be read."""
        self._check_control()
        self._nodes.Width.get_value(ignore_cache=True)

    def fetch(self, timeout_ms: int) -> _Received | None:
        """The next buffer, complete or not, or None."""
        buffer = self._stream.timeout_pop_buffer(timeout_ms * 1000) if timeout_ms else self._stream.try_pop_buffer()
        return None if buffer is None else _Received(buffer, self._memories[buffer])

    def facts(self, buffer: _Received) -> FrameFacts:
        """Id and time come with a frame's first packet; without it, the buffer still has those of an earlier frame."""
        frame_id = int(buffer.buffer.get_frame_id())
        if buffer.is_complete:
            return FrameFacts(frame_id, int(buffer.buffer.get_timestamp()), None)
        return FrameFacts(None if frame_id == self._earlier_ids[buffer.buffer] else frame_id, None, None)

    def image_in(self, buffer: _Received, layout: ImageLayout) -> tuple[Image, str]:
        """The samples, a view of the layout's shape but for the height, and the fault as in `edge.cameras.layout`."""
        row_bytes = layout.pixel_format.row_bytes(layout.width_px)
        width_px, height_px, stride_bytes, fault = layout.width_px, layout.height_px, row_bytes, "incomplete_frame"
        if buffer.is_complete:
            width_px, height_px = buffer.buffer.get_image_width(), buffer.buffer.get_image_height()
            stride_bytes += _padding_bytes(buffer.buffer)
            fault = ""
        end_bytes = height_px * stride_bytes
        if width_px != layout.width_px or height_px > layout.height_px or end_bytes > len(buffer.memory):
            height_px, stride_bytes, fault = layout.height_px, row_bytes, "wrong_payload_size"
        elif not fault and stride_bytes == row_bytes and has_marks(buffer.memory[:end_bytes]):
            fault = "torn_frame"
        height_px = min(height_px, len(buffer.memory) // stride_bytes)
        rows = buffer.memory[: height_px * stride_bytes].reshape(height_px, stride_bytes)
        return rows[:, :row_bytes].reshape(height_px, *layout.shape[1:]), fault

    def requeue(self, buffer: _Received) -> None:
        """Give the buffer back to the camera; its content changes from now on."""
        self._queue(buffer.buffer, buffer.memory)

    def read_clock(self) -> ClockMap | None:
        """From the bootstrap registers, which show 0 when the camera's clock cannot be latched."""
        self._latch()
        return read_latched(self._latch, self._latched_ns) if self._latched_ns() else None

    @property
    def transport_counts(self) -> TransportCounts:
        """Since acquisition began."""
        if self._stream is None:
            return TransportCounts()
        told = self._stream.get_info_uint64_by_name
        # Aravis' underruns are packets; frames lost so leave a gap in the frame ids.
        return TransportCounts(0, told("n_missing_packets"), told("n_resent_packets"))

    def close(self) -> None:
        """Give control back; when the camera is gone, end the process."""
        # Freeing a camera that does not answer takes Aravis seconds.
        if self._place.read(_CONTROL, REGISTER_BYTES) is None:
            os._exit(0)
        with contextlib.suppress(*AravisTransport.errors):
            self.stop()

    def _check_control(self) -> None:
        if not self._device.is_controller():
            raise GLib.GError("another program controls it")

    def _tune(self, stream: Any) -> None:
        config = self._config
        if not config.packet_resend:  # else as the camera can
            stream.set_property("packet-resend", Aravis.GvStreamPacketResend.NEVER)
        if config.socket_buffer_bytes is None:
            stream.set_property("socket-buffer", Aravis.GvStreamSocketBuffer.AUTO)
        else:
            stream.set_property("socket-buffer-size", config.socket_buffer_bytes)
        stream.set_property("packet-timeout", round(config.packet_timeout_ms * 1e3))
        stream.set_property("frame-retention", round(config.frame_retention_ms * 1e3))

    def _queue(self, buffer: Any, memory: Image) -> None:
        # Before queueing, for from then on another thread fills it.
        if self._marks_buffers:
            write_marks(memory)
        self._memories[buffer], self._earlier_ids[buffer] = memory, buffer.get_frame_id()
        self._stream.push_buffer(buffer)

    def _lock(self, is_locked: bool) -> None:
        if find_feature(self._nodes, "TLParamsLocked") is not None:
            self._nodes.TLParamsLocked.value = int(is_locked)

    def _end_stream(self) -> None:
        self._stream = None  # its thread ends with it, and nobody writes to the memories any more
        self._memories.clear()
        self._earlier_ids.clear()

    def _latch(self) -> None:
        self._device.write_register(_CLOCK_CONTROL, _LATCH)

    def _latched_ns(self) -> int:
        ticks = self._device.read_register(_CLOCK_HIGH) << 32 | self._device.read_register(_CLOCK_LOW)
        return int(ticks * 1_000_000_000 // max(self._device.get_timestamp_tick_frequency(), 1))


def _padding_bytes(buffer: Any) -> int:
    """At the end of a row; Aravis tells it from 0.8.23 on."""
    return int(buffer.get_image_padding()[0]) if hasattr(buffer, "get_image_padding") else 0
