"""How much of the bare engine's throughput the whole station keeps, both measured in turn in one run.

    python benchmarks/station_throughput.py [--rounds 5] [--frames 200]

Bare: the same engine with the same settings, fed from memory, nothing else running. Station: simulated GenICam camera
in its own process, preprocessing, engine, judge, durable outbox and MQTT delivery to a broker in another process, on
the same cores. Writes benchmarks/results/station_throughput.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edge.bundle import Bundle, load_bundle
from edge.config import EngineConfig, GenicamConfig, MqttConfig, OutboxConfig, StationConfig, TriggerConfig
from edge.engines.ort import OrtEngine, default_threads
from edge.manifest import Preprocessing
from edge.observer import Inspection
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess
from edge.slots import SlotRing
from edge.startup import open_station
from simulator.broker import embedded_broker
from simulator.build import build
from simulator.demo import BUNDLE, IDENTITY, draw_parts
from simulator.replay import ReplayCamera

RESULT = Path(__file__).parent / "results" / "station_throughput.json"
WARM_UP = 10
SERIAL = "BENCH-0001"


class Stopwatch:
    """Notes when each verdict became durable."""

    def __init__(self) -> None:
        self.moments_ns: list[int] = []

    def put(self, _: Inspection) -> None:
        self.moments_ns.append(time.monotonic_ns())


def rate_hz(moments_ns: list[int]) -> float:
    """Completions per second after the warm-up."""
    kept = moments_ns[WARM_UP:]
    return (len(kept) - 1) / ((kept[-1] - kept[0]) / 1e9)


def bare_engine_hz(bundle: Bundle, inputs: np.ndarray, frames: int, threads: int | None) -> float:
    """Throughput of enqueue and wait over two slots, inputs already in the network's format."""
    settings = Preprocessing(input_size_px=bundle.manifest.preprocessing.input_size_px)
    ring = SlotRing(2, settings.input_size_px)
    engine = OrtEngine(bundle, "fp32", threads)
    for slot in ring.slots:
        engine.bind(slot)
    moments_ns = []
    waiting = []
    for number in range(frames + WARM_UP):
        slot = ring.acquire()
        engine.enqueue(slot, inputs[number % len(inputs)], PixelFormat.RGB8, settings)
        waiting.append(slot)
        if len(waiting) == 2:
            oldest = waiting.pop(0)
            engine.wait(oldest, 60.0)
            moments_ns.append(time.monotonic_ns())
            ring.release(oldest)
    engine.wait(waiting.pop(), 60.0)
    engine.close()
    return rate_hz(moments_ns)


def station_hz(config: StationConfig, frames: int) -> float:
    """Throughput of the whole station, from the camera to the acknowledged verdict."""
    stopwatch = Stopwatch()
    with open_station(config, is_simulated=True) as station:
        station.side_channel.attach(stopwatch)
        station.run(threading.Event(), frames + WARM_UP)
        assert station.verdicts["INVALID"] == station.verdicts["TIMEOUT"] == 0, dict(station.verdicts)
    assert station.publisher.stats().pending == 0
    return rate_hz(stopwatch.moments_ns)


def measure(rounds: int, frames: int, threads: int | None) -> dict[str, object]:
    """Bare and station in turn, so that a drift of the machine's speed meets both."""
    bundle = load_bundle(BUNDLE)
    images, _ = draw_parts(32, 0.25, seed=1)
    inputs = np.zeros((len(images), *bundle.manifest.preprocessing.input_size_px, 3), np.uint8)
    for image, out in zip(images, inputs, strict=True):
        preprocess(image, PixelFormat.RGB8, bundle.manifest.preprocessing, out)
    bare, whole = [], []
    with embedded_broker() as (host, port), tempfile.TemporaryDirectory() as directory:
        os.environ["REPLAY_CAMERAS"] = directory
        ReplayCamera.create(Path(directory), SERIAL, images).close()
        config = StationConfig(
            bundle=BUNDLE,
            identity=IDENTITY,
            camera=GenicamConfig(producer=build(), serial=SERIAL, features={"PixelFormat": "BayerRG8"}),
            trigger=TriggerConfig(mode="software", interval_ms=0),
            engine=EngineConfig(threads=threads),
            mqtt=MqttConfig(host=host, port=port),
            outbox=OutboxConfig(path=Path(directory) / "outbox.sqlite"),
        )
        for number in range(rounds):
            bare.append(bare_engine_hz(bundle, inputs, frames, threads))
            whole.append(station_hz(config, frames))
            print(
                f"round {number + 1}/{rounds}: bare {bare[-1]:.2f} Hz, station {whole[-1]:.2f} Hz, "
                f"ratio {whole[-1] / bare[-1]:.3f}",
                file=sys.stderr,
            )
    ratios = [station / engine for station, engine in zip(whole, bare, strict=True)]
    return {
        "engine_threads": threads or default_threads(),
        "bare_engine_hz": statistics.median(bare),
        "station_hz": statistics.median(whole),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "rounds": [
            {"bare_engine_hz": engine, "station_hz": station} for engine, station in zip(bare, whole, strict=True)
        ],
    }


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=200)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    shipped = measure(arguments.rounds, arguments.frames, None)
    every_core = measure(arguments.rounds, arguments.frames, cores)
    result = {
        "command": f"python benchmarks/station_throughput.py --rounds {arguments.rounds} --frames {arguments.frames}",
        "bundle": load_bundle(BUNDLE).manifest_sha256,
        "camera": "simulated, 540x540 BayerRG8, software trigger, as fast as verdicts are collected",
        "machine": {"processor": _processor(), "cores": cores, "python": platform.python_version()},
        "versions": {name: version(name) for name in ("tfanet-edge", "onnxruntime", "numpy", "opencv-python-headless")},
        "shipped_settings": shipped,
        "engine_on_every_core": every_core,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print("| engine threads | bare engine, Hz | whole station, Hz | ratio, median (min to max) |")
    print("|---|---|---|---|")
    for row in (shipped, every_core):
        print(
            f"| {row['engine_threads']} | {row['bare_engine_hz']:.1f} | {row['station_hz']:.1f} "
            f"| {row['ratio_median']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f}) |"
        )
    return 0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
