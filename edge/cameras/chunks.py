"""What is told of a frame apart from its samples: by the camera in the frame itself (GenICam chunk data), or else by
the transport layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genicam import genapi, gentl

from edge.cameras.features import ABSENT, available_entries, find_feature, write_feature
from edge.cameras.sequence import id_step
from edge.errors import CameraSetupError

# Names of the Standard Features Naming Convention, as entries of ChunkSelector; the values are in features Chunk….
CHUNKS = ("FrameID", "Timestamp", "ExposureTime")


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """Of one frame.

    Attributes:
        frame_id: the camera's count of exposures when its frames tell it, else the transport layer's of transfers; None
            when it was lost with a part of the frame.
        timestamp_ns: the camera's clock at exposure; None when it is not known.
        exposure_us: with which this very frame was taken; None when it does not tell.
    """

    frame_id: int | None
    timestamp_ns: int | None
    exposure_us: float | None


def enable_chunks(nodes: Any) -> None:
    """Have the camera tell of each frame those of CHUNKS that it offers.

    Raises:
        CameraSetupError: it has no chunk data, or none of these.
    """
    selector = find_feature(nodes, "ChunkSelector")
    offered = [] if selector is None else [name for name in CHUNKS if name in available_entries(selector)]
    if not offered or find_feature(nodes, "ChunkModeActive") is None:
        raise CameraSetupError(
            f"the camera has no chunk data with {', '.join(CHUNKS)}", "set camera.chunk_data = false"
        )
    write_feature(nodes, "ChunkModeActive", True)
    for name in offered:
        write_feature(nodes, "ChunkSelector", name)
        write_feature(nodes, "ChunkEnable", True)


class FrameReader:
    """Reads the facts of the frames of one acquisition, in the order they come.

    Whether the camera or the transport layer counts frames and tells the time is decided by the first frame, for the
    two need not agree. A frame whose chunks were lost is counted on from the one before, and has no time.

    Chunks are found with GenTL's DSGetBufferChunkData, whatever the transport layer.
    """

    def __init__(self, nodes: Any) -> None:
        mode = find_feature(nodes, "ChunkModeActive")
        ticks = find_feature(nodes, "GevTimestampTickFrequency")  # older cameras do not count in nanoseconds
        self._ticks_hz = 1_000_000_000 if ticks is None else int(ticks.value) or 1_000_000_000
        self._values = {name: nodes.get_node(f"Chunk{name}") for name in CHUNKS if nodes.has_node(f"Chunk{name}")}
        self._adapter = genapi.ChunkAdapterGeneric(nodes) if mode is not None and mode.value else None
        self._first = True
        self._counts_exposures = self._tells_time = False
        self._last_ids = (0, 0)

    def read(self, buffer: Any) -> FrameFacts:
        """The facts of a GenTL buffer that was not queued again."""
        chunks = self._chunks(buffer)
        exposure_id, ticks = chunks.get("FrameID"), chunks.get("Timestamp")
        if self._first:
            self._first = False
            self._counts_exposures, self._tells_time = exposure_id is not None, ticks is not None
        if not self._tells_time:
            timestamp_ns = _transport_timestamp_ns(buffer)
        else:
            timestamp_ns = None if ticks is None else int(ticks) * 1_000_000_000 // self._ticks_hz
        return FrameFacts(self._count(int(buffer.frame_id), exposure_id), timestamp_ns, chunks.get("ExposureTime"))

    def _count(self, transfer_id: int, exposure_id: float | None) -> int:
        if not self._counts_exposures:
            return transfer_id
        if exposure_id is None:
            last_transfer_id, last_exposure_id = self._last_ids
            exposure_id = last_exposure_id + id_step(last_transfer_id, transfer_id, counts_zero=True)
        self._last_ids = transfer_id, int(exposure_id)
        return int(exposure_id)

    def _chunks(self, buffer: Any) -> dict[str, float]:
        if self._adapter is None:
            return {}
        try:
            places = buffer.chunk_data_info_list
            if not places:
                return {}
            self._adapter.attach_buffer(buffer.raw_buffer, places)
            return {name: node.value for name, node in self._values.items() if node.get_access_mode() not in ABSENT}
        except (genapi.GenericException, gentl.GenericException):  # not every producer finds chunks in every frame
            return {}
        finally:
            self._adapter.detach_buffer()


def _transport_timestamp_ns(buffer: Any) -> int | None:
    try:
        return int(buffer.timestamp_ns)
    except gentl.GenericException:  # not every producer tells
        return None
