"""The simulated camera as a GenICam client sees it: harvesters in a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.frame import Image
from edge.pixel_format import PixelFormat
from edge.unpack import unpack
from simulator.camera_file import Fate
from simulator.replay import ReplayCamera

COLOUR: Image = np.random.default_rng(7).integers(0, 256, (3, 30, 46, 3), dtype=np.uint8)
GREY: Image = np.random.default_rng(8).integers(0, 256, (2, 20, 24), dtype=np.uint8)
FORMATS = [
    *("Mono8", "Mono10", "Mono10p", "Mono10Packed", "Mono12", "Mono12p", "Mono12Packed", "Mono16"),
    *("BayerRG8", "BayerRG12", "BayerRG12p", "BayerRG12Packed", "RGB8", "BGR8", "RGBa8", "YCbCr422_8"),
]


def as_mono(rgb: Image) -> Image:
    """ITU-R BT.601 luma, rounded."""
    return ((rgb.astype(np.uint32) @ np.array([299, 587, 114], np.uint32) + 500) // 1000).astype(np.uint8)


def as_bayer_rg(rgb: Image) -> Image:
    """PFNC BayerRG8: R G on even rows, G B on odd ones."""
    mosaic = rgb[..., 1].copy()
    mosaic[0::2, 0::2] = rgb[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = rgb[1::2, 1::2, 2]
    return mosaic


def as_ycbcr(rgb: Image) -> Image:
    """Y Cb Y Cr, full-range BT.601, chroma of two neighbours averaged; (H, 2 W)."""
    weights = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    chroma = (128 + rgb @ weights.T).reshape(len(rgb), -1, 2, 2).mean(axis=2)
    samples = np.stack([as_mono(rgb), np.clip(np.floor(chroma + 0.5), 0, 255).reshape(len(rgb), -1)], axis=-1)
    return samples.astype(np.uint8).reshape(len(rgb), -1)


def brightened(image: Image, factor: float) -> Image:
    return np.minimum(np.floor(image * factor + 0.5), 255).astype(np.uint8)


@pytest.fixture
def camera(cameras: Path) -> ReplayCamera:
    return ReplayCamera.create(cameras, "C1", COLOUR, user_id="top")


@pytest.fixture
def opened(client: Any, camera: ReplayCamera) -> Any:
    """A client that has the camera open, waiting for software triggers, with a short exposure made up for by gain."""
    client.devices()
    client.open("C1")
    client.set("C1", "TriggerMode", "On")
    return client


def trigger(client: Any) -> dict[str, Any]:
    client.execute("C1", "TriggerSoftware")
    frame = client.fetch("C1")
    assert frame is not None
    return dict(frame)


def test_several_cameras_are_listed_and_stream_at_once(client: Any, camera: ReplayCamera, cameras: Path) -> None:
    ReplayCamera.create(cameras, "B2", GREY, user_id="side", vendor="Vendor", model="Model")
    (cameras / "broken.cam").write_bytes(b"REPLAYCM" + bytes(60_000))
    devices = client.devices()
    assert [(device["serial_number"], device["user_defined_name"]) for device in devices] == [
        ("B2", "side"),
        ("C1", "top"),
    ]
    assert (devices[0]["vendor"], devices[0]["model"]) == ("Vendor", "Model")
    for serial, images in (("C1", COLOUR), ("B2", GREY)):
        client.open(serial)
        assert client.get(serial, "PayloadSize") == images[0].nbytes
        client.start(serial)
    for index in range(4):
        assert client.fetch("B2")["bytes"] == GREY[index % 2].tobytes()
        assert client.fetch("C1")["bytes"] == COLOUR[index % 3].tobytes()


def test_features_keep_what_is_written_within_their_limits(
    opened: Any, camera: ReplayCamera, client_error: Any
) -> None:
    assert opened.get("C1", "DeviceSerialNumber") == "C1"
    assert opened.get("C1", "DeviceVendorName") == "tfanet-edge"
    assert (opened.get("C1", "Width"), opened.get("C1", "Height")) == (46, 30)
    assert set(opened.choices("C1", "PixelFormat")) == set(FORMATS)
    for feature, value in {
        "ExposureTime": 1234.5,
        "Gain": 6.25,
        "AcquisitionFrameRate": 12.5,
        "TriggerMode": "Off",
        "TriggerSource": "Line0",
        "TriggerActivation": "FallingEdge",
        "TriggerSelector": "FrameStart",
        "AcquisitionMode": "Continuous",
        "PixelFormat": "BayerRG8",
        "DeviceUserID": "über dem Band",
    }.items():
        opened.set("C1", feature, value)
        assert opened.get("C1", feature) == value
    assert camera.user_id == "über dem Band"
    for feature in ("ExposureTime", "Gain", "AcquisitionFrameRate", "Width", "Height", "OffsetX"):
        low, high = opened.limits("C1", feature)
        for value in (low - 1, high + 1):
            with pytest.raises(client_error):
                opened.set("C1", feature, value)
    with pytest.raises(client_error):
        opened.set("C1", "OffsetX", 1)


def test_a_grey_camera_has_no_colour_formats(client: Any, cameras: Path, client_error: Any) -> None:
    ReplayCamera.create(cameras, "B2", GREY)
    client.devices()
    client.open("B2")
    assert set(client.choices("B2", "PixelFormat")) == {name for name in FORMATS if name.startswith("Mono")}
    with pytest.raises(client_error):
        client.set("B2", "PixelFormat", "RGB8")


@pytest.mark.parametrize(
    ("pixel_format", "pfnc", "convert"),
    [("RGB8", 0x02180014, np.asarray), ("BayerRG8", 0x01080009, as_bayer_rg), ("Mono8", 0x01080001, as_mono)],
)
def test_a_software_trigger_gives_the_image_to_the_byte(
    opened: Any, camera: ReplayCamera, pixel_format: str, pfnc: int, convert: Callable[[Image], Image]
) -> None:
    opened.set("C1", "PixelFormat", pixel_format)
    opened.start("C1")
    camera.show(2)
    for frame_id, image_index in enumerate((2, 0, 1)):
        frame = trigger(opened)
        assert frame["bytes"] == convert(COLOUR[image_index]).tobytes()
        assert (frame["frame_id"], frame["width"], frame["height"]) == (frame_id, 46, 30)
        assert (frame["pixel_format"], frame["size_filled"]) == (pfnc, opened.get("C1", "PayloadSize"))
        assert frame["delivered_image_height"] == 30
        assert frame["is_image_present"]
        exposure = camera.exposures()[-1]
        assert (exposure.frame_id, exposure.image_index, exposure.fate) == (frame_id, image_index, Fate.DELIVERED)
        assert exposure.timestamp_ns == frame["timestamp_ns"]


def test_every_format_holds_the_same_picture(opened: Any, camera: ReplayCamera) -> None:
    opened.set("C1", "Width", 44)
    seen = COLOUR[0][:, :44]
    for name in FORMATS:
        pixel_format = PixelFormat(name)
        opened.set("C1", "PixelFormat", name)
        opened.start("C1")
        camera.show(0)
        raw = np.frombuffer(trigger(opened)["bytes"], np.uint8).reshape(pixel_format.shape(44, 30))
        opened.stop("C1")
        if name.startswith("Mono"):
            np.testing.assert_array_equal(unpack(raw, pixel_format), as_mono(seen), name)
        elif name.startswith("Bayer"):
            np.testing.assert_array_equal(unpack(raw, pixel_format), as_bayer_rg(seen), name)
        elif name == "YCbCr422_8":
            np.testing.assert_array_equal(raw, as_ycbcr(seen), name)
        else:
            np.testing.assert_array_equal(raw[..., :3], seen[..., ::-1] if name == "BGR8" else seen, name)
    assert (opened.get("C1", "PayloadSize"), raw.size) == (30 * 88, 30 * 88)


@pytest.mark.parametrize(("name", "bits"), [("Mono10", 10), ("Mono12", 12), ("Mono16", 16)])
def test_white_stays_white_in_more_bits(client: Any, cameras: Path, name: str, bits: int) -> None:
    ReplayCamera.create(cameras, "B2", np.full((1, 2, 8), 255, np.uint8))
    client.devices()
    client.open("B2")
    client.set("B2", "PixelFormat", name)
    client.start("B2")
    assert set(np.frombuffer(client.fetch("B2")["bytes"], "<u2")) == {2**bits - 1}


@pytest.mark.parametrize(("pixel_format", "convert"), [("RGB8", np.asarray), ("BayerRG8", as_bayer_rg)])
def test_region_of_interest(opened: Any, pixel_format: str, convert: Callable[[Image], Image]) -> None:
    opened.set("C1", "PixelFormat", pixel_format)
    for feature, value in {"Width": 17, "Height": 9, "OffsetX": 12, "OffsetY": 20}.items():
        opened.set("C1", feature, value)
    assert opened.limits("C1", "Width") == (1, 46 - 12)
    opened.start("C1")
    assert trigger(opened)["bytes"] == convert(COLOUR[0])[20:29, 12:29].tobytes()


def test_exposure_and_gain_change_brightness(opened: Any, camera: ReplayCamera) -> None:
    opened.start("C1")
    for exposure_us, gain_db in ((2500.0, 0.0), (5000.0, 6.0), (10000.0, 0.0), (10.0, 24.0)):
        opened.set("C1", "ExposureTime", exposure_us)
        opened.set("C1", "Gain", gain_db)
        camera.show(0)
        factor = exposure_us / 5000 * 10 ** (gain_db / 20)
        assert trigger(opened)["bytes"] == brightened(COLOUR[0], factor).tobytes()


def test_size_and_format_are_locked_while_acquiring(opened: Any, client_error: Any) -> None:
    opened.start("C1")
    for feature, value in (("Width", 20), ("PixelFormat", "Mono8"), ("OffsetX", 2)):
        with pytest.raises(client_error) as caught:
            opened.set("C1", feature, value)
        assert caught.value.kind == "AccessException"
    opened.set("C1", "ExposureTime", 2000.0)
    opened.stop("C1")
    opened.set("C1", "Width", 20)
    assert opened.get("C1", "Width") == 20


def test_triggers_while_exposing_are_ignored_and_counted(opened: Any, camera: ReplayCamera) -> None:
    opened.execute("C1", "TriggerSoftware")  # not acquiring yet
    opened.set("C1", "ExposureTime", 150_000.0)
    opened.start("C1")
    for _ in range(3):
        opened.execute("C1", "TriggerSoftware")
    frame = opened.fetch("C1")
    assert frame["frame_id"] == 0
    assert time.monotonic_ns() - frame["timestamp_ns"] >= 150_000_000
    assert opened.fetch("C1", 0.2) is None
    assert (camera.counters.exposed, camera.counters.ignored_triggers) == (1, 3)


def test_pulses_on_line0(opened: Any, camera: ReplayCamera) -> None:
    opened.set("C1", "TriggerSource", "Line0")
    camera.pulse_line()  # before the start: no trigger
    opened.start("C1")
    for frame_id in range(3):
        before_ns = time.monotonic_ns()
        camera.pulse_line()
        frame = opened.fetch("C1")
        assert frame["frame_id"] == frame_id
        assert before_ns < frame["timestamp_ns"] < time.monotonic_ns()
    opened.execute("C1", "TriggerSoftware")  # the other source
    assert opened.fetch("C1", 0.1) is None
    assert camera.counters.ignored_triggers == 1


def test_free_run_keeps_its_rate_and_its_clock(opened: Any) -> None:
    opened.set("C1", "TriggerMode", "Off")
    opened.set("C1", "ExposureTime", 500.0)
    opened.set("C1", "AcquisitionFrameRate", 100.0)
    opened.start("C1")
    found = opened.frame_ids("C1", 0.8)
    timestamps = [timestamp_ns for _, timestamp_ns in found]
    ids = [frame_id for frame_id, _ in found]
    assert all(later > earlier for earlier, later in pairwise(timestamps))
    # Frame ids count exposures, so that the rate can be told however late this process was.
    rate_hz = (ids[-1] - ids[0]) / (timestamps[-1] - timestamps[0]) * 1e9
    assert rate_hz == pytest.approx(100.0, rel=0.05)
    opened.execute("C1", "TimestampLatch")
    latched_ns = opened.get("C1", "TimestampLatchValue")
    assert timestamps[-1] < latched_ns < time.monotonic_ns()


def test_the_log_keeps_the_newest(client: Any, cameras: Path) -> None:
    camera = ReplayCamera.create(cameras, "B2", GREY)
    client.devices()
    client.open("B2")
    client.set("B2", "ExposureTime", 10.0)
    client.set("B2", "AcquisitionFrameRate", 2000.0)
    client.start("B2")
    while camera.counters.exposed < 1200:
        time.sleep(0.02)
    client.stop("B2")
    log = camera.exposures()
    assert len(log) == 1024
    assert [exposure.frame_id for exposure in log] == list(range(log[0].frame_id, log[0].frame_id + 1024))
    assert all(exposure.image_index == exposure.frame_id % 2 for exposure in log)
    assert all(exposure.acquisition == 1 for exposure in log)


def test_a_dropped_frame_leaves_a_gap(opened: Any, camera: ReplayCamera) -> None:
    camera.drop_every = 3
    opened.start("C1")
    ids = []
    for _ in range(6):
        opened.execute("C1", "TriggerSoftware")
        if (frame := opened.fetch("C1", 0.15)) is not None:
            ids.append(frame["frame_id"])
    assert ids == [0, 1, 3, 4]
    assert [exposure.fate for exposure in camera.exposures()][2::3] == [Fate.DROPPED, Fate.DROPPED]
    assert (camera.counters.delivered, camera.counters.dropped) == (4, 2)


def test_without_a_free_buffer_frames_are_lost(client: Any, camera: ReplayCamera) -> None:
    client.devices()
    client.open("C1", 2)
    client.set("C1", "AcquisitionFrameRate", 100.0)
    client.start("C1")
    while camera.counters.underruns < 3:
        time.sleep(0.005)
    ids = [client.fetch("C1")["frame_id"] for _ in range(3)]
    assert ids[:2] == [0, 1]
    assert ids[2] >= 5
    assert [exposure.fate for exposure in camera.exposures()[2:5]] == [Fate.UNDERRUN] * 3


def test_incomplete_frames_are_flagged(opened: Any, camera: ReplayCamera) -> None:
    camera.incomplete_every = 2
    opened.start("C1")
    assert trigger(opened)["frame_id"] == 0
    opened.execute("C1", "TriggerSoftware")
    assert opened.fetch("C1", 0.15) is None
    assert opened.incomplete_count() == 1
    assert trigger(opened)["frame_id"] == 2
    assert (camera.counters.delivered, camera.counters.incomplete) == (3, 1)


def test_faults_that_no_flag_tells(opened: Any, camera: ReplayCamera) -> None:
    size_bytes = COLOUR[0].nbytes
    opened.start("C1")
    good = trigger(opened)
    camera.duplicate_every = 2
    repeated = trigger(opened)
    assert [repeated[key] for key in ("frame_id", "timestamp_ns", "bytes")] == [
        good[key] for key in ("frame_id", "timestamp_ns", "bytes")
    ]
    camera.duplicate_every, camera.stale_every = 0, 3
    stale = trigger(opened)
    assert (stale["frame_id"], stale["timestamp_ns"], stale["bytes"]) == (2, good["timestamp_ns"] + 1000, good["bytes"])
    camera.stale_every, camera.short_every = 0, 4
    short = trigger(opened)
    assert (short["frame_id"], short["size_filled"]) == (3, size_bytes - 46 * 3)
    camera.short_every, camera.torn_every = 0, 1
    camera.show(2)
    rows = np.frombuffer(trigger(opened)["bytes"], np.uint8).reshape(COLOUR[2].shape)
    torn = (rows != COLOUR[2]).any(axis=(1, 2))
    assert list(np.flatnonzero(torn)) == list(range(7, 15))
    fates = [exposure.fate for exposure in camera.exposures()]
    assert fates == [Fate.DELIVERED, Fate.DUPLICATE, Fate.STALE, Fate.SHORT, Fate.TORN]


def test_frame_ids_of_16_bits_wrap(opened: Any, camera: ReplayCamera) -> None:
    camera.wrap_frame_ids(65534)
    opened.start("C1")
    assert [trigger(opened)["frame_id"] for _ in range(4)] == [65534, 65535, 0, 1]


def test_a_slow_camera_lets_its_client_wait(opened: Any, camera: ReplayCamera) -> None:
    camera.feature_delay_ms = 60
    began_s = time.monotonic()
    opened.get("C1", "DeviceTemperature")
    assert time.monotonic() - began_s >= 0.06


def test_a_crash_ends_the_client(opened: Any, camera: ReplayCamera, start_client: Callable[[], Any]) -> None:
    opened.start("C1")
    camera.crash()
    with pytest.raises((EOFError, BrokenPipeError)):
        trigger(opened)
    assert opened.process.wait(10) == -signal.SIGSEGV
    other = start_client()
    other.devices()
    other.open("C1")  # it is free, and does not crash again
    other.start("C1")
    assert other.fetch("C1")["frame_id"] == 0


def test_a_stalled_camera_answers_and_delivers_nothing(opened: Any, camera: ReplayCamera) -> None:
    opened.start("C1")
    camera.stall = True
    opened.execute("C1", "TriggerSoftware")
    assert opened.fetch("C1", 0.1) is None
    assert opened.get("C1", "DeviceTemperature") > 0
    assert camera.counters.exposed == 0
    camera.stall = False
    assert trigger(opened)["frame_id"] == 0


def test_a_lost_camera_fails_and_comes_back(
    opened: Any, camera: ReplayCamera, start_client: Callable[[], Any], client_error: Any
) -> None:
    opened.start("C1")
    trigger(opened)
    camera.online = False
    with pytest.raises(client_error) as caught:
        opened.fetch("C1")
    assert caught.value.kind == "AbortException"
    with pytest.raises(client_error):
        opened.get("C1", "DeviceTemperature")
    other = start_client()
    assert other.devices() == []
    camera.online = True
    with pytest.raises(client_error):
        opened.get("C1", "DeviceTemperature")  # the old connection stays lost
    opened.kill()  # leaves the camera to others although it never closed it
    assert [device["id_"] for device in other.devices()] == ["C1"]
    other.open("C1")
    other.start("C1")
    assert other.fetch("C1")["bytes"] == COLOUR[1].tobytes()


def test_a_camera_may_vanish_in_silence(opened: Any, camera: ReplayCamera, client_error: Any) -> None:
    opened.start("C1")
    camera.vanish()
    assert opened.fetch("C1", 0.1) is None
    with pytest.raises(client_error):
        opened.get("C1", "DeviceTemperature")


def test_a_camera_belongs_to_one_process(
    opened: Any, camera: ReplayCamera, start_client: Callable[[], Any], client_error: Any
) -> None:
    other = start_client()
    other.devices()
    with pytest.raises(client_error, match="another process"):
        other.open("C1")
    opened.close("C1")
    other.open("C1")
