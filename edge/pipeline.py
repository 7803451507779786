"""Camera → slot → engine → judge: enqueue the next frame, then collect the previous one.

One thread calls it. While the engine computes one slot, the host fills another. Whatever happens to a frame, its
trigger leaves the ledger exactly once, as one Outcome.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.cameras.camera import Camera, CameraState, FrameArrived, FramesMissing, StateChanged, TriggerFailed
from edge.config import JudgeConfig
from edge.engines.engine import Engine, EngineTiming
from edge.errors import EngineError, EngineLostError, ImageError
from edge.frame import Frame
from edge.manifest import Preprocessing
from edge.outcome import Counts, FrameFacts, Outcome, Pictures, Timing, VerdictKind
from edge.quality import Quality, quality_of, refusal
from edge.slots import Slot, SlotRing
from edge.triggers import Trigger, TriggerLedger
from edge.verdict import Judgement, Limits, is_defective, judge

# How long a camera is listened to while the engine works; bounds the delay of collecting a result.
_LISTEN_S = 0.002
_NO_TIMING = Timing()


@dataclass(frozen=True, slots=True)
class _InFlight:
    slot: Slot
    trigger: Trigger
    frame: Frame
    grab_ms: float


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
        self.lost_engine: EngineLostError | None = None

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
        if not self._in_flight:
            self._tell_engine(self._engine.idle)
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
            if event.state is CameraState.STREAM:
                self._tell_engine(lambda: self._engine.adopt(self._camera.memory))
            self.camera_state = event

    def _take(self, frame: Frame) -> None:
        """Start the engine on a frame, in the next slot; the camera has the frame back when the slot is done."""
        trigger = self._trigger_of(frame)
        if trigger is None:
            self._camera.release(frame)
            return
        grab_ms = (frame.received_monotonic_ns - trigger.fired_monotonic_ns) / 1e6
        if frame.fault or not frame.is_complete:
            self._refuse(frame, trigger, frame.fault or "incomplete_frame", grab_ms)
            return
        slot = self._ring.acquire()
        try:
            self._engine.enqueue(slot, frame.image, frame.pixel_format, self._preprocessing)
        except (EngineError, ImageError) as error:
            self._ring.release(slot)
            self._refuse(frame, trigger, self._reason(error), grab_ms)
            return
        self._in_flight.append(_InFlight(slot, trigger, frame, grab_ms))

    def _refuse(self, frame: Frame, trigger: Trigger, reason: str, grab_ms: float) -> None:
        """Answer for a frame that the engine is not asked about."""
        facts = FrameFacts.of(frame)
        self._camera.release(frame)
        self._resolve(trigger, "INVALID", reason, Timing(grab_ms), facts)

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
                failure = self._reason(error)
            self._in_flight.popleft()
            self._finish(item, failure)
            wait_s = 0.0

    def _finish(self, item: _InFlight, failure: str | None) -> None:
        """Turn a slot that is done into its trigger's outcome, unless the deadline was quicker."""
        facts = FrameFacts.of(item.frame)
        self._camera.release(item.frame)
        if self._ledger.find(item.trigger.trigger_id) is None:
            self.counts.late_frames += 1
        elif failure is not None:
            self._resolve(item.trigger, "INVALID", failure, Timing(item.grab_ms), facts)
        else:
            self._decide(item, facts)
        self._ring.release(item.slot)

    def _decide(self, item: _InFlight, facts: FrameFacts) -> None:
        """Judge what the engine computed of a frame that shows something."""
        slot = item.slot
        started_ns = time.perf_counter_ns()
        quality = quality_of(slot.quality_sums, slot.above.size)
        reason = refusal(quality, self._judge_config)
        judgement, took = None, EngineTiming(0.0, 0.0, 0.0)
        try:
            took = self._engine.timing(slot)
            if reason is None:
                judgement = self._judge(slot)
        except EngineError as error:
            reason = self._reason(error)
        except ValueError as error:
            reason = str(error)
        timing = Timing(item.grab_ms, took.upload_ms + took.preprocess_ms, took.infer_ms, _since_ms(started_ns))
        pictures = self._pictures(slot, with_map=judgement is not None)
        verdict = judgement.verdict if judgement else "INVALID"
        self._resolve(item.trigger, verdict, reason or "", timing, facts, quality, judgement, pictures)

    def _tell_engine(self, tell: Callable[[], None]) -> None:
        """What concerns no frame: should it fail, the next frame's answer will say so."""
        try:
            tell()
        except EngineError as error:
            self._reason(error)

    def _judge(self, slot: Slot) -> Judgement:
        score = float(slot.score[0])
        if is_defective(score, slot.maxima, self._limits):
            self._engine.fetch(slot)
        return judge(score, slot.maxima, slot.anomaly_map[0], slot.above, self._limits)

    def _reason(self, error: EngineError | ImageError) -> str:
        self.counts.engine_failures += isinstance(error, EngineError)
        if isinstance(error, EngineLostError):
            self.lost_engine = error
        return str(error)

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
        try:
            self._engine.fetch(slot)
        except EngineError as error:
            self._reason(error)
            return None
        return Pictures(np.copy(slot.image[0]), np.copy(slot.anomaly_map[0]) if with_map else None)


def _since_ms(started_ns: int) -> float:
    return (time.perf_counter_ns() - started_ns) / 1e6
