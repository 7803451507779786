"""The file that a simulated camera is: a control header shared with the producer, then the images.

The layout is that of simulator/native/camera_file.h; a test compiles one against the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from edge.pixel_format import PixelFormat

MAGIC: Final = b"REPLAYCM"
VERSION: Final = 1
NAME_BYTES: Final = 64
LOG_ENTRIES: Final = 1024
PFNC: Final = {PixelFormat.MONO8: 0x01080001, PixelFormat.RGB8: 0x02180014}

LOG_ENTRY: Final = np.dtype(
    [
        ("sequence", "<u8"),
        ("frame_id", "<u8"),
        ("timestamp_ns", "<u8"),
        ("image_index", "<u4"),
        ("fate", "<u4"),
        ("acquisition", "<u4"),
        ("reserved", "<u4"),
    ]
)
HEADER: Final = np.dtype(
    [
        ("magic", "S8"),
        *((name, "<u4") for name in ("version", "header_bytes", "width", "height", "pixel_format", "image_count")),
        *((name, "<u8") for name in ("image_bytes", "image_offset")),
        *((name, f"S{NAME_BYTES}") for name in ("serial", "user_id", "vendor", "model")),
        ("reserved_identity", "V208"),
        *((name, "<u4") for name in ("link", "link_epoch", "stall", "drop_every", "incomplete_every", "line0_pulses")),
        *((name, "<u4") for name in ("duplicate_every", "stale_every", "torn_every", "short_every")),
        *((name, "<u4") for name in ("feature_delay_ms", "crash", "frame_id_bits", "first_frame_id")),
        *((name, "<u4") for name in ("auto_exposure_us", "buffer_handling")),
        ("reserved_controls", "V192"),
        *((name, "<u8") for name in ("cursor", "exposed", "delivered", "incomplete", "dropped", "underruns")),
        *((name, "<u8") for name in ("ignored_triggers", "acquisitions", "log_count", "discarded")),
        ("user_set", "V72"),
        *((name, "<u4") for name in ("user_set_is_saved", "user_set_default")),
        ("reserved_state", "V96"),
        ("log", LOG_ENTRY, (LOG_ENTRIES,)),
    ]
)
IMAGE_OFFSET: Final = -(-HEADER.itemsize // 4096) * 4096


class Link(IntEnum):
    """What a client sees of the camera."""

    OFFLINE = 0
    ONLINE = 1
    SILENT = 2
    LOST = 3


class BufferHandling(IntEnum):
    """GenTL SFNC's StreamBufferHandlingMode."""

    OLDEST_FIRST = 0
    OLDEST_FIRST_OVERWRITE = 1
    NEWEST_ONLY = 2


class Fate(IntEnum):
    """What became of an exposed frame."""

    DELIVERED = 0
    INCOMPLETE = 1
    DROPPED = 2
    UNDERRUN = 3
    DUPLICATE = 4
    STALE = 5
    TORN = 6
    SHORT = 7


@dataclass(frozen=True, slots=True)
class Exposure:
    """One frame that the sensor took.

    Attributes:
        acquisition: number of the AcquisitionStart that the frame id counts from; the first is 1.
        frame_id: counts from 0, or from `first_frame_id`, in each acquisition; lost frames have one too.
        image_index: which image was under the camera.
        timestamp_ns: CLOCK_MONOTONIC at the start of the exposure, the frame's timestamp.
        fate: whether the host got it.
    """

    acquisition: int
    frame_id: int
    image_index: int
    timestamp_ns: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened since the camera file was created.

    Attributes:
        exposed: frames that the sensor began to take.
        delivered: frames put into a buffer of the host, incomplete ones included.
        incomplete: delivered frames of which only the upper half arrived.
        dropped: frames lost because of `drop_every`.
        underruns: frames lost because the host had queued no buffer.
        discarded: frames delivered, but given up for a newer one before the host fetched them.
        ignored_triggers: triggers that came while exposing, or when the camera did not wait for them.
        acquisitions: how often AcquisitionStart took effect.
    """

    exposed: int
    delivered: int
    incomplete: int
    dropped: int
    underruns: int
    discarded: int
    ignored_triggers: int
    acquisitions: int
