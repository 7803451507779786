"""A GenICam camera: starts the grabber process, hands its frames on, and starts another when it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing import reduction
from typing import TYPE_CHECKING

from edge.cameras.camera import CameraEvent, CameraInfo, CameraState, FrameArrived, StateChanged, TriggerFailed
from edge.cameras.grabber import HANG_LIMIT_S, run_grabber
from edge.cameras.link import FrameHeader, GrabberMessage
from edge.cameras.producers import describe_exit, find_producers, producer_crash
from edge.cameras.ring import Ring, RingGeometry
from edge.cameras.statistics import CameraStatistics, SignOfLife, StatisticsCounter
from edge.config import AravisConfig, GenicamConfig, TriggerConfig
from edge.errors import InputError
from edge.frame import Frame, Image

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from edge.cameras.link import Link

# How long a grabber may take to close the device before it is killed.
END_LIMIT_S = 4.0
# What a grabber gets before it is killed for its silence: the whole machine may have stood still.
GRACE_S = 0.3


@dataclass(frozen=True, slots=True)
class _Held:
    frame: Frame
    ring: Ring
    slot: int


class GenicamCamera:
    """A `Camera` behind a GenTL producer or Aravis. The station survives whatever they do."""

    def __init__(self, config: GenicamConfig | AravisConfig, trigger: TriggerConfig) -> None:
        self._config = config
        self._trigger_config = trigger
        self._events: deque[CameraEvent] = deque()
        self._outstanding: dict[int, None] = {}
        self._info: CameraInfo | None = None
        self._state = CameraState.DISCOVER
        self._reason = "not started"
        self._process: SpawnProcess | None = None
        self._link: Link
        self._restart_at_s = float("inf")
        self._setup_error: InputError | None = None
        self._rings = 0
        self._ring: Ring
        self._held: dict[int, _Held] = {}
        self._heard_at_s = 0.0
        self._counter = StatisticsCounter()

    @property
    def info(self) -> CameraInfo | None:
        """The device in use, or last in use; None until one was found."""
        return self._info

    @property
    def memory(self) -> Image | None:
        """The shared ring of the present connection."""
        return self._ring.memory if self._rings else None

    @property
    def statistics(self) -> CameraStatistics:
        """Over all connections since the camera object was made."""
        return self._counter.snapshot()

    def start(self, timeout_s: float) -> None:
        """Start the grabber; returns when the camera streams, or after `timeout_s` when it is not there yet.

        Raises:
            ProducerError: the producer is missing, is not one, or crashes while it is loaded.
            AravisError: Aravis is missing.
            CameraSetupError: a feature refused its value, or the camera cannot be triggered as configured.
        """
        if isinstance(self._config, GenicamConfig):
            find_producers(self._config.producer)
        self._spawn()
        deadline_s = time.monotonic() + timeout_s
        while self._state is not CameraState.STREAM and (left_s := deadline_s - time.monotonic()) > 0:
            self._receive(left_s)
            if self._setup_error is not None:
                self.stop()
                raise self._setup_error

    def trigger(self, trigger_id: int) -> None:
        """Queue one exposure; answered by one `FrameArrived` or `TriggerFailed`."""
        if self._trigger_config.mode != "software":
            self._events.append(TriggerFailed(trigger_id, f"trigger.mode is '{self._trigger_config.mode}'"))
            return
        if self._process is None or self._state is not CameraState.STREAM:
            self._events.append(TriggerFailed(trigger_id, f"no camera: {self._state.value}, {self._reason}"))
            return
        self._outstanding[trigger_id] = None
        try:
            self._link.send(trigger_id)
        except ConnectionError:
            return  # the process is gone: `poll` will say so, and answer every trigger outstanding

    def poll(self, timeout_s: float) -> CameraEvent | None:
        """The next event, or None after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while not self._events:
            left_s = deadline_s - time.monotonic()
            self._receive(max(left_s, 0.0))
            if left_s <= 0 and not self._events:
                return None
        return self._events.popleft()

    def release(self, frame: Frame) -> None:
        """Give the frame's slot back; its samples may change from now on.

        Raises:
            ValueError: it is not held, so the slot may be another frame's by now.
        """
        held = self._held.get(frame.ring_slot)
        if held is None or held.frame is not frame:
            raise ValueError(f"frame {frame.frame_id} was released before")
        del self._held[frame.ring_slot]
        held.ring.release(held.slot)

    def stop(self) -> None:
        """End the grabber; frames still held stay valid, triggers outstanding fail."""
        if self._process is not None:
            self._end_process(self._process)
        self._process = None
        self._restart_at_s = float("inf")
        self._state, self._reason = CameraState.LOST, "stopped"
        self._fail_outstanding()

    def _spawn(self) -> None:
        self._setup_error = None
        self._state = CameraState.DISCOVER
        context = multiprocessing.get_context("spawn")
        self._link, far_end = context.Pipe()
        self._process = context.Process(
            target=run_grabber, args=(far_end, self._config, self._trigger_config), name="grabber", daemon=True
        )
        self._process.start()
        self._heard_at_s = time.monotonic()
        far_end.close()

    def _receive(self, timeout_s: float) -> None:
        if self._process is None:
            time.sleep(min(timeout_s, max(self._restart_at_s - time.monotonic(), 0.0)))
            if time.monotonic() >= self._restart_at_s:
                self._spawn()
            return
        silence_limit_s = self._config.hang_timeout_s
        if self._state is not CameraState.STREAM:
            silence_limit_s += HANG_LIMIT_S  # till then its own alarm ends it
        try:
            if self._link.poll(min(timeout_s, silence_limit_s)):
                self._handle(self._link.recv())
                self._heard_at_s = time.monotonic()
            elif time.monotonic() - self._heard_at_s > silence_limit_s and not self._link.poll(GRACE_S):
                self._process.kill()
                self._handle_end(self._process, f"the grabber process gave no sign of life for {silence_limit_s:g} s")
        except (EOFError, OSError):
            self._handle_end(self._process)

    def _handle(self, message: GrabberMessage) -> None:
        if isinstance(message, SignOfLife):
            if self._state is CameraState.STREAM:
                self._counter.update(message)
        elif isinstance(message, FrameHeader):
            self._events.append(FrameArrived(self._frame(message)))
        elif isinstance(message, StateChanged):
            self._change_state(message)
        elif isinstance(message, CameraInfo):
            self._info = message
        elif isinstance(message, RingGeometry):
            descriptor = reduction.recv_handle(self._link)
            self._ring = Ring(descriptor, message)
            self._rings += 1
            os.close(descriptor)
        elif isinstance(message, InputError):
            self._setup_error = message
        else:
            if isinstance(message, TriggerFailed):
                del self._outstanding[message.trigger_id]
            else:
                self._counter.count_missing(message.count)
            self._events.append(message)

    def _frame(self, header: FrameHeader) -> Frame:
        self._ring.accept(header.ring_slot)
        self._counter.count_frame(is_complete=header.is_complete, latency_ns=header.latency_ns)
        if header.trigger_id is not None:
            del self._outstanding[header.trigger_id]
        frame = Frame(
            image=self._ring.image(header.ring_slot, header.shape),
            pixel_format=header.pixel_format,
            frame_id=header.frame_id,
            trigger_id=header.trigger_id,
            timestamp_camera_ns=header.timestamp_camera_ns,
            received_monotonic_ns=header.received_monotonic_ns,
            received_utc_ns=header.received_utc_ns,
            exposure_us=header.exposure_us,
            is_complete=header.is_complete,
            ring_slot=self._rings * self._config.ring_slots + header.ring_slot,
            fault=header.fault,
        )
        self._held[frame.ring_slot] = _Held(frame, self._ring, header.ring_slot)
        return frame

    def _change_state(self, change: StateChanged) -> None:
        self._state, self._reason = change.state, change.reason
        self._events.append(change)
        if change.state is CameraState.STREAM:
            self._counter.count_connection()
        elif change.state is CameraState.LOST:
            self._fail_outstanding()

    def _fail_outstanding(self) -> None:
        self._events.extend(TriggerFailed(trigger_id, self._reason) for trigger_id in self._outstanding)
        self._outstanding.clear()

    def _handle_end(self, process: SpawnProcess, reason: str = "") -> None:
        was = self._state
        exit_code = self._end_process(process)
        self._process = None
        if was is CameraState.DISCOVER and exit_code < 0 and exit_code != -signal.SIGKILL:
            self._setup_error = producer_crash(self._reason, exit_code)
        if self._setup_error is None and was is not CameraState.LOST:
            reason = reason or f"the grabber process ended with {describe_exit(exit_code)}"
            self._change_state(StateChanged(CameraState.LOST, reason))
        reason = f"next try in {self._config.backoff_s:g} s" if self._setup_error is None else str(self._setup_error)
        self._change_state(StateChanged(CameraState.BACKOFF, reason))
        self._restart_at_s = time.monotonic() + self._config.backoff_s

    def _end_process(self, process: SpawnProcess) -> int:
        with contextlib.suppress(OSError):  # it has ended by itself
            self._link.send(None)
        self._link.close()
        process.join(END_LIMIT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        exit_code = process.exitcode or 0
        process.close()
        return exit_code
