"""What the simulated camera keeps, tells in its frames and tells of itself: user sets, chunks, events, buffer modes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.frame import Image
from simulator.camera_file import BufferHandling
from simulator.replay import ReplayCamera

IMAGES: Image = np.random.default_rng(9).integers(0, 256, (2, 20, 25), dtype=np.uint8)
KEPT = {
    "Width": 18,
    "Height": 10,
    "OffsetX": 2,
    "OffsetY": 4,
    "PixelFormat": "Mono12p",
    "ExposureTime": 77.0,
    "Gain": 3.0,
    "AcquisitionFrameRate": 12.5,
    "TriggerMode": "On",
    "TriggerSource": "Line0",
    "TriggerActivation": "FallingEdge",
    "ChunkModeActive": True,
}


@pytest.fixture
def camera(cameras: Path) -> ReplayCamera:
    return ReplayCamera.create(cameras, "C1", IMAGES)


@pytest.fixture
def opened(client: Any, camera: ReplayCamera) -> Any:
    client.devices()
    client.open("C1")
    return client


def settings(client: Any) -> dict[str, Any]:
    return {name: client.get("C1", name) for name in KEPT}


def arm(client: Any, *chunks: str) -> None:
    client.set("C1", "TriggerMode", "On")
    client.set("C1", "ChunkModeActive", True)
    for name in chunks:
        client.set("C1", "ChunkSelector", name)
        client.set("C1", "ChunkEnable", True)
    client.start("C1")


def trigger(client: Any) -> dict[str, Any]:
    client.execute("C1", "TriggerSoftware")
    return dict(client.fetch("C1"))


# User sets


def test_a_user_set_brings_its_settings_back(opened: Any, client_error: Any) -> None:
    factory = settings(opened)
    for name, value in KEPT.items():
        opened.set("C1", name, value)
    assert settings(opened) == KEPT != factory
    with pytest.raises(client_error):
        opened.execute("C1", "UserSetSave")  # the factory's
    opened.set("C1", "UserSetSelector", "UserSet0")
    opened.execute("C1", "UserSetSave")
    for name, expected in (("Default", factory), ("UserSet0", KEPT)):
        opened.set("C1", "UserSetSelector", name)
        opened.execute("C1", "UserSetLoad")
        assert settings(opened) == expected
    opened.start("C1")
    with pytest.raises(client_error):
        opened.execute("C1", "UserSetLoad")


def test_a_user_set_never_saved_is_the_factorys(opened: Any) -> None:
    factory = settings(opened)
    opened.set("C1", "Gain", 3.0)
    opened.set("C1", "UserSetSelector", "UserSet0")
    opened.execute("C1", "UserSetLoad")
    assert settings(opened) == factory


def test_the_default_user_set_survives_the_client(opened: Any, start_client: Callable[[], Any]) -> None:
    factory = settings(opened)
    opened.set("C1", "Gain", 3.0)
    opened.set("C1", "UserSetSelector", "UserSet0")
    opened.execute("C1", "UserSetSave")
    opened.kill()
    other = start_client()
    other.devices()
    other.open("C1")
    assert settings(other) == factory
    other.set("C1", "UserSetDefault", "UserSet0")
    other.close("C1")
    other.open("C1")
    assert settings(other) == factory | {"Gain": 3.0}


# Chunks


def test_chunks_tell_of_the_frame_they_come_with(opened: Any, camera: ReplayCamera) -> None:
    arm(opened, "FrameID", "Timestamp", "ExposureTime", "Gain")
    assert opened.get("C1", "PayloadSize") == IMAGES[0].nbytes + 4 * 8
    for number, exposure_us in enumerate((700.0, 2500.0, 5000.0)):
        opened.set("C1", "ExposureTime", exposure_us)
        opened.set("C1", "Gain", number / 2)
        opened.execute("C1", "TriggerSoftware")
        while camera.counters.exposed == number:
            time.sleep(0.0005)
        opened.set("C1", "ExposureTime", 20.0)  # while the frame is taken: not of this frame
        frame = opened.fetch("C1")
        assert frame["chunks"] == {
            "FrameID": number,
            "Timestamp": camera.exposures()[-1].timestamp_ns,
            "ExposureTime": exposure_us,
            "Gain": number / 2,
        }
        assert (frame["chunk_bytes"], frame["size_filled"]) == (32, IMAGES[0].nbytes + 32)
        if exposure_us == 5000.0:
            brightness = 10 ** (number / 2 / 20)
            shown = np.minimum(np.floor(IMAGES[number % 2] * brightness + 0.5), 255).astype(np.uint8)
            assert frame["bytes"][:-32] == shown.tobytes()


def test_only_chunks_that_are_enabled_come(opened: Any, client_error: Any) -> None:
    arm(opened, "ExposureTime")
    frame = trigger(opened)
    assert frame["chunks"] == {"ExposureTime": 5000.0}
    for feature in ("ChunkModeActive", "ChunkEnable"):
        with pytest.raises(client_error):
            opened.set("C1", feature, False)  # the size of a frame is locked
    opened.stop("C1")
    opened.set("C1", "ChunkSelector", "Gain")
    assert opened.get("C1", "ChunkEnable") is False
    opened.set("C1", "ChunkModeActive", False)
    opened.start("C1")
    frame = trigger(opened)
    assert (frame["chunks"], frame["size_filled"], frame["chunk_bytes"]) == ({}, IMAGES[0].nbytes, 0)


def test_a_frame_cut_short_has_no_chunks(opened: Any, camera: ReplayCamera) -> None:
    arm(opened, "FrameID")
    camera.short_every = 2
    assert trigger(opened)["chunks"] == {"FrameID": 0}
    short = trigger(opened)
    assert (short["chunks"], short["size_filled"]) == ({}, IMAGES[0].nbytes - 25)


def test_the_cameras_own_count_does_not_wrap(opened: Any, camera: ReplayCamera) -> None:
    camera.wrap_frame_ids(65535)
    arm(opened, "FrameID")
    frames = [trigger(opened) for _ in range(2)]
    assert [(frame["frame_id"], frame["chunks"]["FrameID"]) for frame in frames] == [(65535, 65535), (0, 65536)]


def test_automatic_exposure_is_told_by_the_chunk(opened: Any, camera: ReplayCamera, client_error: Any) -> None:
    opened.set("C1", "ExposureAuto", "Continuous")
    arm(opened, "ExposureTime")
    for exposure_us in (300, 4000):
        camera.auto_exposure_us = exposure_us
        assert trigger(opened)["chunks"] == {"ExposureTime": float(exposure_us)}
        assert opened.get("C1", "ExposureTime") == exposure_us
    with pytest.raises(client_error):
        opened.set("C1", "ExposureTime", 100.0)


# Events


@pytest.mark.parametrize("way", ["cable", "told"])
def test_a_loss_is_told_once(opened: Any, camera: ReplayCamera, way: str) -> None:
    assert opened.get("C1", "device:EventNotification") == "Off"
    opened.set("C1", "device:EventNotification", "On")
    opened.start("C1")
    assert opened.event("C1", 0.02) is None
    before_ns = time.monotonic_ns()
    if way == "cable":
        camera.online = False
    else:
        camera.vanish(is_told=True)
    event = opened.event("C1", 5.0)
    assert event is not None
    assert (event["id"], event["EventDeviceLost"]) == ("9001", 0x9001)
    assert before_ns <= event["EventDeviceLostTimestamp"] <= time.monotonic_ns()
    assert opened.event("C1", 0.02) is None


@pytest.mark.parametrize("notification", ["Off", "On"])
def test_a_loss_may_stay_untold(opened: Any, camera: ReplayCamera, client_error: Any, notification: str) -> None:
    opened.set("C1", "device:EventNotification", notification)
    opened.start("C1")
    camera.vanish(is_told=notification == "Off")
    assert opened.event("C1", 0.03) is None
    assert opened.fetch("C1", 0.03) is None
    with pytest.raises(client_error):
        opened.get("C1", "DeviceTemperature")


# Buffer handling


@pytest.mark.parametrize("mode", ["OldestFirst", "OldestFirstOverwrite", "NewestOnly"])
def test_what_a_slow_client_gets(opened: Any, camera: ReplayCamera, client_error: Any, mode: str) -> None:
    opened.set("C1", "stream:StreamBufferHandlingMode", mode)
    opened.set("C1", "ExposureTime", 10.0)
    opened.set("C1", "AcquisitionFrameRate", 500.0)
    opened.start("C1")
    with pytest.raises(client_error):
        opened.set("C1", "stream:StreamBufferHandlingMode", mode)  # the stream runs
    while camera.counters.exposed < 8:
        time.sleep(0.002)
    camera.stall = True
    time.sleep(0.02)
    taken = camera.counters.exposed
    ids = []
    while (frame := opened.fetch("C1", 0.05)) is not None:
        ids.append(frame["frame_id"])
    newest = list(range(taken - 3, taken))
    assert ids == {"OldestFirst": [0, 1, 2], "OldestFirstOverwrite": newest, "NewestOnly": newest[-1:]}[mode]
    counted = camera.counters
    lost = taken - len(ids)
    assert (counted.underruns, counted.discarded) == ((lost, 0) if mode == "OldestFirst" else (0, lost))


def test_the_bench_may_change_the_mode(opened: Any, camera: ReplayCamera) -> None:
    assert camera.buffer_handling is BufferHandling.OLDEST_FIRST
    camera.buffer_handling = BufferHandling.NEWEST_ONLY
    assert opened.get("C1", "stream:StreamBufferHandlingMode") == "NewestOnly"
