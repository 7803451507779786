"""A GenICam client in its own process: reads pickled (method, arguments) from stdin, answers on stdout.

harvesters wants one Harvester per process, and its binding holds the GIL while it waits.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import Any

from genicam import genapi, gentl
from harvesters.core import Callback, Harvester, ImageAcquirer, ParameterKey, ParameterSet

CHUNKS = ("FrameID", "Timestamp", "ExposureTime", "Gain")
DEVICE_LOST = ("EventDeviceLost", "EventDeviceLostTimestamp")
RO = genapi.EAccessMode.RO


class CountIncomplete(Callback):
    """harvesters requeues incomplete buffers by itself and only calls back."""

    def __init__(self) -> None:
        self.count = 0

    def emit(self, context: object | None = None) -> None:
        self.count += 1


class Client:
    def __init__(self, producer: str) -> None:
        self._harvester = Harvester()
        self._harvester.add_file(producer, check_existence=True, check_validity=True)
        self._acquirers: dict[str, ImageAcquirer] = {}
        self._incomplete = CountIncomplete()

    def devices(self) -> list[dict[str, str]]:
        self._harvester.update()
        names = ("id_", "vendor", "model", "serial_number", "user_defined_name", "tl_type")
        return [{name: getattr(info, name) for name in names} for info in self._harvester.device_info_list]

    def open(self, serial: str, buffers: int = 3) -> None:
        config = ParameterSet(
            {
                ParameterKey.TIMEOUT_PERIOD_ON_UPDATE_EVENT_DATA_CALL: 0,
                ParameterKey.NUM_BUFFERS_FOR_FETCH_CALL: buffers,
            }
        )
        acquirer = self._harvester.create({"serial_number": serial}, config=config)
        acquirer.add_callback(ImageAcquirer.Events.INCOMPLETE_BUFFER, self._incomplete)
        self._acquirers[serial] = acquirer

    def get(self, serial: str, feature: str) -> Any:
        return self._node(serial, feature).value

    def limits(self, serial: str, feature: str) -> tuple[float, float]:
        node = self._node(serial, feature)
        return node.min, node.max

    def choices(self, serial: str, feature: str) -> tuple[str, ...]:
        node = self._node(serial, feature)
        return tuple(entry.symbolic for entry in node.entries if entry.get_access_mode() not in (0, 1))  # NI, NA

    def set(self, serial: str, feature: str, value: Any) -> None:
        self._node(serial, feature).value = value

    def execute(self, serial: str, feature: str) -> None:
        self._node(serial, feature).execute()

    def start(self, serial: str) -> None:
        self._acquirers[serial].start()

    def fetch(self, serial: str, timeout_s: float = 2.0) -> dict[str, Any] | None:
        acquirer = self._acquirers[serial]
        deadline = time.monotonic() + timeout_s
        while (buffer := acquirer.try_fetch(timeout=1e-6, is_raw=True)) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.0005)
        names = ("frame_id", "timestamp_ns", "width", "height", "pixel_format", "size_filled", "delivered_image_height")
        frame: dict[str, Any] = {name: getattr(buffer, name) for name in names}
        # raw_buffer is the memory itself: without a copy it changes when the buffer is queued again.
        frame["bytes"] = bytes(memoryview(buffer.raw_buffer)[: buffer.size_filled])
        frame["is_image_present"] = buffer.contains_image()
        frame["chunk_bytes"] = buffer.delivered_chunk_payload_size
        chunks = {name: self._node(serial, f"Chunk{name}") for name in CHUNKS}
        # harvesters attached those of this buffer; attached ones of an earlier buffer stay if it has none.
        has_chunks = buffer.is_containing_chunk_data()
        frame["chunks"] = {
            name: node.value for name, node in chunks.items() if has_chunks and node.get_access_mode() == RO
        }
        buffer.parent.queue_buffer(buffer)
        return frame

    def frame_ids(self, serial: str, duration_s: float) -> list[tuple[int, int]]:
        """(frame id, timestamp) of everything that comes within a time."""
        acquirer = self._acquirers[serial]
        deadline = time.monotonic() + duration_s
        found = []
        while time.monotonic() < deadline:
            if (buffer := acquirer.try_fetch(timeout=1e-6, is_raw=True)) is not None:
                found.append((buffer.frame_id, buffer.timestamp_ns))
                buffer.parent.queue_buffer(buffer)
            else:
                time.sleep(0.0005)
        return found

    def event(self, serial: str, timeout_s: float) -> dict[str, Any] | None:
        """The next event of the host's module for the device, read through that module's node map."""
        acquirer = self._acquirers[serial]
        event = acquirer._module_event_monitor_dict[acquirer.device]
        try:
            event.update_event_data(int(timeout_s * 1e3))
        except gentl.TimeoutException:
            return None
        nodes = acquirer.device.node_map
        adapter = genapi.EventAdapterGeneric(nodes.pointer)  # the message lasts as long as it does
        adapter.deliver_message(event.optional_data, event.event_id)
        return {"id": event.event_id} | {name: nodes.get_node(name).value for name in DEVICE_LOST}

    def incomplete_count(self) -> int:
        return self._incomplete.count

    def stop(self, serial: str) -> None:
        self._acquirers[serial].stop()

    def close(self, serial: str) -> None:
        self._acquirers.pop(serial).destroy()

    def _node(self, serial: str, feature: str) -> Any:
        """Of the camera, or of the host's module before the colon: "device:EventNotification"."""
        module, _, name = feature.rpartition(":")
        acquirer = self._acquirers[serial]
        modules = {"": acquirer.remote_device, "device": acquirer.device, "stream": acquirer.data_streams[0]}
        return modules[module].node_map.get_node(name)


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the answers
    client = Client(sys.argv[1])
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            os._exit(0)  # harvesters' finalizers raise after a lost device
        answer: tuple[str, Any]
        try:
            answer = ("done", getattr(client, method)(*arguments))
        except Exception as error:  # noqa: BLE001  (the test decides)
            answer = (type(error).__name__, str(error))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
