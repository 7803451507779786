"""Cameras through Aravis, against two simulated GigE Vision cameras on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gige_vision import GigeVisionCamera, gige_vision_camera, pattern

from edge.cameras.camera import CameraInfo, CameraState, FrameArrived, StateChanged, TriggerFailed
from edge.cameras.genicam import GenicamCamera
from edge.cameras.listing import list_cameras
from edge.config import AravisConfig, TriggerConfig
from edge.config_file import load_config
from edge.errors import CameraSetupError, ConfigError
from edge.frame import Frame

pytest.importorskip("gi", reason="PyGObject is not installed")

MakeBench = Callable[[GenicamCamera], Any]
WIDTH_PX, HEIGHT_PX = 320, 256
FEATURES = {"Width": WIDTH_PX, "Height": HEIGHT_PX}
SOFTWARE, FREE_RUN = TriggerConfig(), TriggerConfig(mode="free_run")
RATIOS = (0.001, 0.01, 0.1)
BURST = 20


@pytest.fixture
def resending() -> Iterator[GigeVisionCamera]:
    with gige_vision_camera("resending") as camera:
        yield camera


@pytest.fixture
def simulator() -> Iterator[GigeVisionCamera]:
    """Aravis' own."""
    with gige_vision_camera("aravis") as camera:
        yield camera


def through_aravis(trigger: TriggerConfig = SOFTWARE, **changes: Any) -> GenicamCamera:
    settings = {"serial": "GV-1", "features": FEATURES, "backoff_s": 0.1} | changes
    return GenicamCamera(AravisConfig(kind="aravis", **settings), trigger)


def is_whole(frame: Frame) -> bool:
    return bool(np.array_equal(frame.image, pattern(frame.frame_id, frame.image.size).reshape(frame.image.shape)))


def fire(run: Any, first_id: int) -> list[bool]:
    """Fire a burst, which is answered in turn; returns of each frame whether it is said to be complete."""
    ids = range(first_id, first_id + BURST)
    for trigger_id in ids:
        run.camera.trigger(trigger_id)
    complete = []
    for trigger_id in ids:
        answer = run.wait_for(FrameArrived | TriggerFailed)
        assert isinstance(answer, FrameArrived), answer
        frame = answer.frame
        assert frame.trigger_id == trigger_id
        assert frame.fault == ("" if frame.is_complete else "incomplete_frame")
        assert frame.image.shape == (HEIGHT_PX, WIDTH_PX)
        complete.append(frame.is_complete)
        run.camera.release(frame)
    return complete


def answers(run: Any) -> list[int]:
    answered = [event for event in run.drain() if isinstance(event, FrameArrived | TriggerFailed)]
    return sorted(event.frame.trigger_id if isinstance(event, FrameArrived) else event.trigger_id for event in answered)


def test_lost_packets_are_asked_for_again(resending: GigeVisionCamera, bench: MakeBench) -> None:
    run = bench(through_aravis(frame_timeout_ms=4000, frame_retention_ms=2000)).start()
    for number, ratio in enumerate(RATIOS):
        resending.lose(ratio)
        assert fire(run, number * BURST) == [True] * BURST
    assert answers(run) == list(range(3 * BURST))
    time.sleep(0.3)
    run.drain()
    figures = run.camera.statistics
    assert (figures.delivered, figures.incomplete, figures.missing) == (3 * BURST, 0, 0)
    assert figures.resent_packets > BURST
    assert figures.clock_uncertainty_us is not None
    assert figures.clock_uncertainty_us < 50_000  # latched, for the frames alone took longer to come


def test_without_resend_what_lacks_packets_is_never_complete(resending: GigeVisionCamera, bench: MakeBench) -> None:
    run = bench(through_aravis(FREE_RUN, packet_resend=False)).start()
    for ratio in RATIOS:
        resending.lose(ratio)
        for _ in range(BURST):
            frame = run.frame()
            assert is_whole(frame) or frame.fault == "incomplete_frame"
            run.camera.release(frame)
    figures = run.camera.statistics
    assert 0 < figures.incomplete < figures.delivered == 3 * BURST
    assert figures.resent_packets == 0


def test_aravis_simulator_answers_every_trigger(simulator: GigeVisionCamera, bench: MakeBench) -> None:
    run = bench(through_aravis()).start()
    complete: list[bool] = []
    for number, ratio in enumerate((0.0, *RATIOS)):
        simulator.lose(ratio)
        complete += fire(run, number * BURST)
        assert all(complete) == (number == 0) or ratio == RATIOS[0]
    assert answers(run) == list(range(4 * BURST))
    time.sleep(0.3)
    run.drain()
    figures = run.camera.statistics
    assert (figures.delivered, figures.incomplete) == (4 * BURST, complete.count(False))
    assert (figures.missing, figures.stale) == (0, 0)
    assert figures.missing_packets >= figures.incomplete
    assert figures.resent_packets == 0


def test_a_camera_that_went_away_is_found_again_and_set_up_anew(resending: GigeVisionCamera, bench: MakeBench) -> None:
    run = bench(through_aravis(serial=None, user_id="user GV-1")).start()
    assert run.camera.info == CameraInfo("GV-1", "user GV-1", "Aravis", "Fake")
    fire(run, 0)
    resending.kill()
    run.camera.trigger(BURST)
    run.camera.trigger(BURST + 1)
    run.wait_for_state(CameraState.LOST)
    resending.start()
    run.wait_for_state(CameraState.STREAM)
    assert fire(run, BURST + 2) == [True] * BURST
    assert answers(run) == list(range(2 * BURST + 2))
    start = [CameraState.DISCOVER, CameraState.OPEN, CameraState.CONFIGURE, CameraState.STREAM]
    assert run.states == [*start, CameraState.LOST, CameraState.BACKOFF, *start]
    assert run.camera.statistics.reconnects == 1


def test_a_camera_in_use_is_listed_and_left_alone(resending: GigeVisionCamera, bench: MakeBench) -> None:
    first = bench(through_aravis()).start()
    second = bench(through_aravis())
    second.camera.start(0.1)
    assert list_cameras(None, with_aravis=True) == [first.camera.info]
    while "another program controls it" not in second.wait_for(StateChanged).reason:
        pass
    fire(first, 0)
    first.camera.stop()
    second.wait_for_state(CameraState.STREAM)
    fire(second, 0)


def test_a_feature_that_the_camera_lacks_is_refused(resending: GigeVisionCamera, bench: MakeBench) -> None:
    with pytest.raises(CameraSetupError, match="no feature 'Exposure'"):
        bench(through_aravis(features={"Exposure": 5000.0})).start()


def test_a_missing_binding_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "gi.py").write_text("raise ImportError('No module named gi')")
    command = [sys.executable, "-m", "edge.cli", "cameras", "--aravis"]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "install gir1.2-aravis-0.8" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("frame_retention_ms = 1000.0", "frame_retention_ms must be below frame_timeout_ms"),
        ("chunk_data = true", "unknown key 'camera.aravis.chunk_data'"),
        ("ring_slots = 2", "camera.ring_slots must be above engine.slots"),
    ],
)
def test_settings_that_cannot_work_are_refused(line: str, problem: str, tmp_path: Path) -> None:
    settings = 'bundle = "bundle"\n[camera]\nkind = "aravis"\nserial = "GV-1"\n'
    (tmp_path / "good.toml").write_text(settings)
    assert isinstance(load_config(tmp_path / "good.toml").camera, AravisConfig)
    (tmp_path / "bad.toml").write_text(settings + line)
    with pytest.raises(ConfigError, match=problem):
        load_config(tmp_path / "bad.toml")
