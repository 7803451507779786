"""Camera → slot → engine → judge: enqueue the next frame, then collect the previous one.

One thread calls it. While the engine computes one slot, the host fills another. Whatever happens to a frame, its
trigger leaves the ledger exactly once, as one Outcome.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from edge.cameras.camera import Camera, CameraState, FrameArrived, FramesMissing, StateChanged, TriggerFailed
from edge.config import JudgeConfig
from edge.engines.engine import Engine
from edge.errors import EngineError, ImageError
from edge.frame import Frame
from edge.manifest import Preprocessing
from edge.outcome import FrameFacts, Outcome, Pictures, Timing, VerdictKind
from edge.preprocess import preprocess
from edge.quality import Quality, measure, refusal
from edge.slots import Slot, SlotRing
from edge.triggers import Trigger, TriggerLedger
from edge.verdict import Judgement, Limits, judge

# How long a camera is listened to while the engine works; bounds the delay of collecting a result.
_LISTEN_S = 0.002
_NO_TIMING = Timing()


@dataclass(frozen=True, slots=True)
class _InFlight:
    slot: Slot
    trigger: Trigger
    frame: FrameFacts
    quality: Quality
    grab_ms: float
    preprocess_ms: float


@dataclass(slots=True)
class Counts:
    """What the pipeline met that no verdict tells."""

    late_frames: int = 0
    unasked_frames: int = 0
    missing_frames: int = 0
    engine_failures: int = 0


class Pipeline:
    """The line from a camera's events to outcomes."""

    def __init__(
        self,
        camera: Camera,
        engine: Engine,
        ring: SlotRing,
        ledger: TriggerLedger,
        preprocessing: Preprocessing,
        limits: Limits,
        judge_config: JudgeConfig,
        *,
        software_triggers: bool,
        keep_pictures: bool,
    ) -> None:
        """Join the parts; the engine must be bound to the ring's slots.

        Args:
            software_triggers: the station fires; otherwise each frame that the camera exposed is a trigger.
            keep_pictures: put copies of image and map into the outcomes.
        """
        self._camera = camera
        self._engine = engine
        self._ring = ring
        self._ledger = ledger
        self._preprocessing = preprocessing
        self._limits = limits
        self._judge_config = judge_config
        self._software_triggers = software_triggers
        self._keep_pictures = keep_pictures
        self._in_flight: deque[_InFlight] = deque()
        self._outcomes: list[Outcome] = []
        self.camera_state = StateChanged(CameraState.DISCOVER, "not started")
        self.counts = Counts()

    def fire(self) -> Trigger:
        """Fire one software trigger."""
        trigger = self._ledger.open(time.monotonic_ns(), time.time_ns())
        self._camera.trigger(trigger.trigger_id)
        return trigger

    def step(self, timeout_s: float) -> list[Outcome]:
        """Take at most one event from the camera, collect what the engine finished, and expire what is late.

        Args:
            timeout_s: how long it may wait when there is nothing to do.
        """
        self._outcomes = []
        if self._ring.has_free:
            wait_s = min(timeout_s, _LISTEN_S) if self._in_flight else timeout_s
            self._listen(self._ledger.until_deadline_s(time.monotonic_ns(), wait_s))
        self._collect(0.0 if self._ring.has_free else timeout_s)
        self._expire()
        return self._outcomes

    def _listen(self, wait_s: float) -> None:
        event = self._camera.poll(wait_s)
        if isinstance(event, FrameArrived):
            self._take(event.frame)
        elif isinstance(event, TriggerFailed):
            trigger = self._ledger.find(event.trigger_id)
            if trigger is not None:
                self._resolve(trigger, "INVALID", event.reason)
        elif isinstance(event, FramesMissing):
            self.counts.missing_frames += event.count
            # A lost frame that a software trigger asked for is told by TriggerFailed.
            for _ in range(0 if self._software_triggers else event.count):
                self._resolve(self._ledger.open(time.monotonic_ns(), time.time_ns()), "INVALID", "frame_lost")
        elif isinstance(event, StateChanged):
            self.camera_state = event

    def _take(self, frame: Frame) -> None:
        """Fill the next slot with a frame and start the engine on it."""
        try:
            trigger = self._trigger_of(frame)
            if trigger is None:
                return
            grab_ms = (frame.received_monotonic_ns - trigger.fired_monotonic_ns) / 1e6
            height, width = frame.image.shape[:2]
            facts = FrameFacts(
                frame.frame_id, (width, height), frame.timestamp_camera_ns, frame.exposure_us, frame.is_complete
            )
            if not frame.is_complete:
                self._resolve(trigger, "INVALID", "incomplete_frame", Timing(grab_ms), facts)
                return
            slot = self._ring.acquire()
            started_ns = time.perf_counter_ns()
            try:
                preprocess(frame.image, frame.pixel_format, self._preprocessing, slot.image[0])
            except ImageError as error:
                self._ring.release(slot)
                self._resolve(trigger, "INVALID", str(error), Timing(grab_ms), facts)
                return
        finally:
            self._camera.release(frame)
        quality = measure(slot.image[0])
        preprocess_ms = _since_ms(started_ns)
        why_not = refusal(quality, self._judge_config)
        if why_not is not None:
            pictures = self._pictures(slot, with_map=False)
            self._ring.release(slot)
            self._resolve(trigger, "INVALID", why_not, Timing(grab_ms, preprocess_ms), facts, quality, None, pictures)
            return
        self._engine.enqueue(slot)
        self._in_flight.append(_InFlight(slot, trigger, facts, quality, grab_ms, preprocess_ms))

    def _trigger_of(self, frame: Frame) -> Trigger | None:
        if not self._software_triggers:
            return self._ledger.open(frame.received_monotonic_ns, frame.received_utc_ns)
        if frame.trigger_id is None:
            self.counts.unasked_frames += 1
            return None
        trigger = self._ledger.find(frame.trigger_id)
        if trigger is None:
            self.counts.late_frames += 1
        return trigger

    def _collect(self, wait_s: float) -> None:
        """Judge every slot the engine has finished, oldest first; wait for the first one."""
        wait_s = self._ledger.until_deadline_s(time.monotonic_ns(), wait_s)
        while self._in_flight:
            item = self._in_flight[0]
            try:
                if not self._engine.wait(item.slot, wait_s):
                    return
                failure = None
            except EngineError as error:
                self.counts.engine_failures += 1
                failure = str(error)
            self._in_flight.popleft()
            self._finish(item, failure)
            wait_s = 0.0

    def _finish(self, item: _InFlight, failure: str | None) -> None:
        """Turn a computed slot into its trigger's outcome, unless the deadline was quicker."""
        slot = item.slot
        if self._ledger.find(item.trigger.trigger_id) is None:
            self.counts.late_frames += 1
            self._ring.release(slot)
            return
        infer_ms = self._engine.infer_ms(slot)
        started_ns = time.perf_counter_ns()
        judgement = None
        if failure is None:
            try:
                judgement = judge(slot.anomaly_map[0], float(slot.score[0]), self._limits)
            except ValueError as error:
                failure = str(error)
        timing = Timing(item.grab_ms, item.preprocess_ms, infer_ms, _since_ms(started_ns))
        pictures = self._pictures(slot, with_map=judgement is not None)
        self._ring.release(slot)
        verdict = judgement.verdict if judgement else "INVALID"
        self._resolve(item.trigger, verdict, failure or "", timing, item.frame, item.quality, judgement, pictures)

    def _expire(self) -> None:
        for trigger in self._ledger.overdue(time.monotonic_ns()):
            self._resolve(trigger, "TIMEOUT", "deadline_passed")

    def _resolve(
        self,
        trigger: Trigger,
        verdict: VerdictKind,
        reason: str,
        timing: Timing = _NO_TIMING,
        frame: FrameFacts | None = None,
        quality: Quality | None = None,
        judgement: Judgement | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self._ledger.close(trigger)
        self._outcomes.append(
            Outcome(trigger, verdict, reason, time.monotonic_ns(), timing, frame, quality, judgement, pictures)
        )

    def _pictures(self, slot: Slot, *, with_map: bool) -> Pictures | None:
        if not self._keep_pictures:
            return None
        return Pictures(np.copy(slot.image[0]), np.copy(slot.anomaly_map[0]) if with_map else None)


def _since_ms(started_ns: int) -> float:
    return (time.perf_counter_ns() - started_ns) / 1e6
