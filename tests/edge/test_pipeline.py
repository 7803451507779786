"""The pipeline under a scripted camera, a scripted engine and a clock that only moves when told to."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge import pipeline as pipeline_module
from edge.cameras.camera import CameraState, FrameArrived, FramesMissing, StateChanged, TriggerFailed
from edge.config import JudgeConfig
from edge.engines.engine import EngineTiming
from edge.errors import EngineError, EngineLostError
from edge.frame import Frame
from edge.manifest import Preprocessing
from edge.pipeline import Pipeline
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess
from edge.quality import sum_up
from edge.slots import Owner, SlotRing
from edge.triggers import TriggerLedger
from edge.verdict import Limits, tile_maxima

DEADLINE_MS = 100


class Clock:
    """Stands in for the `time` module."""

    def __init__(self):
        self.now_ns = 1_000_000_000

    def advance_ms(self, duration_ms):
        self.now_ns += round(duration_ms * 1e6)

    def monotonic_ns(self):
        return self.now_ns

    time_ns = perf_counter_ns = monotonic_ns


class ScriptedCamera:
    info = None
    memory = np.zeros(8, np.uint8)

    def __init__(self):
        self.events = deque()
        self.asked = deque()
        self.held = 0

    def trigger(self, trigger_id):
        self.asked.append(trigger_id)

    def poll(self, timeout_s):
        assert timeout_s >= 0
        event = self.events.popleft() if self.events else None
        self.held += isinstance(event, FrameArrived)
        return event

    def release(self, frame):
        self.held -= 1
        assert self.held >= 0


class ScriptedEngine:
    """Finishes slots when told to; the score of a frame is its grey level / 255."""

    precision = "fp32"
    artefact_sha256 = "0" * 64

    def __init__(self):
        self.queue = deque()
        self.finished = {}
        self.fetched = 0
        self.idles = 0
        self.adopted = []

    def adopt(self, memory):
        self.adopted.append(memory)

    def idle(self):
        self.idles += 1

    def enqueue(self, slot, image, pixel_format, settings):
        preprocess(image, pixel_format, settings, slot.image[0])
        slot.hand_over(Owner.HOST, Owner.ENGINE)
        self.queue.append(slot)

    def finish(self, error=None):
        slot = self.queue.popleft()
        slot.anomaly_map[:] = slot.image.mean(axis=3) / 255
        slot.score[0] = slot.anomaly_map.max()
        slot.maxima[:] = tile_maxima(slot.anomaly_map[0])
        sum_up(slot.image[0], slot.quality_sums)
        self.finished[slot.index] = error

    def wait(self, slot, timeout_s):
        assert timeout_s >= 0
        if slot.index not in self.finished:
            return False
        error = self.finished.pop(slot.index)
        slot.hand_over(Owner.ENGINE, Owner.HOST)
        if error is not None:
            raise error
        return True

    def fetch(self, slot):
        self.fetched += 1
        slot.above[:] = slot.anomaly_map[0] >= 0.5

    def timing(self, slot):
        return EngineTiming(0.5, 2.0, 1.0)


def a_frame(clock, trigger_id, grey=100, frame_id=0, **changes):
    facts = {
        "image": np.full((40, 60), grey, np.uint8),
        "pixel_format": PixelFormat.MONO8,
        "frame_id": frame_id,
        "trigger_id": trigger_id,
        "timestamp_camera_ns": 5,
        "received_monotonic_ns": clock.monotonic_ns(),
        "received_utc_ns": clock.time_ns(),
        "exposure_us": 500.0,
        "is_complete": True,
    }
    return FrameArrived(Frame(**(facts | changes)))


class Line:
    """A pipeline with everything around it within reach."""

    def __init__(self, monkeypatch, *, software_triggers=True, keep_pictures=False):
        self.clock = Clock()
        monkeypatch.setattr(pipeline_module, "time", self.clock)
        self.camera, self.engine, self.ring = ScriptedCamera(), ScriptedEngine(), SlotRing(2, (256, 256))
        self.pipeline = Pipeline(
            self.camera,
            self.engine,
            self.ring,
            TriggerLedger(DEADLINE_MS),
            Preprocessing(input_size_px=(256, 256)),
            Limits(image_threshold=0.5, pixel_threshold=0.5, min_area_px=1),
            JudgeConfig(),
            software_triggers=software_triggers,
            keep_pictures=keep_pictures,
        )

    def step(self, *events):
        self.camera.events.extend(events)
        return self.pipeline.step(0.0)


@pytest.fixture
def line(monkeypatch):
    return Line(monkeypatch)


@pytest.mark.parametrize(("grey", "verdict"), [(100, "OK"), (200, "NG")])
def test_a_frame_becomes_the_verdict_of_its_trigger(line, grey, verdict):
    trigger = line.pipeline.fire()
    line.clock.advance_ms(5)
    assert line.step(a_frame(line.clock, trigger.trigger_id, grey, frame_id=7)) == []
    line.engine.finish()
    (outcome,) = line.step()
    assert (outcome.trigger, outcome.verdict, outcome.reason) == (trigger, verdict, "")
    assert outcome.frame.frame_id == 7
    assert outcome.frame.size_wh == (60, 40)
    assert (outcome.timing_ms.grab, outcome.timing_ms.preprocess, outcome.timing_ms.infer) == (5.0, 2.5, 1.0)
    assert outcome.judgement.score == pytest.approx(grey / 255)
    assert line.camera.held == 0


def test_the_next_frame_is_enqueued_before_the_previous_is_collected(line):
    first, second = line.pipeline.fire(), line.pipeline.fire()
    line.step(a_frame(line.clock, first.trigger_id))
    line.step(a_frame(line.clock, second.trigger_id))
    assert len(line.engine.queue) == 2
    line.engine.finish()
    assert [outcome.trigger for outcome in line.step()] == [first]
    line.engine.finish()
    assert [outcome.trigger for outcome in line.step()] == [second]


def test_a_full_ring_leaves_frames_with_the_camera(line):
    events = [a_frame(line.clock, line.pipeline.fire().trigger_id) for _ in range(3)]
    line.step(*events)
    line.step()
    line.step()
    assert len(line.camera.events) == 1


def test_no_frame_by_the_deadline_is_timeout_and_the_late_frame_is_no_second_verdict(line):
    trigger = line.pipeline.fire()
    line.clock.advance_ms(DEADLINE_MS)
    (outcome,) = line.step()
    assert (outcome.verdict, outcome.reason) == ("TIMEOUT", "deadline_passed")
    assert line.step(a_frame(line.clock, trigger.trigger_id)) == []
    assert line.pipeline.counts.late_frames == 1
    assert line.camera.held == 0


def test_a_slow_engine_is_timeout_and_its_slot_comes_back(line):
    trigger = line.pipeline.fire()
    line.step(a_frame(line.clock, trigger.trigger_id))
    line.clock.advance_ms(DEADLINE_MS + 1)
    assert [outcome.verdict for outcome in line.step()] == ["TIMEOUT"]
    line.engine.finish()
    assert line.step() == []
    assert all(slot.owner is Owner.NOBODY for slot in line.ring.slots)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_complete": False}, "incomplete_frame"),
        ({"image": np.zeros((40, 60), np.uint8)}, "black_frame"),
        ({"image": np.full((40, 60), 255, np.uint8)}, "saturated_frame"),
    ],
)
def test_a_frame_that_shows_nothing_is_invalid(line, changes, reason):
    trigger = line.pipeline.fire()
    outcomes = line.step(a_frame(line.clock, trigger.trigger_id, **changes))
    if line.engine.queue:
        line.engine.finish()
        outcomes += line.step()
    assert [(outcome.verdict, outcome.reason, outcome.judgement) for outcome in outcomes] == [("INVALID", reason, None)]
    assert line.camera.held == 0
    assert all(slot.owner is Owner.NOBODY for slot in line.ring.slots)


def test_a_frame_smaller_than_the_region_of_interest_is_invalid(line, monkeypatch):
    roi = Preprocessing(input_size_px=(256, 256), roi_xywh=(0, 0, 64, 64))
    monkeypatch.setattr(line.pipeline, "_preprocessing", roi)
    (outcome,) = line.step(a_frame(line.clock, line.pipeline.fire().trigger_id))
    assert outcome.verdict == "INVALID"
    assert "region of interest (0, 0, 64, 64)" in outcome.reason
    assert line.ring.has_free


def test_a_failed_trigger_is_invalid_at_once(line):
    trigger = line.pipeline.fire()
    (outcome,) = line.step(TriggerFailed(trigger.trigger_id, "camera_lost"))
    assert (outcome.verdict, outcome.reason) == ("INVALID", "camera_lost")
    assert line.step(TriggerFailed(trigger.trigger_id, "camera_lost")) == []


def test_an_engine_failure_is_invalid_and_the_line_goes_on(line):
    first, second = line.pipeline.fire(), line.pipeline.fire()
    line.step(a_frame(line.clock, first.trigger_id))
    line.step(a_frame(line.clock, second.trigger_id))
    line.engine.finish(EngineError("out of memory"))
    line.engine.finish()
    outcomes = line.step()
    assert [(outcome.verdict, outcome.reason) for outcome in outcomes] == [("INVALID", "out of memory"), ("OK", "")]


@pytest.mark.parametrize(("grey", "fetches"), [(100, 0), (200, 1)])
def test_pictures_leave_the_engine_only_when_they_are_needed(line, grey, fetches):
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id, grey))
    line.engine.finish()
    line.step()
    assert line.engine.fetched == fetches


def test_a_frame_goes_back_to_the_camera_when_the_engine_has_read_it(line):
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id))
    assert line.camera.held == 1
    line.engine.finish()
    line.step()
    assert line.camera.held == 0


def test_a_picture_that_cannot_be_fetched_changes_no_verdict(monkeypatch):
    line = Line(monkeypatch, keep_pictures=True)

    def fail(slot):
        raise EngineError("the copy failed")

    monkeypatch.setattr(line.engine, "fetch", fail)
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id))
    line.engine.finish()
    (outcome,) = line.step()
    assert (outcome.verdict, outcome.pictures) == ("OK", None)
    assert line.pipeline.counts.engine_failures == 1


def test_a_defect_that_cannot_be_fetched_is_invalid(line, monkeypatch):
    def fail(slot):
        raise EngineLostError("the GPU fell off the bus")

    monkeypatch.setattr(line.engine, "fetch", fail)
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id, grey=200))
    line.engine.finish()
    (outcome,) = line.step()
    assert (outcome.verdict, outcome.reason, outcome.judgement) == ("INVALID", "the GPU fell off the bus", None)
    assert line.pipeline.lost_engine is not None


def test_an_engine_that_does_not_take_a_frame_makes_it_invalid(line, monkeypatch):
    def fail(*_):
        raise EngineError("no memory")

    monkeypatch.setattr(line.engine, "enqueue", fail)
    (outcome,) = line.step(a_frame(line.clock, line.pipeline.fire().trigger_id))
    assert (outcome.verdict, outcome.reason) == ("INVALID", "no memory")
    assert line.camera.held == 0
    assert line.ring.has_free


def test_an_output_that_is_no_number_is_invalid(line):
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id))
    slot = line.engine.queue[0]
    line.engine.finish()
    slot.maxima[0, 0] = np.nan
    (outcome,) = line.step()
    assert (outcome.verdict, outcome.reason) == ("INVALID", "the network's output is not finite")


def test_a_frame_nobody_asked_for_gets_no_verdict(line):
    assert line.step(a_frame(line.clock, None)) == []
    assert line.pipeline.counts.unasked_frames == 1
    assert line.camera.held == 0


def test_with_a_line_trigger_every_frame_and_every_gap_is_a_trigger(monkeypatch):
    line = Line(monkeypatch, software_triggers=False)
    lost = line.step(FramesMissing(2, first_frame_id=3))
    assert [(outcome.verdict, outcome.reason) for outcome in lost] == [("INVALID", "frame_lost")] * 2
    line.step(a_frame(line.clock, None))
    line.engine.finish()
    (outcome,) = line.step()
    assert outcome.verdict == "OK"
    assert outcome.trigger.trigger_id == 2


def test_pictures_are_copies(monkeypatch):
    line = Line(monkeypatch, keep_pictures=True)
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id, grey=120))
    line.engine.finish()
    (outcome,) = line.step()
    line.ring.slots[0].image[:] = 0
    line.ring.slots[0].anomaly_map[:] = 0
    assert (outcome.pictures.image_rgb == 120).all()
    assert outcome.pictures.anomaly_map.max() == pytest.approx(120 / 255)


def test_the_camera_state_is_kept(line):
    line.step(StateChanged(CameraState.LOST, "unplugged"))
    assert line.pipeline.camera_state == StateChanged(CameraState.LOST, "unplugged")


def test_the_engine_is_told_where_the_images_of_a_streaming_camera_lie(line):
    line.step(StateChanged(CameraState.CONFIGURE, ""))
    assert line.engine.adopted == []
    line.step(StateChanged(CameraState.STREAM, ""))
    assert line.engine.adopted == [line.camera.memory]


def test_the_engine_is_told_when_there_is_nothing_to_do(line):
    line.step(a_frame(line.clock, line.pipeline.fire().trigger_id))
    assert line.engine.idles == 0
    line.engine.finish()
    line.step()
    assert line.engine.idles == 1


@pytest.mark.parametrize("call", ["idle", "adopt"])
def test_an_engine_that_fails_between_frames_is_noticed(line, monkeypatch, call):
    def fail(*_):
        raise EngineLostError("the GPU fell off the bus")

    monkeypatch.setattr(line.engine, call, fail)
    assert line.step(StateChanged(CameraState.STREAM, "")) == []
    assert line.pipeline.lost_engine is not None


class ExactlyOneVerdict(RuleBasedStateMachine):
    """Whatever order things happen in, no trigger goes without a verdict and none has two."""

    @initialize(software=st.booleans())
    def begin(self, software):
        self.patch = pytest.MonkeyPatch()
        self.line = Line(self.patch, software_triggers=software)
        self.software = software
        self.fired = 0
        self.verdicts = Counter()

    def teardown(self):
        if not hasattr(self, "line"):
            return
        self.line.clock.advance_ms(DEADLINE_MS + 1)
        for _ in range(60):
            self.step()
            if self.line.engine.queue:
                self.line.engine.finish()
        # Frames that were still with the camera opened triggers of their own when they were taken.
        self.line.clock.advance_ms(DEADLINE_MS + 1)
        self.step()
        expected = self.fired if self.software else len(self.verdicts)
        assert sorted(self.verdicts) == list(range(expected))
        assert self.line.camera.held == 0
        assert all(slot.owner is Owner.NOBODY for slot in self.line.ring.slots)
        self.patch.undo()

    @rule()
    def step(self):
        self.verdicts.update(outcome.trigger.trigger_id for outcome in self.line.pipeline.step(0.0))

    @precondition(lambda self: self.software)
    @rule()
    def fire(self):
        self.line.pipeline.fire()
        self.fired += 1

    @rule(answered=st.booleans(), grey=st.sampled_from([0, 100, 200, 255]), complete=st.booleans())
    def camera_delivers(self, answered, grey, complete):
        asked = self.line.camera.asked
        trigger_id = asked.popleft() if asked and answered else None
        self.line.camera.events.append(a_frame(self.line.clock, trigger_id, grey, is_complete=complete))

    @precondition(lambda self: self.line.camera.asked)
    @rule()
    def camera_fails(self):
        self.line.camera.events.append(TriggerFailed(self.line.camera.asked.popleft(), "frame_timeout"))

    @rule(count=st.integers(1, 3))
    def frames_get_lost(self, count):
        self.line.camera.events.append(FramesMissing(count, 0))

    @precondition(lambda self: self.line.engine.queue)
    @rule(fails=st.booleans())
    def engine_finishes(self, fails):
        self.line.engine.finish(EngineError("fault") if fails else None)

    @rule(duration_ms=st.integers(1, DEADLINE_MS))
    def time_passes(self, duration_ms):
        self.line.clock.advance_ms(duration_ms)

    @invariant()
    def no_trigger_has_two_verdicts(self):
        assert all(count == 1 for count in self.verdicts.values())


TestExactlyOneVerdict = ExactlyOneVerdict.TestCase
TestExactlyOneVerdict.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
