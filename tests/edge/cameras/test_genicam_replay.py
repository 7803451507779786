"""The GenICam camera against replay.cti: triggers, exact samples, and everything that can go wrong with a camera."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.cameras.camera import CameraState, FrameArrived, FramesMissing, TriggerFailed
from edge.cameras.genicam import GenicamCamera
from edge.cameras.stream import HEARTBEAT_S
from edge.config import GenicamConfig, TriggerConfig
from edge.errors import CameraSetupError
from edge.pixel_format import PixelFormat
from simulator.camera_file import BufferHandling
from simulator.replay import ReplayCamera

MakeBench = Callable[[GenicamCamera], Any]
TRIGGERS = {mode: TriggerConfig(mode=mode) for mode in ("software", "line", "free_run")}


@pytest.fixture
def make(replay_config: GenicamConfig) -> Callable[..., GenicamCamera]:
    def make_camera(mode: str = "software", **changes: Any) -> GenicamCamera:
        return GenicamCamera(replay_config.model_copy(update=changes), TRIGGERS[mode])

    return make_camera


def bayer(rgb: Any) -> Any:
    """RGGB mosaic of (H, W, 3)."""
    mosaic = rgb[..., 1].copy()
    mosaic[0::2, 0::2] = rgb[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = rgb[1::2, 1::2, 2]
    return mosaic


@pytest.mark.parametrize("pixel_format", ["RGB8", "BayerRG8"])
def test_every_trigger_gets_its_frame_with_the_cameras_bytes(
    replay: ReplayCamera, replay_images: Any, make: Any, bench: MakeBench, pixel_format: str
) -> None:
    features = {"PixelFormat": pixel_format, "ExposureTime": 5_000.0}
    run = bench(make(features=features)).start()
    for trigger_id in range(70, 80):
        run.camera.trigger(trigger_id)
    for number in range(10):
        frame = run.frame()
        exposure = replay.exposures()[-1]
        original = replay_images[number % len(replay_images)]
        np.testing.assert_array_equal(frame.image, bayer(original) if pixel_format == "BayerRG8" else original)
        assert frame.pixel_format is PixelFormat(pixel_format)
        assert (frame.trigger_id, frame.frame_id) == (70 + number, number)
        assert frame.timestamp_camera_ns is not None
        assert frame.timestamp_camera_ns < frame.received_monotonic_ns
        assert frame.exposure_us == 5_000.0
        assert frame.is_complete
        run.camera.release(frame)
        assert exposure.frame_id >= number
    assert replay.counters.exposed == 10
    assert replay.counters.ignored_triggers == 0
    time.sleep(0.1)
    assert len(run.drain()) == 14  # and nothing was said but frames and four states


def test_selection_by_user_id(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make(serial=None, user_id="above the belt")).start()
    assert run.camera.info is not None
    assert (run.camera.info.serial, run.camera.info.user_id) == ("R1", "above the belt")


def test_pulses_on_the_line_expose(replay: ReplayCamera, replay_images: Any, make: Any, bench: MakeBench) -> None:
    run = bench(make("line")).start()
    for number in range(4):
        replay.pulse_line()
        frame = run.frame()
        assert (frame.trigger_id, frame.frame_id) == (None, number)
        np.testing.assert_array_equal(frame.image, replay_images[number])
        run.camera.release(frame)
    assert replay.counters.exposed == 4
    run.camera.trigger(1)
    assert run.wait_for(TriggerFailed) == TriggerFailed(1, "trigger.mode is 'line'")


def test_an_unknown_line_is_refused_with_those_there_are(make: Any, bench: MakeBench) -> None:
    camera = make("line")
    camera._trigger_config = TriggerConfig(mode="line", line="Line9")
    with pytest.raises(CameraSetupError, match=r"'TriggerSource' does not take 'Line9'.*Software, Line0"):
        bench(camera).start()


def test_the_edge_may_be_chosen(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make("line", features={"TriggerActivation": "FallingEdge"})).start()
    replay.pulse_line()
    assert run.frame().frame_id == 0


def test_a_user_set_is_loaded_before_the_trigger_is_set(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    features = {"ExposureTime": 700.0, "UserSetSelector": "Default", "UserSetLoad": True, "PixelFormat": "Mono12p"}
    run = bench(make(features=features)).start()
    run.camera.trigger(1)
    frame = run.frame()
    assert (frame.trigger_id, frame.exposure_us, frame.pixel_format) == (1, 700.0, PixelFormat.MONO12P)
    assert replay.counters.exposed == 1


def test_lost_frames_show_as_a_gap(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    replay.drop_every = 4
    run = bench(make("free_run", features={"AcquisitionFrameRate": 100.0})).start()
    seen: set[int] = set()
    while not seen or max(seen) < 6:
        frame = run.frame()
        seen.add(frame.frame_id)
        run.camera.release(frame)
    missing: set[int] = set()
    for gap in (event for event in run.events if isinstance(event, FramesMissing)):
        missing |= set(range(gap.first_frame_id, gap.first_frame_id + gap.count))
    assert 3 in missing
    assert not seen & missing
    assert seen | missing == set(range(max(seen) + 1))


def test_incomplete_frames_are_told_as_such(
    replay: ReplayCamera, replay_images: Any, make: Any, bench: MakeBench
) -> None:
    replay.incomplete_every = 2
    run = bench(make(features={"PixelFormat": "RGB8"})).start()
    for trigger_id in range(4):
        run.camera.trigger(trigger_id)
    frames = [run.frame() for _ in range(4)]
    assert [frame.is_complete for frame in frames] == [True, False, True, False]
    assert [frame.trigger_id for frame in frames] == [0, 1, 2, 3]
    half = replay_images.shape[1] // 2
    np.testing.assert_array_equal(frames[1].image[:half], replay_images[1][:half])
    assert frames[1].image.shape == replay_images[1].shape


def test_a_frame_of_which_nothing_arrived_is_incomplete(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    replay.incomplete_every = 1
    run = bench(make(features={"PixelFormat": "RGB8", "Height": 1})).start()
    run.camera.trigger(1)
    frame = run.frame()
    assert (frame.is_complete, frame.trigger_id, frame.image.shape) == (False, 1, (1, 64, 3))


def test_a_trigger_without_a_frame_fails_and_the_next_gets_its_own(
    replay: ReplayCamera, replay_images: Any, make: Any, bench: MakeBench
) -> None:
    run = bench(make(frame_timeout_ms=150.0, features={"PixelFormat": "RGB8"})).start()
    replay.stall = True
    run.camera.trigger(1)
    asked_s = time.monotonic()
    failed = run.wait_for(TriggerFailed)
    assert 0.15 <= time.monotonic() - asked_s < 1.0
    assert failed == TriggerFailed(1, "the camera sent no frame within 150 ms")
    replay.stall = False
    replay.show(2)
    run.camera.trigger(2)
    frame = run.frame()
    assert frame.trigger_id == 2
    np.testing.assert_array_equal(frame.image, replay_images[2])
    assert CameraState.LOST not in run.states


def test_a_late_frame_is_never_taken_for_the_next_trigger(
    replay: ReplayCamera, replay_images: Any, make: Any, bench: MakeBench
) -> None:
    run = bench(make(frame_timeout_ms=100.0, features={"PixelFormat": "RGB8", "ExposureTime": 160_000.0})).start()
    run.camera.trigger(1)
    run.camera.trigger(2)
    assert run.wait_for(TriggerFailed).trigger_id == 1
    assert run.wait_for(TriggerFailed).trigger_id == 2
    time.sleep(0.3)
    assert not [event for event in run.drain() if isinstance(event, FrameArrived)]


def test_frames_nobody_asked_for_have_no_trigger(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make(features={"TriggerMode": "Off", "AcquisitionFrameRate": 50.0})).start()
    for _ in range(3):
        frame = run.frame()
        assert frame.trigger_id is None
        run.camera.release(frame)


def test_frames_held_delay_a_trigger_and_then_fail_it(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make(ring_slots=2, frame_timeout_ms=300.0)).start()
    for trigger_id in range(4):
        run.camera.trigger(trigger_id)
    held = [run.frame(), run.frame()]
    time.sleep(0.1)
    assert replay.counters.exposed == 2
    run.camera.release(held[0])
    assert run.frame().trigger_id == 2
    failed = run.wait_for(TriggerFailed)
    assert failed == TriggerFailed(3, "none of the 2 frames held was released within 300 ms")
    assert replay.counters.exposed == 3


@pytest.mark.parametrize("fault", ["offline", "silent"])
def test_a_lost_camera_comes_back_configured(
    replay: ReplayCamera, replay_images: Any, make: Any, bench: MakeBench, fault: str
) -> None:
    run = bench(make(frame_timeout_ms=2000.0, features={"PixelFormat": "BayerRG8", "ExposureTime": 20_000.0})).start()
    run.camera.trigger(1)
    held = run.frame()
    samples = held.image.copy()
    replay.stall = True
    run.camera.trigger(2)
    run.camera.trigger(3)
    time.sleep(0.05)
    if fault == "offline":
        replay.online = False
    else:
        replay.vanish()
    run.wait_for_state(CameraState.LOST, 3.0)
    failed = [run.wait_for(TriggerFailed, 1.0) for _ in range(2)]
    assert [event.trigger_id for event in failed] == [2, 3]
    run.wait_for_state(CameraState.BACKOFF)
    run.camera.trigger(4)
    assert run.wait_for(TriggerFailed).trigger_id == 4
    absent = run.wait_for_state(CameraState.BACKOFF)
    assert "no camera with serial 'R1'; found: none" in absent.reason
    replay.stall = False
    replay.online = True
    run.wait_for_state(CameraState.STREAM)
    replay.show(3)
    run.camera.trigger(5)
    frame = run.frame()
    assert frame.trigger_id == 5
    assert frame.exposure_us == 20_000.0
    assert frame.pixel_format is PixelFormat.BAYER_RG8
    assert frame.image.shape == replay_images[3].shape[:2]
    assert frame.ring_slot != held.ring_slot
    np.testing.assert_array_equal(held.image, samples)
    run.camera.release(held)
    run.camera.release(frame)


def test_a_loss_that_is_told_is_noticed_before_the_heartbeat(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make()).start()
    noticed_s = []
    for trigger_id in range(3):
        run.camera.trigger(trigger_id)
        run.camera.release(run.frame())  # the next heartbeat is due HEARTBEAT_S after it
        began_s = time.monotonic()
        replay.vanish(is_told=True)
        run.wait_for_state(CameraState.LOST)
        noticed_s.append(time.monotonic() - began_s)
        if noticed_s[-1] < 0.8 * HEARTBEAT_S:
            return
        replay.online = True  # the machine was too busy
        run.wait_for_state(CameraState.STREAM)
    raise AssertionError(noticed_s)


def test_frames_are_taken_in_their_order_and_none_is_given_up(
    replay: ReplayCamera, make: Any, bench: MakeBench
) -> None:
    replay.buffer_handling = BufferHandling.NEWEST_ONLY
    bench(make()).start()
    assert replay.buffer_handling is BufferHandling.OLDEST_FIRST


@pytest.mark.parametrize("mode", [BufferHandling.OLDEST_FIRST_OVERWRITE, BufferHandling.NEWEST_ONLY])
def test_frames_given_up_by_the_producer_are_missing(
    replay: ReplayCamera, make: Any, bench: MakeBench, mode: BufferHandling
) -> None:
    run = bench(make("free_run", features={"AcquisitionFrameRate": 2000.0, "ExposureTime": 10.0})).start()
    replay.buffer_handling = mode  # as a producer whose mode cannot be chosen
    deadline_s = time.monotonic() + 10
    seen: list[int] = []
    while run.camera.statistics.missing < 20 or replay.counters.discarded < 20:
        assert time.monotonic() < deadline_s, replay.counters
        frame = run.frame()
        seen.append(frame.frame_id)
        run.camera.release(frame)
    gaps = [event for event in run.events if isinstance(event, FramesMissing)]
    missing = {number for gap in gaps for number in range(gap.first_frame_id, gap.first_frame_id + gap.count)}
    # What was lost before the first frame that came is unknown: the station's own mode keeps the first.
    assert sorted(missing | set(seen)) == list(range(seen[0], seen[-1] + 1))
    assert not missing & set(seen)


def test_an_idle_camera_is_noticed_lost(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make()).start()
    run.drain()
    replay.vanish()
    run.wait_for_state(CameraState.LOST, 2.0)


def test_a_killed_grabber_fails_its_triggers(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make()).start()
    replay.stall = True
    for trigger_id in (1, 2, 3):
        run.camera.trigger(trigger_id)
    time.sleep(0.05)
    os.kill(run.camera._process.pid, signal.SIGKILL)
    run.camera.trigger(4)
    failed = [run.wait_for(TriggerFailed, 0.5) for _ in range(4)]
    assert [event.trigger_id for event in failed] == [1, 2, 3, 4]
    assert all("SIGKILL" in event.reason for event in failed)
    replay.stall = False
    run.wait_for_state(CameraState.STREAM)
    run.camera.trigger(5)
    assert run.frame().trigger_id == 5


def test_a_camera_switched_on_late_is_found(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    replay.online = False
    run = bench(make()).start(timeout_s=0.5)
    assert CameraState.STREAM not in run.states
    replay.online = True
    run.wait_for_state(CameraState.STREAM)
    assert run.camera.info is not None


def test_a_camera_in_use_is_waited_for(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    first = bench(make()).start()
    second = bench(make()).start(timeout_s=0.5)
    change = second.wait_for_state(CameraState.BACKOFF)
    assert "'R1'" in change.reason
    first.camera.stop()
    second.wait_for_state(CameraState.STREAM)


def test_a_feature_refused_after_a_loss_does_not_end_the_station(
    replay: ReplayCamera, make: Any, bench: MakeBench
) -> None:
    camera = make()
    run = bench(camera).start()
    camera._config = camera._config.model_copy(update={"features": {"Widht": 1}})
    os.kill(camera._process.pid, signal.SIGKILL)
    run.wait_for_state(CameraState.CONFIGURE)
    run.wait_for_state(CameraState.CONFIGURE)
    run.wait_for_state(CameraState.CONFIGURE)
    reasons = {event.reason for event in run.events if getattr(event, "state", None) is CameraState.BACKOFF}
    assert any("no feature 'Widht'" in reason for reason in reasons)


def test_triggers_outstanding_fail_when_the_camera_is_stopped(
    replay: ReplayCamera, make: Any, bench: MakeBench
) -> None:
    run = bench(make()).start()
    replay.stall = True
    run.camera.trigger(1)
    run.camera.stop()
    run.camera.trigger(2)
    failed = [event.trigger_id for event in run.drain() if isinstance(event, TriggerFailed)]
    assert failed == [1, 2]
    assert run.camera.poll(0.01) is None
    replay.stall = False
    run.start()
    run.camera.trigger(3)
    assert run.frame().trigger_id == 3
