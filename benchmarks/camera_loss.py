"""How soon the station notices that its camera is gone, by how the producer shows it.

    python benchmarks/camera_loss.py [--rounds 10]

The camera is simulated, behind its GenTL producer in a grabber process, with the settings a station has by default. It
is lost at a moment drawn at random from a heartbeat's period after its last frame, while it waits for a trigger or
while a trigger waits for its frame. In turn the loss shows as a pulled cable (the wait for a buffer is aborted, and
GenTL's event DeviceLost comes), by that event alone, or only by registers that do not answer, which the heartbeat finds
out. Prints a table and writes benchmarks/results/camera_loss.json.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_rig import circumstances, keep, quantile

from edge.cameras.camera import CameraEvent, CameraState, FrameArrived, StateChanged
from edge.cameras.genicam import GenicamCamera
from edge.cameras.stream import HEARTBEAT_S
from edge.config import GenicamConfig, TriggerConfig
from simulator.build import build
from simulator.replay import ReplayCamera

SERIAL = "BENCH-0001"
PATIENCE_S = 30.0


class Bench:
    """A camera that is lost over and over."""

    def __init__(self, replay: ReplayCamera, camera: GenicamCamera) -> None:
        self._replay = replay
        self._camera = camera
        self._next_id = 0

    def noticed_s(self, lose: Callable[[], None], pause_s: float, *, is_waiting: bool) -> float:
        """From the loss to the state Lost; the camera streams again afterwards."""
        self._trigger()
        self._wait_for(lambda event: isinstance(event, FrameArrived))
        self._replay.stall = is_waiting
        if is_waiting:
            self._trigger()
        time.sleep(pause_s)
        lost_s = time.monotonic()
        lose()
        self.wait_for_state(CameraState.LOST)
        noticed_s = time.monotonic() - lost_s
        self._replay.stall = False
        self._replay.online = True
        self.wait_for_state(CameraState.STREAM)
        return noticed_s

    def wait_for_state(self, state: CameraState) -> None:
        """Returns when the camera has come to it; a grabber that fails is no loss of the camera."""
        change = self._wait_for(lambda event: isinstance(event, StateChanged) and event.state is state)
        if isinstance(change, StateChanged) and "grabber process" in change.reason:
            sys.exit(change.reason)

    def _trigger(self) -> None:
        self._camera.trigger(self._next_id)
        self._next_id += 1

    def _wait_for(self, is_it: Callable[[CameraEvent], bool]) -> CameraEvent:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            event = self._camera.poll(1.0)
            if isinstance(event, FrameArrived):
                self._camera.release(event.frame)
            if event is not None and is_it(event):
                return event
        sys.exit(f"the camera did not get on within {PATIENCE_S:g} s")


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Lose the camera `rounds` times in each way and situation."""
    noticed_s: dict[str, list[float]] = {}
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        os.environ["REPLAY_CAMERAS"] = directory
        images = np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3), dtype=np.uint8)
        config = GenicamConfig(producer=build(), serial=SERIAL, backoff_s=0.05)
        with ReplayCamera.create(Path(directory), SERIAL, images) as replay:
            camera = GenicamCamera(config, TriggerConfig())
            bench = Bench(replay, camera)
            ways: dict[str, Callable[[], None]] = {
                "cable pulled": lambda: setattr(replay, "online", False),
                "event alone": lambda: replay.vanish(is_told=True),
                "heartbeat alone": replay.vanish,
            }
            camera.start(PATIENCE_S)
            bench.wait_for_state(CameraState.STREAM)
            for _ in range(rounds):
                for is_waiting in (False, True):
                    for name, lose in ways.items():
                        situation = f"{name}, {'a trigger waits' if is_waiting else 'idle'}"
                        pause_s = moments.uniform(0, HEARTBEAT_S)
                        noticed_s.setdefault(situation, []).append(
                            bench.noticed_s(lose, pause_s, is_waiting=is_waiting)
                        )
            camera.stop()
    return {name: summary(times) for name, times in noticed_s.items()}


def summary(times_s: list[float]) -> dict[str, float]:
    """Count, median and maximum."""
    return {"n": len(times_s), "median_s": round(quantile(times_s, 0.5), 4), "maximum_s": round(max(times_s), 4)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    result = {"command": f"python benchmarks/camera_loss.py --rounds {rounds}", "heartbeat_s": HEARTBEAT_S}
    result |= circumstances()
    noticed = measure(rounds)
    print(f"{'loss':<34}{'times':>6}{'median s':>10}{'maximum s':>11}")
    for name, times in noticed.items():
        print(f"{name:<34}{times['n']:>6}{times['median_s']:>10.3f}{times['maximum_s']:>11.3f}")
    keep("camera_loss.json", result | {"noticed_after": noticed})


if __name__ == "__main__":
    main()
