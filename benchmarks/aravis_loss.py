"""What packet loss makes of frames that come through Aravis, with and without resend, and how soon a camera is back.

    python benchmarks/aravis_loss.py [--frames 100] [--rounds 3]

Two simulated GigE Vision cameras on 127.0.0.1, 640x512 Mono8, software trigger, in packets of 1400 bytes: that of the
tests, which sends lost packets again (and may lose them again), with resend on and off, and the one that comes with
Aravis, which cannot. Recovery runs from the moment a killed camera is started again, once its loss was noticed, to the
first complete frame; how long it took to notice is told apart. Prints a table and writes
benchmarks/results/aravis_loss.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from edge.cameras.camera import CameraState, FrameArrived, StateChanged, TriggerFailed
from edge.cameras.genicam import GenicamCamera
from edge.config import AravisConfig, TriggerConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from gige_vision import GigeVisionCamera, gige_vision_camera

RESULT = Path(__file__).parent / "results" / "aravis_loss.json"
RATIOS = (0.0, 0.001, 0.01, 0.1)
PATIENCE_S = 30.0
SIGNS_S = 0.5  # figures of the transport layer come in a few times a second


class Bench:
    """A camera behind Aravis that answers triggers."""

    def __init__(self, *, packet_resend: bool) -> None:
        config = AravisConfig(
            kind="aravis", serial="GV-1", features={"Width": 640, "Height": 512}, packet_resend=packet_resend
        )
        self.camera = GenicamCamera(config, TriggerConfig())
        self._next_id = 0

    def ask(self) -> bool | None:
        """Fire one trigger; whether its frame is complete, None without a frame."""
        self._next_id += 1
        self.camera.trigger(self._next_id)
        while True:
            event = self.camera.poll(PATIENCE_S)
            if isinstance(event, FrameArrived) and event.frame.trigger_id == self._next_id:
                self.camera.release(event.frame)
                return event.frame.is_complete
            if isinstance(event, TriggerFailed) and event.trigger_id == self._next_id:
                return None
            if event is None:
                sys.exit(f"trigger {self._next_id} was not answered within {PATIENCE_S:g} s")

    def wait_for(self, state: CameraState) -> float:
        """When the camera came into this state."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            event = self.camera.poll(1.0)
            if isinstance(event, StateChanged) and event.state is state:
                return time.monotonic()
        sys.exit(f"not {state.value} within {PATIENCE_S:g} s")


def lose_packets(kind: str, *, packet_resend: bool, frames: int) -> list[dict[str, object]]:
    """One row for each ratio."""
    rows: list[dict[str, object]] = []
    for ratio in RATIOS:
        with gige_vision_camera(kind) as simulated:
            simulated.lose(ratio)
            bench = Bench(packet_resend=packet_resend)
            bench.camera.start(PATIENCE_S)
            answers = [bench.ask() for _ in range(frames)]
            settled_s = time.monotonic() + SIGNS_S
            while time.monotonic() < settled_s:
                bench.camera.poll(0.1)
            figures = bench.camera.statistics
            bench.camera.stop()
        rows.append(
            {
                "camera": kind,
                "packet_resend": packet_resend,
                "loss_ratio": ratio,
                "complete": answers.count(True),
                "incomplete": answers.count(False),
                "no_frame": answers.count(None),
                "resent_packets": figures.resent_packets,
                "missing_packets": figures.missing_packets,
                "latency_p50_ms": _rounded(figures.latency_p50_ms),
                "latency_p99_ms": _rounded(figures.latency_p99_ms),
            }
        )
    return rows


def lose_camera(simulated: GigeVisionCamera, bench: Bench) -> tuple[float, float]:
    """Seconds from the kill to the notice, and from the new start to the first complete frame."""
    killed_s = time.monotonic()
    simulated.kill()
    noticed_s = bench.wait_for(CameraState.LOST) - killed_s
    started_s = time.monotonic()
    simulated.start()
    bench.wait_for(CameraState.STREAM)
    if not bench.ask():
        sys.exit("the first trigger after the recovery got no complete frame")
    return noticed_s, time.monotonic() - started_s


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=100, help="per row")
    parser.add_argument("--rounds", type=int, default=3, help="times that the camera is lost")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    rows = lose_packets("resending", packet_resend=True, frames=arguments.frames)
    rows += lose_packets("resending", packet_resend=False, frames=arguments.frames)
    rows += lose_packets("aravis", packet_resend=True, frames=arguments.frames)
    with gige_vision_camera("resending") as simulated:
        bench = Bench(packet_resend=True)
        bench.camera.start(PATIENCE_S)
        losses = [lose_camera(simulated, bench) for _ in range(arguments.rounds)]
        bench.camera.stop()
    noticed_s, back_s = zip(*losses, strict=True)
    report = {
        "command": " ".join(["python", "benchmarks/aravis_loss.py", *sys.argv[1:]]),
        "machine": {
            "cores": os.cpu_count(),
            "load_average_1_min_before": round(load, 1),
            "python": platform.python_version(),
        },
        "frames_per_row": arguments.frames,
        "rows": rows,
        "losses": len(losses),
        "noticed_s": {"median": round(statistics.median(noticed_s), 2), "maximum": round(max(noticed_s), 2)},
        "reconnect_s": {"median": round(statistics.median(back_s), 2), "maximum": round(max(back_s), 2)},
    }
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print("  ".join(rows[0]))
    for row in rows:
        print("  ".join(str(value).rjust(len(name)) for name, value in row.items()))
    print(f"noticed after {report['noticed_s']} s, back after {report['reconnect_s']} s")


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None else round(value_ms, 1)


if __name__ == "__main__":
    main()
