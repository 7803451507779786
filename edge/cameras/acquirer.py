"""One open camera, through harvesters; used only inside the grabber process."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

from genicam import genapi, gentl
from harvesters.core import ParameterKey, ParameterSet

from edge.cameras.camera import CameraInfo
from edge.cameras.chunks import FrameFacts, FrameReader, enable_chunks
from edge.cameras.clock import ClockMap, read_latched
from edge.cameras.features import find_feature, write_settings
from edge.cameras.host_modules import LossNotice, keep_oldest_frames
from edge.cameras.layout import ImageLayout, image_in, read_layout
from edge.cameras.marks import memory_of, write_marks
from edge.cameras.producers import describe_device
from edge.cameras.statistics import TransportCounts
from edge.config import GenicamConfig, TriggerConfig
from edge.frame import Image

if TYPE_CHECKING:
    from harvesters.core import DeviceInfo, Harvester


class ProducerTransport:
    """A `Transport` through GenTL producers."""

    errors = (gentl.GenericException, genapi.GenericException)

    def __init__(self, harvester: Harvester, config: GenicamConfig) -> None:
        self._harvester = harvester
        self._config = config

    def find(self) -> list[tuple[CameraInfo, DeviceInfo]]:
        """Every camera that a producer sees; closes those that are open."""
        self._harvester.update()
        return [(describe_device(device), device) for device in self._harvester.device_info_list]

    def open(self, device: DeviceInfo) -> Acquirer:
        """Open it exclusively."""
        return Acquirer(self._harvester, device, self._config)

    def close(self) -> None:
        """Close the producers."""
        self._harvester.reset()


class Acquirer:
    """A `Source`: one device, opened exclusively."""

    def __init__(self, harvester: Harvester, device: DeviceInfo, config: GenicamConfig) -> None:
        self._harvester = harvester
        self._config = config
        parameters = {
            ParameterKey.NUM_BUFFERS_FOR_FETCH_CALL: config.ring_slots,
            ParameterKey.ENABLE_AUTO_CHUNK_DATA_UPDATE: False,
        }
        self._acquirer = harvester.create(device, config=ParameterSet(parameters))
        # harvesters installs a SIGINT handler that destroys the device; the parent decides when to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._nodes = self._acquirer.remote_device.node_map
        host = self._acquirer.device
        self._loss = LossNotice(host.node_map, self._acquirer._module_event_monitor_dict.get(host))
        for stream in self._acquirer.data_streams:
            keep_oldest_frames(stream.node_map)
        self._marks_buffers = False

    def configure(self, trigger: TriggerConfig) -> ImageLayout:
        """Write trigger and features; a user set among them is loaded before all else.

        Raises:
            CameraSetupError: a value was refused, or the pixel format is not one this program reads.
        """
        write_settings(self._nodes, self._config.features, trigger)
        if self._config.chunk_data:
            enable_chunks(self._nodes)
        self._marks_buffers = trigger.mode != "free_run"
        return read_layout(self._nodes)

    def start(self) -> None:
        """Begin to acquire."""
        self._frames = FrameReader(self._nodes)
        self._acquirer.start()
        for buffer in self._acquirer._announced_buffers:
            self._mark(memory_of(buffer))
        # The event itself, for harvesters' own fetch gives incomplete buffers back to the camera without showing them.
        self._new_buffer = next(iter(self._acquirer._new_buffer_event_monitor_dict.values()))

    def stop(self) -> None:
        """End acquisition and drop what was not fetched."""
        self._acquirer.stop()

    def fire(self) -> None:
        """Execute the software trigger."""
        self._nodes.TriggerSoftware.execute()

    def is_maybe_lost(self) -> bool:
        """Whether the producer has said, since the last call, that the device went away."""
        return self._loss.has_come()

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

    def facts(self, buffer: Any) -> FrameFacts:
        """What is told of the frame in it."""
        return self._frames.read(buffer)

    def image_in(self, buffer: Any, layout: ImageLayout) -> tuple[Image, str]:
        """As `edge.cameras.layout.image_in`."""
        return image_in(buffer, layout)

    def requeue(self, buffer: Any) -> None:
        """Give the buffer back to the camera; its content changes from now on."""
        memory = memory_of(buffer)
        buffer.parent.queue_buffer(buffer)
        self._mark(memory)

    def _mark(self, memory: Image) -> None:
        # After queueing, for the binding clears what it queues. Between two exposures nobody else writes; and should
        # a camera do so all the same, the marks in its frame make it a torn one.
        if self._marks_buffers:
            write_marks(memory)

    def read_clock(self) -> ClockMap | None:
        """The camera's clock against the host's, by latching it; None when the camera cannot."""
        latch = find_feature(self._nodes, "TimestampLatch")
        value = find_feature(self._nodes, "TimestampLatchValue")
        if latch is None or value is None:
            return None
        return read_latched(latch.execute, lambda: int(value.get_value(ignore_cache=True)))

    @property
    def transport_counts(self) -> TransportCounts:
        """Since acquisition began; 0 where the producer does not tell."""
        try:
            return TransportCounts(sum(int(stream.num_underrun) for stream in self._acquirer._data_streams))
        except gentl.GenericException:
            return TransportCounts()

    def close(self) -> None:
        """Close the device; of a device that is gone, as much as is possible.

        harvesters raises half-way then and goes on from there in the next call; the end of the process frees the rest.
        """
        for release in (self._acquirer.destroy, self._acquirer.destroy, self._harvester.reset):
            with contextlib.suppress(*ProducerTransport.errors):
                release()
        self._acquirer._finalizer.detach()
