"""Everything that a camera can do wrong, against replay.cti: one answer to each trigger, the reason, and recovery."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle import load_bundle
from edge.cameras.camera import CameraState, FramesMissing, TriggerFailed
from edge.cameras.genicam import GenicamCamera
from edge.config import EngineConfig, GenicamConfig, JudgeConfig, TriggerConfig
from edge.engines.choice import open_engine
from edge.engines.golden import bound_ring
from edge.outcome import Outcome
from edge.pipeline import Pipeline
from edge.triggers import TriggerLedger
from edge.verdict import Limits
from simulator.replay import ReplayCamera

MakeBench = Callable[[GenicamCamera], Any]

GOOD, BAD, BLACK, WHITE = range(4)


@pytest.fixture(scope="session")
def replay_images() -> Any:
    """A good part, a bad one, no light, too much light; (4, 64, 64, 3)."""
    images = np.full((4, 64, 64, 3), 100, np.uint8)
    images[BAD, 20:40, 20:40] = 250
    images[BLACK], images[WHITE] = 0, 255
    return images


@pytest.fixture
def make(replay_config: GenicamConfig) -> Callable[..., GenicamCamera]:
    def make_camera(mode: str = "software", **changes: Any) -> GenicamCamera:
        features = {"PixelFormat": "RGB8", "ExposureTime": 5_000.0} | changes.pop("features", {})
        return GenicamCamera(
            replay_config.model_copy(update={"features": features} | changes), TriggerConfig(mode=mode)
        )

    return make_camera


class Line:
    """A pipeline behind the camera: fires one trigger, waits for its outcome, and sees that it stays the only one."""

    def __init__(self, camera: GenicamCamera, pipeline: Pipeline) -> None:
        self.camera = camera
        self._pipeline = pipeline

    def judge(self) -> Outcome:
        trigger = self._pipeline.fire()
        outcomes: list[Outcome] = []
        deadline_s = time.monotonic() + 10
        while not outcomes:
            assert time.monotonic() < deadline_s
            outcomes += self._pipeline.step(0.05)
        (outcome,) = outcomes
        assert outcome.trigger == trigger
        return outcome

    def wait_for(self, state: CameraState) -> str:
        deadline_s = time.monotonic() + 10
        while self._pipeline.camera_state.state is not state:
            assert time.monotonic() < deadline_s, self._pipeline.camera_state
            assert self._pipeline.step(0.05) == []
        return self._pipeline.camera_state.reason


@pytest.fixture
def line(make: Callable[..., GenicamCamera], read_only_bundle_dir: Path) -> Iterator[Line]:
    bundle = load_bundle(read_only_bundle_dir)
    limits = Limits(
        image_threshold=bundle.manifest.image_threshold.value,
        pixel_threshold=bundle.manifest.pixel_threshold.value,
        min_area_px=4,
    )
    camera = make(frame_timeout_ms=300.0)
    with closing(open_engine(EngineConfig(kind="onnxruntime"), bundle)) as engine:
        pipeline = Pipeline(
            camera,
            engine,
            bound_ring(engine, bundle, 2),
            TriggerLedger(5000.0),
            bundle.manifest.preprocessing,
            limits,
            JudgeConfig(),
            software_triggers=True,
            keep_pictures=False,
        )
        camera.start(20.0)
        made = Line(camera, pipeline)
        made.wait_for(CameraState.STREAM)
        yield made
        camera.stop()


def test_each_bad_frame_is_invalid_and_the_next_good_one_is_judged(replay: ReplayCamera, line: Line) -> None:
    replay.show(GOOD)
    assert line.judge().verdict == "OK"
    for fault, reason in {
        "duplicate_every": "duplicate_frame",
        "stale_every": "stale_frame",
        "torn_every": "torn_frame",
        "short_every": "wrong_payload_size",
        "incomplete_every": "incomplete_frame",
        "drop_every": "the camera sent no frame within 300 ms",
    }.items():
        setattr(replay, fault, 1)
        replay.show(BAD)
        refused = line.judge()
        assert (refused.verdict, refused.reason) == ("INVALID", reason)
        setattr(replay, fault, 0)
        for image, verdict in ((BAD, "NG"), (GOOD, "OK")):
            replay.show(image)
            assert (line.judge().verdict, fault) == (verdict, fault)
    for image, reason in ((BLACK, "black_frame"), (WHITE, "saturated_frame")):
        replay.show(image)
        refused = line.judge()
        assert (refused.verdict, refused.reason) == ("INVALID", reason)
    replay.show(BAD)
    assert line.judge().verdict == "NG"
    statistics = line.camera.statistics
    assert (statistics.delivered, statistics.incomplete, statistics.reconnects) == (19, 3, 0)
    assert statistics.latency_p50_ms is not None
    assert 5.0 <= statistics.latency_p50_ms <= (statistics.latency_p99_ms or 0.0)


def test_a_crash_of_the_producer_costs_one_trigger(replay: ReplayCamera, line: Line) -> None:
    replay.show(GOOD)
    assert line.judge().verdict == "OK"
    replay.crash()
    refused = line.judge()
    assert refused.verdict == "INVALID"
    assert "SIGSEGV" in refused.reason
    line.wait_for(CameraState.STREAM)
    replay.show(BAD)
    assert line.judge().verdict == "NG"
    assert line.camera.statistics.reconnects == 1


@pytest.mark.parametrize("way", ["stopped", "in the producer"])
def test_a_grabber_that_hangs_is_replaced(replay: ReplayCamera, make: Any, bench: MakeBench, way: str) -> None:
    run = bench(make(hang_timeout_s=0.6)).start()
    hung = run.camera._process.pid
    if way == "stopped":
        os.kill(hung, signal.SIGSTOP)
    else:
        replay.feature_delay_ms = 60_000
    run.camera.trigger(1)
    began_s = time.monotonic()
    lost = run.wait_for_state(CameraState.LOST)
    assert lost.reason == "the grabber process gave no sign of life for 0.6 s"
    assert 0.2 < time.monotonic() - began_s < 3.0
    assert run.wait_for(TriggerFailed) == TriggerFailed(1, lost.reason)
    assert not Path(f"/proc/{hung}").exists()
    replay.feature_delay_ms = 0
    run.wait_for_state(CameraState.STREAM)
    run.camera.trigger(2)
    assert run.frame().trigger_id == 2
    assert not [event for event in run.drain() if isinstance(event, TriggerFailed) and event.trigger_id == 2]


def test_a_grabber_that_waits_for_its_camera_lives(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    replay.online = False
    run = bench(make())
    run.start(timeout_s=0.1)
    run.wait_for_state(CameraState.BACKOFF)
    for _ in range(3):
        heard_at_s = run.camera._heard_at_s
        deadline_s = time.monotonic() + 5
        while run.camera._heard_at_s == heard_at_s:
            assert run.camera.poll(0.05) is None
            assert time.monotonic() < deadline_s


def test_a_slow_camera_is_not_taken_for_a_dead_one(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make(hang_timeout_s=1.0)).start()
    replay.feature_delay_ms = 120
    for trigger_id in range(3):
        run.camera.trigger(trigger_id)
        assert run.frame().trigger_id == trigger_id
        run.camera.release(run.events[-1].frame)
    assert CameraState.LOST not in run.states


def test_frame_ids_may_wrap(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    replay.wrap_frame_ids(65530)
    replay.drop_every = 3
    run = bench(make("line")).start()
    ids = []
    while 5 not in ids:
        replay.pulse_line()
        time.sleep(0.015)
        while (event := run.camera.poll(0.0)) is not None:
            run.events.append(event)
            if hasattr(event, "frame"):
                ids.append(event.frame.frame_id)
                run.camera.release(event.frame)
    missing = [event for event in run.events if isinstance(event, FramesMissing)]
    lost = {(event.first_frame_id + number) % 65536 for event in missing for number in range(event.count)}
    assert set(ids) | lost >= {65530, 65531, 65532, 65533, 65534, 65535, 0, 1, 2, 3, 4, 5}
    assert not set(ids) & lost
    assert len(ids) == len(set(ids))


def test_on_the_line_a_repeated_frame_is_one_answer_and_its_gap_none(
    replay: ReplayCamera, make: Any, bench: MakeBench
) -> None:
    replay.duplicate_every = 3
    run = bench(make("line")).start()
    faults = []
    for _ in range(7):
        replay.pulse_line()
        frame = run.frame()
        faults.append(frame.fault)
        run.camera.release(frame)
    assert faults == ["", "", "duplicate_frame", "", "", "duplicate_frame", ""]
    assert not [event for event in run.drain() if isinstance(event, FramesMissing)]


def test_the_cameras_clock_is_known_to_the_microsecond_scale(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    run = bench(make("free_run", features={"AcquisitionFrameRate": 50.0})).start()
    deadline_s = time.monotonic() + 5
    while (statistics := run.camera.statistics).clock_uncertainty_us is None or statistics.delivered < 5:
        assert time.monotonic() < deadline_s
        run.camera.release(run.frame())
    assert 0 < statistics.clock_uncertainty_us < 5_000
    assert statistics.latency_p50_ms is not None
    assert 5.0 <= statistics.latency_p50_ms < 500.0


def test_the_stations_metrics_tell_of_its_camera(
    make_line: Callable[..., Any], validators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.station._METRICS_EVERY_S", 0.5)
    line = make_line().start()
    topic = line.consumer.topics.metrics
    deadline_s = time.monotonic() + 20
    while not (metrics := line.consumer.of(topic)) or metrics[-1]["values"]["camera_delivered"] < 5:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    line.end()
    validators["metrics"].validate(metrics[-1])
    values = metrics[-1]["values"]
    assert values["camera_reconnects"] == values["camera_incomplete"] == 0.0
    assert 5.0 <= values["camera_latency_p50_ms"] <= values["camera_latency_p99_ms"]
    assert values["camera_clock_uncertainty_us"] > 0


def test_frames_for_which_there_was_no_buffer_are_counted(replay: ReplayCamera, make: Any, bench: MakeBench) -> None:
    features = {"AcquisitionFrameRate": 2000.0, "ExposureTime": 10.0}
    run = bench(make("free_run", ring_slots=2, features=features)).start()
    deadline_s = time.monotonic() + 5
    while (counted := run.camera.statistics).missing == 0 or counted.underruns == 0:
        assert time.monotonic() < deadline_s, counted
        run.camera.release(run.frame())
    assert counted.missing == sum(event.count for event in run.events if isinstance(event, FramesMissing))
    assert counted.underruns <= replay.counters.underruns
    assert CameraState.LOST not in run.states
