"""What is told of each frame: parsed by GenICam's own library, and from the simulated camera to the station."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from genicam import genapi

from edge.cameras.camera import FramesMissing
from edge.cameras.chunks import CHUNKS, FrameFacts, FrameReader
from edge.cameras.genicam import GenicamCamera
from edge.config import GenicamConfig, TriggerConfig
from edge.errors import CameraSetupError
from simulator.replay import ReplayCamera

REGISTER = "<Address>0</Address><Length>8</Length><AccessMode>RO</AccessMode><pPort>{name}Port</pPort>"
HEADER = """<?xml version="1.0"?>
<RegisterDescription xmlns="http://www.genicam.org/GenApi/Version_1_1" ModelName="Chunks" VendorName="tests"
 StandardNameSpace="None" SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0" MajorVersion="1"
 MinorVersion="0" SubMinorVersion="0" ProductGuid="0" VersionGuid="0" ToolTip="">"""
IMAGE = b"image"
FREE_RUN, SOFTWARE = TriggerConfig(mode="free_run"), TriggerConfig(mode="software")


def camera_nodes(ticks_hz: int | None = None) -> Any:
    """Of a camera in chunk mode; a chunk's id is its place in CHUNKS plus 1."""
    xml = [HEADER, '<Integer Name="ChunkModeActive"><Value>1</Value></Integer>']
    if ticks_hz is not None:
        xml.append(f'<Integer Name="GevTimestampTickFrequency"><Value>{ticks_hz}</Value></Integer>')
    for number, name in enumerate(CHUNKS, 1):
        kind = "FloatReg" if name == "ExposureTime" else "IntReg"
        xml.append(f'<Port Name="{name}Port"><ChunkID>{number:04X}</ChunkID></Port>')
        xml.append(f'<{kind} Name="Chunk{name}">{REGISTER.format(name=name)}')
        xml.append(f"<Endianess>LittleEndian</Endianess></{kind}>")
    nodes = genapi.NodeMap()
    nodes.load_xml_from_string("".join([*xml, "</RegisterDescription>"]))
    return nodes


class Transfer:
    """A GenTL buffer with these chunks behind its image."""

    def __init__(self, frame_id: int, timestamp_ns: int, **chunks: float) -> None:
        self.frame_id, self.timestamp_ns = frame_id, timestamp_ns
        values = [struct.pack("<d" if name == "ExposureTime" else "<q", value) for name, value in chunks.items()]
        self.raw_buffer = b"".join([IMAGE, *values])
        places = [(CHUNKS.index(name) + 1, len(IMAGE) + 8 * place, 8) for place, name in enumerate(chunks)]
        self._infos = [(ctypes.c_uint64 * 3)(*place) for place in places]  # SINGLE_CHUNK_DATA
        self.chunk_data_info_list = [ctypes.addressof(info) for info in self._infos]


def test_the_camera_is_believed_rather_than_the_transport_layer() -> None:
    reader = FrameReader(camera_nodes())
    sent = Transfer(7, 5_000, FrameID=70_000, Timestamp=4_000, ExposureTime=812.5)
    assert reader.read(sent) == FrameFacts(70_000, 4_000, 812.5)
    assert reader.read(Transfer(8, 6_000, FrameID=70_003, Timestamp=9_000, ExposureTime=1.0)).frame_id == 70_003


def test_a_camera_that_tells_only_some() -> None:
    reader = FrameReader(camera_nodes())
    assert reader.read(Transfer(7, 5_000, ExposureTime=20.0)) == FrameFacts(7, 5_000, 20.0)
    assert reader.read(Transfer(8, 6_000)) == FrameFacts(8, 6_000, None)


def test_a_frame_without_its_chunks_is_counted_on_and_has_no_time_of_another_clock() -> None:
    reader = FrameReader(camera_nodes())
    reader.read(Transfer(65_534, 5_000, FrameID=99, Timestamp=4_000, ExposureTime=20.0))
    assert reader.read(Transfer(1, 6_000)) == FrameFacts(102, None, None)  # the transfer's id wrapped
    later = Transfer(2, 7_000, FrameID=103, Timestamp=6_000, ExposureTime=20.0)
    assert reader.read(later) == FrameFacts(103, 6_000, 20.0)


def test_the_first_frame_decides_who_counts() -> None:
    reader = FrameReader(camera_nodes())
    assert reader.read(Transfer(0, 5_000)) == FrameFacts(0, 5_000, None)
    later = Transfer(1, 6_000, FrameID=500, Timestamp=9, ExposureTime=20.0)
    assert reader.read(later) == FrameFacts(1, 6_000, 20.0)


def test_ticks_become_nanoseconds() -> None:
    reader = FrameReader(camera_nodes(ticks_hz=125_000_000))
    assert reader.read(Transfer(0, 1, Timestamp=2**40 + 1)).timestamp_ns == 8 * (2**40 + 1)


def test_chunks_that_make_no_sense_are_none() -> None:
    reader = FrameReader(camera_nodes())
    reader.read(Transfer(0, 1, FrameID=5, Timestamp=6, ExposureTime=7.0))
    assert reader.read(SimpleNamespace(frame_id=1, raw_buffer=IMAGE, chunk_data_info_list=[])).exposure_us is None


# From the camera to the station

Make = Callable[..., Any]


@pytest.fixture
def start(replay: ReplayCamera, replay_config: GenicamConfig, bench: Callable[[GenicamCamera], Any]) -> Make:
    def start_camera(trigger: TriggerConfig, **changes: Any) -> Any:
        config = replay_config.model_copy(update={"chunk_data": True} | changes)
        return bench(GenicamCamera(config, trigger)).start()

    return start_camera


def test_each_frame_has_the_exposure_it_was_taken_with(replay: ReplayCamera, start: Make) -> None:
    run = start(SOFTWARE, features={"ExposureAuto": "Continuous", "PixelFormat": "RGB8"})
    for trigger_id, exposure_us in enumerate((700, 2_000, 300)):
        replay.auto_exposure_us = exposure_us
        run.camera.trigger(trigger_id)
        frame = run.frame()
        assert (frame.trigger_id, frame.exposure_us, frame.fault) == (trigger_id, exposure_us, "")
        assert frame.timestamp_camera_ns == replay.exposures()[-1].timestamp_ns
        run.camera.release(frame)


def test_without_chunks_an_automatic_exposure_is_unknown(start: Make) -> None:
    run = start(SOFTWARE, chunk_data=False, features={"ExposureAuto": "Continuous"})
    run.camera.trigger(1)
    assert run.frame().exposure_us is None


def test_the_cameras_count_goes_over_the_wrap_and_over_a_frame_in_part(replay: ReplayCamera, start: Make) -> None:
    replay.wrap_frame_ids(65_534)
    replay.incomplete_every = 65_537
    run = start(SOFTWARE)
    told = []
    for trigger_id in range(4):
        run.camera.trigger(trigger_id)
        frame = run.frame()
        told.append((frame.frame_id, frame.fault))
        run.camera.release(frame)
    assert told == [(65_534, ""), (65_535, ""), (65_536, "incomplete_frame"), (65_537, "")]
    assert not [event for event in run.drain() if isinstance(event, FramesMissing)]


def test_lost_frames_leave_a_gap_in_the_cameras_count(replay: ReplayCamera, start: Make) -> None:
    replay.drop_every = 3
    run = start(FREE_RUN, features={"AcquisitionFrameRate": 100.0})
    seen: set[int] = set()
    while not seen or max(seen) < 7:
        frame = run.frame()
        seen.add(frame.frame_id)
        run.camera.release(frame)
    gaps = [event for event in run.events if isinstance(event, FramesMissing)]
    missing = {number for gap in gaps for number in range(gap.first_frame_id, gap.first_frame_id + gap.count)}
    assert missing >= {2, 5}
    assert seen | missing == set(range(max(seen) + 1))


def test_a_camera_that_cannot_tell_is_refused(viky: Path, bench: Callable[[GenicamCamera], Any]) -> None:
    config = GenicamConfig(producer=viky, serial="1", chunk_data=True, features={"PixelFormat": "Mono8"})
    with pytest.raises(CameraSetupError, match=r"no chunk data with FrameID, .*camera.chunk_data = false"):
        bench(GenicamCamera(config, FREE_RUN)).start()
