"""The GenICam camera against real producers: what every producer must pass, then what only viky.cti can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.cameras.camera import CameraInfo, CameraState, FrameArrived, FramesMissing, StateChanged, TriggerFailed
from edge.cameras.genicam import GenicamCamera
from edge.config import FeatureValue, GenicamConfig, TriggerConfig
from edge.errors import CameraSetupError
from edge.pixel_format import PixelFormat

FREE_RUN = TriggerConfig(mode="free_run")
MakeBench = Callable[[GenicamCamera], Any]


@dataclass(frozen=True)
class Subject:
    """A producer with a free-running camera, and what it delivers."""

    config: GenicamConfig
    info: CameraInfo
    shape: tuple[int, ...]
    pixel_format: PixelFormat

    def camera(self, **changes: Any) -> GenicamCamera:
        return GenicamCamera(self.config.model_copy(update=changes), FREE_RUN)


@pytest.fixture(params=["viky", "replay"])
def subject(request: pytest.FixtureRequest, viky: Path) -> Subject:
    if request.param == "replay":
        config: GenicamConfig = request.getfixturevalue("replay_config")
        features: dict[str, FeatureValue] = {"PixelFormat": "BayerRG8", "AcquisitionFrameRate": 100}
        return Subject(
            config.model_copy(update={"features": features}),
            CameraInfo("R1", "above the belt", "tfanet-edge", "Replay"),
            (48, 64),
            PixelFormat.BAYER_RG8,
        )
    features = {"PixelFormat": "RGBa8", "Width": 320, "Height": 200, "AcquisitionFrameRate": 100}
    return Subject(
        GenicamConfig(producer=viky, serial="1", features=features, backoff_s=0.1),
        CameraInfo("1", "", "Machine Vision Games Ltd.", "Viky"),
        (200, 320, 4),
        PixelFormat.RGBA8,
    )


def grabber_pid(camera: GenicamCamera) -> int:
    assert camera._process is not None
    assert camera._process.pid is not None
    return camera._process.pid


def test_frames_come_in_order_with_what_is_known_of_them(subject: Subject, bench: MakeBench) -> None:
    run = bench(subject.camera()).start()
    frames = []
    for _ in range(8):
        frames.append(run.frame())
        run.camera.release(frames[-1])
    first_id = frames[0].frame_id
    assert [frame.frame_id for frame in frames] == list(range(first_id, first_id + 8))
    assert run.camera.info == subject.info
    assert run.states == [CameraState.DISCOVER, CameraState.OPEN, CameraState.CONFIGURE, CameraState.STREAM]
    for frame in frames:
        assert (frame.image.shape, frame.image.dtype) == (subject.shape, np.uint8)
        assert frame.pixel_format is subject.pixel_format
        assert frame.trigger_id is None
        assert frame.is_complete
        assert abs(frame.received_utc_ns - time.time_ns()) < 5e9
    received = [frame.received_monotonic_ns for frame in frames]
    assert received == sorted(received)


def test_frames_held_keep_their_samples_and_a_full_ring_shows_as_a_gap(subject: Subject, bench: MakeBench) -> None:
    run = bench(subject.camera(ring_slots=3)).start()
    held = [run.frame() for _ in range(3)]
    kept = [frame.image.copy() for frame in held]
    time.sleep(0.2)
    assert sum(isinstance(event, FrameArrived) for event in run.drain()) == 3
    for frame, samples in zip(held, kept, strict=True):
        np.testing.assert_array_equal(frame.image, samples)
        assert frame.image.ctypes.data % 4096 == 0
        run.camera.release(frame)
    missing = run.wait_for(FramesMissing)
    after = run.frame()
    assert missing.first_frame_id == held[-1].frame_id + 1
    assert after.frame_id == missing.first_frame_id + missing.count
    assert missing.count >= 5
    with pytest.raises(ValueError, match="released before"):
        run.camera.release(held[0])


def test_a_killed_grabber_is_replaced(subject: Subject, bench: MakeBench) -> None:
    run = bench(subject.camera()).start()
    held = run.frame()
    samples = held.image.copy()
    os.kill(grabber_pid(run.camera), signal.SIGKILL)
    killed_s = time.monotonic()
    lost = run.wait_for_state(CameraState.LOST)
    assert time.monotonic() - killed_s < 0.5
    assert "SIGKILL" in lost.reason
    run.wait_for_state(CameraState.STREAM)
    fresh = run.frame()
    assert fresh.image.shape == subject.shape
    np.testing.assert_array_equal(held.image, samples)
    run.camera.release(held)
    run.camera.release(fresh)
    assert run.states[4:] == [
        CameraState.LOST,
        CameraState.BACKOFF,
        CameraState.DISCOVER,
        CameraState.OPEN,
        CameraState.CONFIGURE,
        CameraState.STREAM,
    ]


def test_start_and_stop_leave_nothing_behind(
    subject: Subject, bench: MakeBench, new_shared_memory: Callable[[], set[str]]
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    camera = subject.camera()
    for cycle in range(3):
        run = bench(camera).start()
        frame = run.frame()
        pid = grabber_pid(camera)
        camera.stop()
        camera.stop()
        assert not Path(f"/proc/{pid}").exists()
        camera.release(frame)
        del frame
        run.drain()
        run.events.clear()  # frames kept would keep their ring
        if cycle == 0:
            descriptors = len(os.listdir("/proc/self/fd"))  # multiprocessing's own, kept from the first start on
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert new_shared_memory() == set()


def test_a_camera_that_is_not_there_is_waited_for(subject: Subject, bench: MakeBench) -> None:
    run = bench(subject.camera(serial="no-such"))
    before_s = time.monotonic()
    run.start(timeout_s=0.7)
    assert 0.7 <= time.monotonic() - before_s < 3
    change = run.wait_for_state(CameraState.BACKOFF)
    assert "'no-such'" in change.reason
    assert f"'{subject.info.serial}'" in change.reason
    assert run.camera.info is None
    run.camera.trigger(1)


def test_a_misspelt_feature_is_refused_at_the_start(subject: Subject, bench: MakeBench) -> None:
    with pytest.raises(CameraSetupError, match="no feature 'Widht'"):
        bench(subject.camera(features={"Widht": 100})).start()


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("Width", 5, ["5", "from 100 to 800 in steps of 1"]),
        ("PixelFormat", "Mono12", ["'Mono12'", "RGBa8, Mono8"]),
        ("EventNotification", "Off", ["not writable"]),
    ],
)
def test_a_refused_value_is_told_with_what_is_allowed(
    viky: Path, bench: MakeBench, feature: str, value: Any, words: list[str]
) -> None:
    config = GenicamConfig(producer=viky, serial="0", features={feature: value})
    with pytest.raises(CameraSetupError, match=f"'{feature}'") as refused:
        bench(GenicamCamera(config, FREE_RUN)).start()
    for word in words:
        assert word in str(refused.value)


def test_features_are_written(viky: Path, bench: MakeBench) -> None:
    features = {
        "AcquisitionFrameRate": 50.0,
        "AcquisitionFrameRateAbs": 150,
        "Width": 640,
        "Height": 111,
        "ChunkModeActive": False,
        "PixelFormat": "Mono8",
        "DeviceRegistersStreamingStart": True,
    }
    run = bench(GenicamCamera(GenicamConfig(producer=viky, serial="0", features=features), FREE_RUN)).start()
    frames = []
    for _ in range(20):
        frames.append(run.frame())
        run.camera.release(frames[-1])
    assert (frames[0].image.shape, frames[0].pixel_format) == ((111, 640), PixelFormat.MONO8)
    took_s = (frames[-1].received_monotonic_ns - frames[0].received_monotonic_ns) / 1e9
    assert 19 / 250 < took_s < 19 / 60


@pytest.mark.parametrize("mode", ["software", "line"])
def test_a_camera_without_triggers_only_runs_freely(viky: Path, bench: MakeBench, mode: Any) -> None:
    config = GenicamConfig(producer=viky, serial="0")
    with pytest.raises(CameraSetupError, match=r"has no trigger.*free_run"):
        bench(GenicamCamera(config, TriggerConfig(mode=mode))).start()


def test_a_software_trigger_in_free_run_fails(viky: Path, bench: MakeBench) -> None:
    run = bench(GenicamCamera(GenicamConfig(producer=viky, serial="0"), FREE_RUN)).start()
    run.camera.trigger(7)
    assert run.wait_for(TriggerFailed) == TriggerFailed(7, "trigger.mode is 'free_run'")


def test_a_grabber_that_hangs_is_killed_by_stop(viky: Path, bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cameras.genicam.END_LIMIT_S", 0.2)
    run = bench(GenicamCamera(GenicamConfig(producer=viky, serial="0"), FREE_RUN)).start()
    pid = grabber_pid(run.camera)
    os.kill(pid, signal.SIGSTOP)
    run.camera.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_the_grabber_ends_with_its_parent(viky: Path) -> None:
    program = f"""
        import time
        from edge.cameras.genicam import GenicamCamera
        from edge.config import FeatureValue, GenicamConfig, TriggerConfig

        if __name__ == "__main__":
            camera = GenicamCamera(GenicamConfig(producer={str(viky)!r}, serial="0"), TriggerConfig(mode="free_run"))
            camera.start(20.0)
            print(camera._process.pid, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    deadline_s = time.monotonic() + 3
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_the_terminals_interrupt_does_not_reach_the_camera(viky: Path, bench: MakeBench) -> None:
    run = bench(GenicamCamera(GenicamConfig(producer=viky, serial="0"), FREE_RUN)).start()
    os.kill(grabber_pid(run.camera), signal.SIGINT)
    for _ in range(5):
        run.camera.release(run.frame())
    assert CameraState.LOST not in run.states


def test_a_grabber_told_to_terminate_closes_the_camera(viky: Path, bench: MakeBench) -> None:
    run = bench(GenicamCamera(GenicamConfig(producer=viky, serial="0", backoff_s=0.1), FREE_RUN)).start()
    run.frame()
    os.kill(grabber_pid(run.camera), signal.SIGTERM)
    assert "exit status 0" in run.wait_for_state(CameraState.LOST).reason
    assert isinstance(run.wait_for_state(CameraState.STREAM), StateChanged)
