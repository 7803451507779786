"""The grabber's loop while the camera streams: triggers out, frames in, one exposure at a time."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from edge.cameras.acquirer import Acquirer
from edge.cameras.camera import FramesMissing, TriggerFailed
from edge.cameras.layout import ImageLayout, image_in, timestamp_ns
from edge.cameras.link import FrameHeader
from edge.cameras.ring import RingGeometry, create_ring
from edge.config import GenicamConfig

if TYPE_CHECKING:
    from edge.cameras.link import Link

# The longest the loop waits for one thing, and so is deaf to the other: for a buffer, or for the parent.
WAIT_S = 0.05
SLOT_POLL_S = 0.001
HEARTBEAT_S = 0.5


class Stream:
    """Runs the camera until the parent says stop.

    It waits where the next thing must come from: for a request when no exposure is outstanding, else for the buffer.
    Waiting in the producer costs far less than polling it, whose every miss is an exception, and wakes at once.

    A trigger that got no frame in time is followed by a restart of the acquisition, so that a late frame can never be
    taken for the answer to the next trigger. Frames that nobody asked for have no trigger.
    """

    def __init__(
        self, link: Link, acquirer: Acquirer, layout: ImageLayout, config: GenicamConfig, *, is_software_triggered: bool
    ) -> None:
        self._link = link
        self._acquirer = acquirer
        self._layout = layout
        self._is_software_triggered = is_software_triggered
        self._frame_timeout_s = config.frame_timeout_ms / 1e3
        self._requests: deque[int] = deque()
        self._deadline_s: float | None = None  # of the first request
        self._is_exposing = False
        self._last_frame_id: int | None = None
        self._alive_at_s = time.monotonic()
        geometry = RingGeometry(config.ring_slots, math.prod(layout.shape))
        self._ring, descriptor = create_ring(geometry)
        link.send(geometry)
        reduction.send_handle(link, descriptor, os.getppid())
        os.close(descriptor)
        acquirer.start()

    def step(self) -> bool:
        """Wait once and do what came; False when the parent wants to end.

        Raises:
            DEVICE_ERRORS: the camera is lost.
        """
        if not self._receive_requests():
            return False
        buffer = None
        if self._is_software_triggered and not self._is_exposing:
            buffer = self._acquirer.fetch(0)  # unasked, and never the answer to a trigger not yet fired
            if buffer is None:
                self._fire()
        if buffer is None and (self._is_exposing or not self._is_software_triggered):
            buffer = self._acquirer.fetch(self._wait_ms())
        now_s = time.monotonic()
        if buffer is not None:
            self._alive_at_s = now_s
            self._deliver(buffer)
        elif self._deadline_s is not None and now_s > self._deadline_s:
            self._give_up()
        elif now_s > self._alive_at_s + HEARTBEAT_S:
            self._acquirer.check_alive()
            self._alive_at_s = now_s
        return True

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
            self._acquirer.fire()
            self._is_exposing = True

    def _give_up(self) -> None:
        self._acquirer.check_alive()
        timeout = f"within {self._frame_timeout_s * 1e3:g} ms"
        if self._is_exposing:
            self._link.send(TriggerFailed(self._answered(), f"the camera sent no frame {timeout}"))
            self._acquirer.stop()
            self._acquirer.start()
        else:
            slots = self._ring.geometry.slots
            self._link.send(TriggerFailed(self._answered(), f"none of the {slots} frames held was released {timeout}"))

    def _answered(self) -> int:
        self._is_exposing = False
        self._deadline_s = None
        return self._requests.popleft()

    def _deliver(self, buffer: Any) -> None:
        received_monotonic_ns, received_utc_ns = time.monotonic_ns(), time.time_ns()
        slot = self._ring.claim()
        if slot is None:  # the consumer is behind: the next frame delivered shows the gap
            self._acquirer.requeue(buffer)
            return
        image, is_complete = image_in(buffer, self._layout)
        self._ring.image(slot, image.shape)[...] = image
        frame_id, camera_ns = int(buffer.frame_id), timestamp_ns(buffer)
        self._acquirer.requeue(buffer)
        self._ring.pass_on(slot)
        if self._last_frame_id is not None and frame_id > self._last_frame_id + 1:
            self._link.send(FramesMissing(frame_id - self._last_frame_id - 1, self._last_frame_id + 1))
        self._last_frame_id = frame_id
        self._link.send(
            FrameHeader(
                ring_slot=slot,
                shape=image.shape,
                pixel_format=self._layout.pixel_format,
                frame_id=frame_id,
                trigger_id=self._answered() if self._is_exposing else None,
                timestamp_camera_ns=camera_ns,
                received_monotonic_ns=received_monotonic_ns,
                received_utc_ns=received_utc_ns,
                exposure_us=self._layout.exposure_us,
                is_complete=is_complete,
            )
        )
