"""How soon a lost camera delivers again, and whether anything is left behind each time.

    python benchmarks/camera_recovery.py [--rounds 100] [--limit-s 3600]

The camera is simulated, behind its GenTL producer in a grabber process, with the settings a station has by default. In
turn its cable is pulled and put back when the loss was noticed, its grabber process is killed, and its producer crashes
during an exposure. Recovery runs from the moment the camera is there again (cable) or the process is killed or dies to
the first good frame that a software trigger gets; a trigger is fired as soon as the camera streams. After each round
the station's process is looked at: resident memory, child processes, open descriptors, mapped rings, names in /dev/shm.
Prints a table and writes benchmarks/results/camera_recovery.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edge.cameras.camera import CameraState, FrameArrived, StateChanged, TriggerFailed
from edge.cameras.genicam import GenicamCamera
from edge.config import GenicamConfig, TriggerConfig
from simulator.build import build
from simulator.replay import ReplayCamera

RESULT = Path(__file__).parent / "results" / "camera_recovery.json"
SERIAL = "BENCH-0001"
SIZE_PX = 1024
WARM_UP = 3
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Footprint:
    """What the station's process holds."""

    resident_kib: int
    processes: int
    descriptors: int
    rings: int
    shm_names: int

    @staticmethod
    def now() -> Footprint:
        """Of this process."""
        status = Path("/proc/self/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return Footprint(
            resident_kib=int(resident.split()[1]),
            processes=len(children),
            descriptors=len(os.listdir("/proc/self/fd")),
            rings=Path("/proc/self/maps").read_text().count("memfd:tfanet-edge-ring"),
            shm_names=len(os.listdir("/dev/shm")),
        )


class Bench:
    """A camera that is lost and comes back."""

    def __init__(self, replay: ReplayCamera, camera: GenicamCamera) -> None:
        self._replay = replay
        self._camera = camera
        self._next_id = 0
        self._state = CameraState.DISCOVER

    def pull_cable(self) -> float:
        """Returns when it was put back."""
        self._replay.online = False
        self._wait_for(CameraState.LOST)
        self._replay.online = True
        return time.monotonic()

    def kill_grabber(self) -> float:
        """Returns when it was killed."""
        process = self._camera._process
        assert process is not None
        assert process.pid is not None
        killed_s = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        self._wait_for(CameraState.LOST)
        return killed_s

    def crash_producer(self) -> float:
        """Returns when the exposure began that it does not survive."""
        self._replay.crash()
        began_s = time.monotonic()
        self._camera.trigger(self._new_id())
        self._wait_for(CameraState.LOST)
        return began_s

    def first_good_frame_s(self) -> float:
        """When a trigger got its frame; the frame is given back."""
        self._wait_for(CameraState.STREAM)
        trigger_id = self._new_id()
        self._camera.trigger(trigger_id)
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            event = self._camera.poll(1.0)
            if isinstance(event, FrameArrived):
                arrived_s = time.monotonic()
                is_good = event.frame.trigger_id == trigger_id and not event.frame.fault
                self._camera.release(event.frame)
                if is_good:
                    return arrived_s
            elif isinstance(event, TriggerFailed) and event.trigger_id == trigger_id:
                sys.exit(f"a trigger after the recovery failed: {event.reason}")
        sys.exit(f"no frame within {PATIENCE_S:g} s")

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _wait_for(self, state: CameraState) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while self._state is not state:
            event = self._camera.poll(1.0)
            if isinstance(event, StateChanged):
                self._state = event.state
            elif isinstance(event, FrameArrived):
                self._camera.release(event.frame)
            if time.monotonic() > deadline_s:
                sys.exit(f"not {state.value} within {PATIENCE_S:g} s, but {self._state.value}")


def measure(rounds: int, limit_s: float) -> dict[str, object]:
    """Lose the camera `rounds` times after the warm-up, or as often as fits the limit."""
    recoveries_s: dict[str, list[float]] = {}
    footprints: list[Footprint] = []
    with tempfile.TemporaryDirectory() as directory:
        os.environ["REPLAY_CAMERAS"] = directory
        images = np.random.default_rng(0).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
        config = GenicamConfig(producer=build(), serial=SERIAL, features={"PixelFormat": "BayerRG8"})
        with ReplayCamera.create(Path(directory), SERIAL, images) as replay:
            camera = GenicamCamera(config, TriggerConfig())
            bench = Bench(replay, camera)
            ways: dict[str, Callable[[], float]] = {
                "cable pulled": bench.pull_cable,
                "grabber killed": bench.kill_grabber,
                "producer crashed": bench.crash_producer,
            }
            camera.start(PATIENCE_S)
            bench.first_good_frame_s()
            began_s = time.monotonic()
            for number in range(WARM_UP + rounds):
                if time.monotonic() - began_s > limit_s:
                    break
                name, lose = list(ways.items())[number % len(ways)]
                restored_s = lose()
                recovery_s = bench.first_good_frame_s() - restored_s
                if number >= WARM_UP:
                    recoveries_s.setdefault(name, []).append(recovery_s)
                    footprints.append(Footprint.now())
            counted = camera.statistics
            camera.stop()
    return {
        "rounds": len(footprints),
        "warm_up_rounds": WARM_UP,
        "backoff_s": config.backoff_s,
        "recovery_s": {name: summary(times) for name, times in recoveries_s.items()},
        "recovery_all_s": summary([time_s for times in recoveries_s.values() for time_s in times]),
        "first": asdict(footprints[0]),
        "last": asdict(footprints[-1]),
        "largest": {name: max(asdict(one)[name] for one in footprints) for name in asdict(footprints[0])},
        "resident_growth_kib_per_round": growth([footprint.resident_kib for footprint in footprints]),
        "reconnects_counted": counted.reconnects,
    }


def summary(times_s: list[float]) -> dict[str, float]:
    """Count, median and maximum."""
    return {
        "n": len(times_s),
        "median": round(statistics.median(times_s), 3),
        "maximum": round(max(times_s), 3),
    }


def growth(values: list[int]) -> float | None:
    """Slope of a straight line through the values, per round; None for too few."""
    return round(float(np.polyfit(range(len(values)), values, 1)[0]), 2) if len(values) > 2 else None


def processor() -> str:
    """Its name, as Linux knows it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def print_table(result: dict[str, object]) -> None:
    """Recovery by way of loss, then what is held."""
    recovery, everything = result["recovery_s"], result["recovery_all_s"]
    first, last, largest = result["first"], result["last"], result["largest"]
    assert isinstance(recovery, dict)
    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert isinstance(largest, dict)
    print(f"{'loss':<20}{'times':>8}{'median s':>10}{'maximum s':>11}")
    for name, times in [*recovery.items(), ("all", everything)]:
        print(f"{name:<20}{times['n']:>8}{times['median']:>10.3f}{times['maximum']:>11.3f}")
    print(f"\n{'held by the station':<20}{'first':>8}{'last':>10}{'largest':>11}")
    for name in first:
        print(f"{name:<20}{first[name]:>8}{last[name]:>10}{largest[name]:>11}")
    print(f"resident memory grows by {result['resident_growth_kib_per_round']} KiB a round")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--limit-s", type=float, default=3600.0, help="begin no round after so long")
    arguments = parser.parse_args()
    result = {
        "command": f"python benchmarks/camera_recovery.py --rounds {arguments.rounds} --limit-s {arguments.limit_s:g}",
        "camera": f"simulated, {SIZE_PX}x{SIZE_PX} BayerRG8, software trigger",
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average_1_min_before": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("tfanet-edge", "harvesters", "genicam")},
        **measure(arguments.rounds, arguments.limit_s),
    }
    print_table(result)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
