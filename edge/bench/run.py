"""What `tfanet-edge bench` does with an engine: frames one at a time, through the line, after a pause."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bench.result import AfterIdle, Distribution, Growth, Pipelined
from edge.cameras.memory import MemoryCamera
from edge.config import JudgeConfig
from edge.engines.engine import Engine
from edge.errors import EngineError
from edge.manifest import Preprocessing
from edge.pipeline import Pipeline
from edge.quality import quality_of, refusal
from edge.slots import SlotRing
from edge.triggers import TriggerLedger
from edge.verdict import Limits, judge

WARM_UP = 10
PAUSES = 3
_TIMEOUT_S = 120.0
_READINGS = 50

Progress = Callable[[str, int, int], None]
ReadMemory = Callable[[], int]


@dataclass(frozen=True)
class Rig:
    """An engine and all that surrounds it in a station; the engine is bound to the ring's slots."""

    engine: Engine
    ring: SlotRing
    camera: MemoryCamera
    preprocessing: Preprocessing
    limits: Limits


def one_at_a_time(rig: Rig, frames: int, progress: Progress) -> list[tuple[float, ...]]:
    """Measure every stage with nothing else under way; the first frames do not count.

    Returns:
        Of each frame the milliseconds of every stage, and of all; for `Alone.of`.

    Raises:
        EngineError: the engine failed, or its output is nothing that could be judged.
        ImageError: the frames do not fit the settings.
    """
    rig.engine.adopt(rig.camera.memory)
    times: list[tuple[float, ...]] = []
    for number in range(-WARM_UP, frames):
        row = _one(rig, number)
        if number >= 0:
            times.append(row)
            progress("one at a time", number + 1, frames)
    return times


def after_idle(rig: Rig, idle_s: float, median_ms: float, progress: Progress) -> AfterIdle:
    """Measure the first frame after pauses in which the engine is told, as by a station, that there is nothing to do.

    Args:
        rig: already used.
        idle_s: how long each pause is.
        median_ms: of frames without a pause.
        progress: told of every pause.

    Raises:
        EngineError: the engine failed.
    """
    first_ms = []
    for number in range(PAUSES):
        ends_s = time.monotonic() + idle_s
        while (left_s := ends_s - time.monotonic()) > 0:
            rig.engine.idle()
            time.sleep(min(left_s, 0.01))
        first_ms.append(_one(rig, number)[-1])
        progress("after a pause", number + 1, PAUSES)
    return AfterIdle(idle_s=idle_s, first_ms=tuple(first_ms), times_median=statistics.median(first_ms) / median_ms)


def pipelined(
    rig: Rig, frames: int, progress: Progress, memories: tuple[ReadMemory, ...]
) -> tuple[Pipelined, tuple[Growth, ...]]:
    """Measure the station's own line.

    Args:
        rig: all slots free.
        frames: that count, after some that do not.
        progress: told of every frame.
        memories: read from time to time.

    Returns:
        Latency and throughput; what became of each of the memories.

    Raises:
        EngineError: the engine failed, or a frame was not judged.
    """
    # Written to now: a page first touched during the run would pass for growth.
    latencies_ms, moments_ns = np.full(frames, -1.0), np.full(frames, -1)
    readings: list[tuple[int, ...]] = []
    read_at = np.linspace(0, frames - 1, min(_READINGS, frames), dtype=int).tolist()
    verdicts: Counter[str] = Counter()
    for number, (decided_ns, latency_ms, verdict) in enumerate(_outcomes(rig, frames)):
        if number == read_at[len(readings)]:
            readings.append(tuple(read() for read in memories))
        moments_ns[number], latencies_ms[number] = decided_ns, latency_ms
        verdicts[verdict] += 1
        progress("in the line", number + 1, frames)
    throughput_hz = (frames - 1) / (float(moments_ns[-1] - moments_ns[0]) / 1e9)
    growths = tuple(Growth.of(read_at, used) for used in zip(*readings, strict=True))
    result = Pipelined(
        latency=Distribution.of(latencies_ms.tolist()), throughput_hz=throughput_hz, verdicts=dict(verdicts)
    )
    return result, growths


def resident_bytes() -> int:
    """Memory of this process that is in use on the host."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _one(rig: Rig, number: int) -> tuple[float, ...]:
    """Milliseconds of each of `bench_result.STAGES` of one frame, and of all."""
    engine, camera = rig.engine, rig.camera
    slot = rig.ring.acquire()
    started_ns = time.perf_counter_ns()
    engine.enqueue(slot, camera.images[number % len(camera.images)], camera.pixel_format, rig.preprocessing)
    if not engine.wait(slot, _TIMEOUT_S):
        raise EngineError(f"no answer within {_TIMEOUT_S:.0f} s", "check the machine's load")
    computed_ns = time.perf_counter_ns()
    engine.fetch(slot)
    fetched_ns = time.perf_counter_ns()
    refusal(quality_of(slot.quality_sums, slot.above.size), JudgeConfig())
    try:
        judge(float(slot.score[0]), slot.maxima, slot.anomaly_map[0], slot.above, rig.limits)
    except ValueError as error:
        raise EngineError(f"a frame cannot be judged ({error})", "choose another precision") from error
    judged_ns = time.perf_counter_ns()
    took = engine.timing(slot)
    rig.ring.release(slot)
    host_ms = (fetched_ns - computed_ns) / 1e6, (judged_ns - fetched_ns) / 1e6
    return took.upload_ms, took.preprocess_ms, took.infer_ms, *host_ms, (judged_ns - started_ns) / 1e6


def _outcomes(rig: Rig, frames: int) -> Iterator[tuple[int, float, str]]:
    """When each frame was decided, after how many milliseconds, and what."""
    pipeline = Pipeline(
        rig.camera,
        rig.engine,
        rig.ring,
        TriggerLedger(_TIMEOUT_S * 1e3),
        rig.preprocessing,
        rig.limits,
        JudgeConfig(),
        software_triggers=False,
        keep_pictures=False,
    )
    # Behind the last that counts there are others, as behind every one before it.
    total = WARM_UP + frames + len(rig.ring.slots)
    rig.camera.left = total
    done = 0
    while done < total:
        for outcome in pipeline.step(_TIMEOUT_S):
            if outcome.verdict not in ("OK", "NG"):
                raise EngineError(f"a frame was not judged ({outcome.verdict}: {outcome.reason})")
            if WARM_UP <= done < WARM_UP + frames:
                fired_ns = outcome.trigger.fired_monotonic_ns
                yield outcome.decided_monotonic_ns, (outcome.decided_monotonic_ns - fired_ns) / 1e6, outcome.verdict
            done += 1
