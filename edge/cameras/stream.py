"""The grabber's loop while the camera streams: triggers out, frames in, one exposure at a time."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from edge.cameras.camera import FramesMissing, TriggerFailed
from edge.cameras.clock import CameraClock
from edge.cameras.layout import ImageLayout
from edge.cameras.link import FrameHeader
from edge.cameras.ring import RingGeometry, create_ring
from edge.cameras.sequence import DUPLICATE, STALE, FrameSequence
from edge.cameras.statistics import SignOfLife, TransportCounts
from edge.config import DeviceConfig

if TYPE_CHECKING:
    from edge.cameras.link import Link
    from edge.cameras.source import Source

# The longest the loop waits for one thing, and so is deaf to the other: for a buffer, or for the parent.
WAIT_S = 0.05
SLOT_POLL_S = 0.001
HEARTBEAT_S = 0.5
SIGN_S = 0.2
CLOCK_EVERY_S = 10.0
# A clock known worse than this tells no latency.
CLOCK_LIMIT_NS = 5_000_000


class Stream:
    """Runs the camera until the parent says stop.

    It waits where the next thing must come from: for a request when no exposure is outstanding, else for the buffer.
    Waiting in the producer costs far less than polling it, whose every miss is an exception, and wakes at once.

    A trigger that got no frame in time is followed by a restart of the acquisition, so that a late frame can never be
    taken for the answer to the next trigger. Neither is a frame that came before, or was exposed before the trigger:
    the trigger waits on for its own. Frames that nobody asked for have no trigger.
    """

    def __init__(
        self, link: Link, source: Source, layout: ImageLayout, config: DeviceConfig, *, is_software_triggered: bool
    ) -> None:
        self._link = link
        self._source = source
        self._layout = layout
        self._is_software_triggered = is_software_triggered
        self._frame_timeout_s = config.frame_timeout_ms / 1e3
        self._requests: deque[int] = deque()
        self._deadline_s: float | None = None  # of the first request
        self._is_exposing = False
        self._fired_ns = 0
        self._refused = ""  # what came instead of the frame asked for
        self._faults = {DUPLICATE: 0, STALE: 0}
        self._transport_before = TransportCounts()
        self._alive_at_s = self._sign_due_s = time.monotonic()
        geometry = RingGeometry(config.ring_slots, math.prod(layout.shape))
        self._ring, descriptor = create_ring(geometry)
        link.send(geometry)
        reduction.send_handle(link, descriptor, os.getppid())
        os.close(descriptor)
        self._begin()

    def _begin(self) -> None:
        self._sequence = FrameSequence()
        self._clock = CameraClock(self._source.read_clock(), time.monotonic_ns())
        self._clock_due_s = time.monotonic() + CLOCK_EVERY_S
        self._source.start()

    def step(self) -> bool:
        """Wait once and do what came; False when the parent wants to end.

        Raises:
            Transport.errors: the camera is lost.
        """
        if not self._receive_requests():
            return False
        buffer = None
        if self._is_software_triggered and not self._is_exposing:
            buffer = self._source.fetch(0)  # unasked, and never the answer to a trigger not yet fired
            if buffer is None:
                self._fire()
        if buffer is None and (self._is_exposing or not self._is_software_triggered):
            buffer = self._source.fetch(self._wait_ms())
        now_s = time.monotonic()
        if buffer is not None:
            self._alive_at_s = now_s
            self._deliver(buffer)
        elif self._deadline_s is not None and now_s > self._deadline_s:
            self._give_up()
        elif self._source.is_maybe_lost() or now_s > self._alive_at_s + HEARTBEAT_S:
            self._source.check_alive()
            self._alive_at_s = now_s
        if now_s >= self._sign_due_s:
            self._sign_due_s = now_s + SIGN_S
            self._give_sign()
        if now_s >= self._clock_due_s and not self._is_exposing:
            self._clock_due_s = now_s + CLOCK_EVERY_S
            if self._clock.is_latched and (latched := self._source.read_clock()) is not None:
                self._clock.latch(latched)
        return True

    def _give_sign(self) -> None:
        clock = self._clock.known
        self._link.send(
            SignOfLife(
                duplicates=self._faults[DUPLICATE],
                stale=self._faults[STALE],
                transport=self._transport_before + self._source.transport_counts,
                clock_uncertainty_ns=None if clock is None else clock.at(time.monotonic_ns()).uncertainty_ns,
            )
        )

    def _receive_requests(self) -> bool:
        wait_s = 0.0
        if self._is_software_triggered and not self._is_exposing:
            wait_s = SLOT_POLL_S if self._requests else WAIT_S
        while self._link.poll(wait_s):
            request = self._link.recv()
            if request is None:
                return False
            self._requests.append(request)
            wait_s = 0.0
        return True

    def _wait_ms(self) -> int:
        left_s = WAIT_S if self._deadline_s is None else self._deadline_s - time.monotonic()
        return math.ceil(1e3 * min(max(left_s, 0.0), WAIT_S))

    def _fire(self) -> None:
        if not self._requests:
            return
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._frame_timeout_s
        if self._ring.has_free_slot:
            self._fired_ns = time.monotonic_ns()
            self._source.fire()
            self._is_exposing = True

    def _give_up(self) -> None:
        self._source.check_alive()
        timeout = f"within {self._frame_timeout_s * 1e3:g} ms"
        if self._is_exposing:
            reason = self._refused or f"the camera sent no frame {timeout}"
            self._link.send(TriggerFailed(self._answered(), reason))
            self._transport_before += self._source.transport_counts
            self._source.stop()
            self._begin()
        else:
            slots = self._ring.geometry.slots
            self._link.send(TriggerFailed(self._answered(), f"none of the {slots} frames held was released {timeout}"))

    def _answered(self) -> int:
        self._is_exposing = False
        self._deadline_s = None
        self._refused = ""
        return self._requests.popleft()

    def _deliver(self, buffer: Any) -> None:
        received_monotonic_ns, received_utc_ns = time.monotonic_ns(), time.time_ns()
        slot = self._ring.claim()
        if slot is None:  # the consumer is behind: the next frame delivered shows the gap
            self._source.requeue(buffer)
            return
        facts = self._source.facts(buffer)
        camera_ns = facts.timestamp_ns
        fault = self._follow(facts.frame_id, camera_ns, received_monotonic_ns)
        if fault and self._is_exposing:
            self._refused = fault
            self._ring.give_back(slot)
            self._source.requeue(buffer)
            return
        image, image_fault = self._source.image_in(buffer, self._layout)
        self._ring.image(slot, image.shape)[...] = image
        self._source.requeue(buffer)
        self._ring.pass_on(slot)
        latency_ns = self._latency_ns(camera_ns, received_monotonic_ns)
        self._link.send(
            FrameHeader(
                ring_slot=slot,
                shape=image.shape,
                pixel_format=self._layout.pixel_format,
                frame_id=facts.frame_id or 0,
                trigger_id=self._answered() if self._is_exposing else None,
                timestamp_camera_ns=camera_ns,
                received_monotonic_ns=received_monotonic_ns,
                received_utc_ns=received_utc_ns,
                exposure_us=self._layout.exposure_us if facts.exposure_us is None else facts.exposure_us,
                is_complete=not image_fault,
                fault=fault or image_fault,
                latency_ns=latency_ns,
            )
        )

    def _follow(self, frame_id: int | None, camera_ns: int | None, received_ns: int) -> str:
        """Place the frame in order and time; returns what is wrong with its place."""
        step = self._sequence.follow(frame_id, camera_ns)
        if frame_id is not None and step.missing:
            first_id = frame_id - step.missing
            self._link.send(FramesMissing(step.missing, first_id if first_id >= 0 else first_id + 2**16))
        fault = step.fault or (STALE if self._is_before_trigger(camera_ns, received_ns) else "")
        if fault:
            self._faults[fault] += 1
        return fault

    def _is_before_trigger(self, camera_ns: int | None, received_ns: int) -> bool:
        if camera_ns is None:
            return False
        clock = self._clock.see(camera_ns, received_ns)
        return self._is_exposing and clock.latest_ns(camera_ns) < self._fired_ns

    def _latency_ns(self, camera_ns: int | None, received_ns: int) -> int | None:
        if self._is_exposing:
            return received_ns - self._fired_ns
        clock = self._clock.known
        if camera_ns is None or clock is None or clock.uncertainty_ns > CLOCK_LIMIT_NS:
            return None
        return received_ns - clock.host_ns(camera_ns)
