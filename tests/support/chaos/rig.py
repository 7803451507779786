"""A station in a process of its own, and everything around it under control: camera, network, broker, clock, limits."""

from __future__ import annotations

import resource
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from chaos.broker import RECOVERY_S, Broker, Consumer, RecoveryError, until
from chaos.checker import Boot, Report, check
from chaos.proxy import FAIR, FaultProxy
from chaos.run import Run

from edge.config import Identity
from edge.wire import Topics
from simulator.build import build
from simulator.replay import ReplayCamera

IDENTITY = Identity(site="plant", area="paint", line="l1", station="s1")
DEADLINE_S = 1.0
_TRUTH = ("OK", "NG")  # of the camera's two images
_RESTART_NS = 200_000_000


class Rig:
    """Everything, running. Starts the station again whenever it has ended, as a service manager does."""

    def __init__(self, directory: Path, bundle: Path, *, interval_ms: float = 50.0) -> None:
        self.directory = directory
        self.runs: list[Run] = []
        self._expected: dict[int, str] = {}
        self._diary_due_s = 0.0
        self._limits: dict[int, int] = {}
        self._clock = directory / "clock"
        self._clock.write_bytes(bytes(8))
        images = np.full((2, 128, 128, 3), 100, np.uint8)
        images[1, 40:60, 70:80] = 250
        self.camera = ReplayCamera.create(directory / "cameras", "R1", images)
        self.broker = Broker(directory / "broker")
        self.broker.start()
        self.consumer = Consumer(self.broker.port, Topics(IDENTITY).verdict)
        self.proxy = FaultProxy(self.broker.port)
        self.outbox = directory / "outbox.sqlite"
        self._config = directory / "station.toml"
        self._config.write_text(
            f"""bundle = "{bundle}"
[identity]
site = "plant"
area = "paint"
line = "l1"
station = "s1"
[camera]
kind = "genicam"
producer = "{build()}"
serial = "R1"
frame_timeout_ms = 500.0
backoff_s = 0.1
[camera.features]
PixelFormat = "RGB8"
ExposureTime = 5000.0
[trigger]
interval_ms = {interval_ms}
deadline_ms = {DEADLINE_S * 1000}
[engine]
threads = 1
[mqtt]
port = {self.proxy.port}
keepalive_s = 5
reconnect_max_s = 0.5
[outbox]
path = "{self.outbox}"
[dashboard]
enabled = false
"""
        )

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.runs and self.runs[-1].ended is None:
            self.end(signal.SIGKILL)
        self.proxy.close()
        self.consumer.close()
        self.broker.end(signal.SIGKILL)
        self.camera.close()

    @property
    def run(self) -> Run:
        """The newest."""
        return self.runs[-1]

    def start(self, crash: str = "") -> Run:
        """Start the station; `crash` is `point:n`, where it shall die by itself."""
        environment = {
            "REPLAY_CAMERAS": str(self.directory / "cameras"),
            "CHAOS_CLOCK": str(self._clock),
            "CHAOS_CRASH": crash,
        }
        self.runs.append(Run(self._config, environment))
        self._apply_limits()
        return self.run

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the station by a signal; what it left behind of its own processes must end by itself."""
        self.run.process.send_signal(number)
        self.run.process.wait(RECOVERY_S)
        self.run.note_end()

    def supervise(self) -> None:
        """Start the station again if it has ended."""
        self._keep_diary()
        self.run.note_end()
        if self.run.ended is not None and time.monotonic_ns() > self.run.ended_ns + _RESTART_NS:
            self.start()

    def await_judged(self, since_ns: int) -> int:
        """Wait for a part judged after that moment and delivered; returns when it was durable.

        Raises:
            RecoveryError: there was none in time.
        """

        def judged() -> bool:
            self.supervise()
            return bool(self.run.judged_ns) and self.run.judged_ns[-1] > since_ns

        try:
            until(judged, "verdict on a part")
        except RecoveryError as error:
            said = "".join(self.run.said)
            raise RecoveryError(f"{error}; it said: {said}") from error
        return next(moment for moment in self.run.judged_ns if moment > since_ns)

    def set_clock(self, wrong_by_s: float) -> None:
        """Let the station's wall clock be wrong."""
        # In place: the station has the file mapped.
        with self._clock.open("r+b") as file:
            file.write(round(wrong_by_s * 1e9).to_bytes(8, "little", signed=True))

    def limit(self, kind: int, size_bytes: int) -> None:
        """A limit of the station's process, also after a restart; RLIM_INFINITY lifts it."""
        self._limits[kind] = size_bytes
        self._apply_limits()

    def _apply_limits(self) -> None:
        for kind, size_bytes in self._limits.items():
            for pid in (self.run.process.pid, *self.run.children()):
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, kind, (size_bytes, resource.RLIM_INFINITY))

    def finish(self) -> Report:
        """Heal everything, stop the station in order, wait for what is on its way, and judge.

        Raises:
            RecoveryError: the station does not come back.
        """
        self.proxy.set(FAIR)
        self.await_judged(time.monotonic_ns())
        self._await_deliveries(60.0)
        self.end(signal.SIGTERM)
        self._await_deliveries(10.0)
        until(lambda: not any(run.left_behind() for run in self.runs), "end of the processes it started")
        return self.report()

    def report(self) -> Report:
        """Judge what happened so far; the station must have ended."""
        boots = [
            Boot(run.boot_id, run.fired_ns, run.durable_ns, run.ended, run.ended_ns)
            for run in self.runs
            if run.ended and run.boot_id
        ]
        self._diary_due_s = 0.0
        self._keep_diary()
        return check(
            boots,
            list(self.consumer.deliveries),
            self.proxy.sessions_ns,
            deadline_s=DEADLINE_S,
            expected=self._expected,
        )

    def _keep_diary(self) -> None:
        """Before the camera's own is written over, which holds 1024 frames."""
        if time.monotonic() > self._diary_due_s:
            self._diary_due_s = time.monotonic() + 5.0
            self._expected |= {shot.timestamp_ns: _TRUTH[shot.image_index] for shot in self.camera.exposures()}

    def _await_deliveries(self, timeout_s: float) -> None:
        """Of all that is durable by now; what never comes is for the checker to tell."""
        durable = {result_id for run in self.runs for result_id in [*run.durable_ns]}
        with suppress(RecoveryError):
            until(
                lambda: durable <= {delivery.result_id for delivery in [*self.consumer.deliveries]}, "rest", timeout_s
            )
