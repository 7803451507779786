"""A station in a process of its own, and everything around it under control: camera, network, broker, clock, limits."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from chaos.broker import RECOVERY_S, Broker, Consumer, RecoveryError, until
from chaos.checker import Boot, End, Report, check
from chaos.proxy import FAIR, FaultProxy

from edge.config import Identity
from edge.wire import Topics
from simulator.build import build
from simulator.replay import ReplayCamera

IDENTITY = Identity(site="plant", area="paint", line="l1", station="s1")
DEADLINE_S = 1.0
_CHILD = Path(__file__).with_name("child.py")
_ROOT = Path(__file__).parents[3]


@dataclass(slots=True)
class Run:
    """One process of the station, and what its witness wrote.

    Attributes:
        fired_ns: when each trigger was fired, by its id.
        durable_ns: when each verdict was durable, by `result_id`.
        latencies_ns: (moment of firing, nanoseconds until durable), in the order of the verdicts.
    """

    process: subprocess.Popen[bytes]
    journal: Path
    started_ns: int
    boot_id: str = ""
    fired_ns: dict[int, int] = field(default_factory=dict)
    durable_ns: dict[str, int] = field(default_factory=dict)
    latencies_ns: list[tuple[int, int]] = field(default_factory=list)
    judged_ns: list[int] = field(default_factory=list)
    ended: End | None = None
    ended_ns: int = 0
    _read_bytes: int = 0

    def read(self) -> None:
        """Take in what is new in the journal."""
        if not self.journal.exists():
            return
        with self.journal.open("rb") as file:
            file.seek(self._read_bytes)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._read_bytes += len(lines)
        for line in lines.splitlines():
            self._take(json.loads(line))

    def _take(self, said: dict[str, object]) -> None:
        moment_ns = said["ns"]
        assert isinstance(moment_ns, int)
        if said["kind"] == "boot":
            self.boot_id = str(said["id"])
        elif said["kind"] == "trigger":
            self.fired_ns[int(str(said["id"]))] = moment_ns
        elif said["kind"] == "durable":
            fired_ns = self.fired_ns[int(str(said["trigger_id"]))]
            self.durable_ns[str(said["result_id"])] = moment_ns
            self.latencies_ns.append((fired_ns, moment_ns - fired_ns))
            if said["verdict"] in ("OK", "NG"):
                self.judged_ns.append(moment_ns)


class Rig:
    """Everything, running. Starts the station again whenever it has ended, as a service manager does."""

    def __init__(self, directory: Path, bundle: Path, *, interval_ms: float = 50.0) -> None:
        self.directory = directory
        self.runs: list[Run] = []
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
        number = len(self.runs)
        journal = self.directory / f"journal-{number}"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
            "REPLAY_CAMERAS": str(self.directory / "cameras"),
            "CHAOS_CLOCK": str(self._clock),
            "CHAOS_CRASH": crash,
        }
        with (self.directory / f"log-{number}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(_CHILD), str(journal), "run", "--config", str(self._config)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.runs.append(Run(process, journal, time.monotonic_ns()))
        return self.run

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the station by a signal; what it left behind of its own processes must end by itself."""
        self.run.process.send_signal(number)
        self.run.process.wait(RECOVERY_S)
        self.note_end()

    def note_end(self) -> None:
        """Write down how it ended, if it has."""
        run = self.run
        status = run.process.poll()
        if status is None or run.ended is not None:
            return
        run.ended_ns = time.monotonic_ns()
        run.ended = "stopped" if status == 0 else "killed" if status == -signal.SIGKILL else "failed"
        run.read()

    def supervise(self) -> None:
        """Start the station again if it has ended."""
        self.note_end()
        if self.run.ended is not None:
            self.start()

    def await_judged(self, since_ns: int) -> int:
        """Wait for a part judged after that moment and delivered; returns when it was durable.

        Raises:
            RecoveryError: there was none in time.
        """

        def judged() -> bool:
            self.supervise()
            self.run.read()
            return bool(self.run.judged_ns) and self.run.judged_ns[-1] > since_ns

        try:
            until(judged, "verdict on a part")
        except RecoveryError as error:
            said = (self.directory / f"log-{len(self.runs) - 1}").read_text(errors="replace")
            raise RecoveryError(f"{error}; it said: {said[-1000:]}") from error
        return next(moment for moment in self.run.judged_ns if moment > since_ns)

    def set_clock(self, wrong_by_s: float) -> None:
        """Let the station's wall clock be wrong."""
        # In place: the station has the file mapped.
        with self._clock.open("r+b") as file:
            file.write(round(wrong_by_s * 1e9).to_bytes(8, "little", signed=True))

    def limit(self, kind: int, size_bytes: int) -> None:
        """A limit of the running station; RLIM_INFINITY lifts it."""
        if self.run.process.poll() is None:
            resource.prlimit(self.run.process.pid, kind, (size_bytes, resource.RLIM_INFINITY))

    def children(self) -> list[int]:
        """Processes of the running station: the grabber."""
        path = Path(f"/proc/{self.run.process.pid}/task/{self.run.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def finish(self) -> Report:
        """Heal everything, stop the station in order, wait for what is on its way, and judge.

        Raises:
            RecoveryError: the station does not come back.
        """
        self.proxy.set(FAIR)
        self.await_judged(time.monotonic_ns())
        self.end(signal.SIGTERM)
        self._deliver_rest()
        until(lambda: not self.unfinished(), "end of the processes it started")
        return self.report()

    def unfinished(self) -> list[int]:
        """Sessions of ended runs that still have a process in them."""
        return [run.process.pid for run in self.runs if run.ended and _has_session(run.process.pid)]

    def report(self) -> Report:
        """Judge what happened so far; the station must have ended."""
        boots = [
            Boot(run.boot_id, run.fired_ns, run.durable_ns, run.ended, run.ended_ns)
            for run in self.runs
            if run.ended and run.boot_id
        ]
        return check(boots, list(self.consumer.deliveries), self.proxy.sessions_ns, deadline_s=DEADLINE_S)

    def _deliver_rest(self) -> None:
        durable = {result_id for run in self.runs for result_id in run.durable_ns}

        def arrived() -> bool:
            return durable <= {delivery.result_id for delivery in list(self.consumer.deliveries)}

        try:
            until(arrived, "rest", 6.0)
        except RecoveryError:  # more than it could deliver while it stopped
            self.start()
            durable.clear()
            self.await_judged(time.monotonic_ns())
            time.sleep(1.0)
            self.end(signal.SIGTERM)
            durable.update(result_id for run in self.runs for result_id in run.durable_ns)
            until(arrived, "rest", 30.0) if not arrived() else None


def _has_session(session: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False
