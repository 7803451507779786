"""How long one core takes to bring 5 megapixels of 10 or 12 bits, packed or not, to the top 8 bits of each sample.

    python benchmarks/unpack.py [--rounds 60]

Every other format of more than 8 bits too. Writes benchmarks/results/unpack.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

import cv2
import numpy as np
from bench_rig import circumstances, keep, quantile

from edge.pixel_format import PixelFormat
from edge.unpack import unpack

WIDTH_PX, HEIGHT_PX = 2448, 2048
WARM_UP = 5


def main() -> int:
    """Measure each format of one colour, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    result: dict[str, object] = {
        "command": f"python benchmarks/unpack.py --rounds {rounds}",
        **circumstances(),
        "size_px": [WIDTH_PX, HEIGHT_PX],
        "cores_used": 1,
    }
    print("| format | median, ms | p99, ms |\n|---|---|---|")
    # Bayer's samples lie as those of Mono do.
    for pixel_format in (one for one in PixelFormat if one.value.startswith("Mono") and one is not PixelFormat.MONO8):
        times_ms = measure(pixel_format, rounds)
        result[pixel_format.value] = {
            "median_ms": round(statistics.median(times_ms), 3),
            "p99_ms": round(quantile(times_ms, 0.99), 3),
        }
        print(f"| {pixel_format.value} | {statistics.median(times_ms):.2f} | {quantile(times_ms, 0.99):.2f} |")
    keep("unpack.json", result)
    return 0


def measure(pixel_format: PixelFormat, rounds: int) -> list[float]:
    """Milliseconds per frame, each of a different one of four random frames."""
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, pixel_format.shape(WIDTH_PX, HEIGHT_PX), np.uint8) for _ in range(4)]
    times_ms = []
    for number in range(WARM_UP + rounds):
        started_ns = time.perf_counter_ns()
        unpack(frames[number % 4], pixel_format)
        times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
    return times_ms[WARM_UP:]


if __name__ == "__main__":
    sys.exit(main())
