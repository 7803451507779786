"""The file that `tfanet-edge bench` writes, and the statistics in it. Pure data and pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge.manifest import Precision, Sha256

# Of the quantile function that a distribution keeps.
QUANTILES = tuple(number / 2 for number in range(201))

# What a frame goes through, in this order.
STAGES = ("upload", "preprocess", "infer", "fetch", "judge")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Distribution(_Strict):
    """Milliseconds of many frames. A percentile is the smallest sample that so many per cent do not exceed."""

    count: int = Field(gt=0)
    mean_ms: float
    p50_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float
    quantiles_ms: tuple[float, ...] = Field(description="percentiles 0, 0.5, 1, … 100")

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Distribution:
        """Of one sample at least."""
        ordered = sorted(samples_ms)
        p50, p99, p99_9, *quantiles = (_percentile(ordered, percent) for percent in (50, 99, 99.9, *QUANTILES))
        return cls(
            count=len(samples_ms),
            mean_ms=_short(float(np.mean(samples_ms))),
            p50_ms=_short(p50),
            p99_ms=_short(p99),
            p99_9_ms=_short(p99_9),
            max_ms=_short(ordered[-1]),
            quantiles_ms=tuple(_short(value) for value in quantiles),
        )


class Alone(_Strict):
    """Frames one at a time: nothing else is under way, so that a stage takes what it takes alone.

    `upload`, `preprocess` and `infer` as the engine reports them; `fetch` and `judge` on the host's clock. `total` is
    from handing the frame over to its judgement, everything fetched.
    """

    stages: dict[str, Distribution]
    total: Distribution

    @classmethod
    def of(cls, times_ms: Sequence[tuple[float, ...]]) -> Alone:
        """Of frames whose milliseconds in every stage and in all are given."""
        *stages, total = zip(*times_ms, strict=True)
        named = dict(zip(STAGES, stages, strict=True))
        return cls(stages={name: Distribution.of(ms) for name, ms in named.items()}, total=Distribution.of(total))

    @property
    def slowest_stage(self) -> str:
        """By median."""
        return max(self.stages, key=lambda name: self.stages[name].p50_ms)


class Pipelined(_Strict):
    """Frames through the station's own line, as many under way as there are slots."""

    latency: Distribution = Field(description="from handing the frame over to its verdict, behind the frames before it")
    throughput_hz: float = Field(gt=0)
    verdicts: dict[str, int]


class AfterIdle(_Strict):
    """The first frame after a pause without any."""

    idle_s: float
    first_ms: tuple[float, ...] = Field(min_length=1, description="one per pause, as `total` of one at a time")
    times_median: float = Field(description="their median, in medians of frames that came without a pause")


class Growth(_Strict):
    """Memory in use while frames went through the line."""

    used_bytes: tuple[int, ...] = Field(min_length=2, description="at equal distances")
    bytes_per_frame: float = Field(description="slope of the straight line through them, by least squares")

    @classmethod
    def of(cls, frames: Sequence[int], used_bytes: Sequence[int]) -> Growth:
        """Two readings at least, each after so many frames."""
        from_mean = np.subtract(frames, np.mean(frames))
        slope = float(from_mean @ np.subtract(used_bytes, used_bytes[0]) / (from_mean @ from_mean))
        return cls(used_bytes=tuple(used_bytes), bytes_per_frame=_short(slope))


class Memory(_Strict):
    """Of this process on the host (resident set), and of the GPU as a whole; None where there is none."""

    before_engine_bytes: int = Field(description="on the host, before the engine was opened")
    host: Growth
    gpu: Growth | None


class EngineFacts(_Strict):
    """What computed."""

    kind: Literal["onnxruntime", "tensorrt"]
    precision: Precision
    artefact_sha256: Sha256
    cuda_graphs: bool | None = Field(description="None where there is no GPU")
    transfer: str | None = Field(default=None, description="how frames reach the GPU; None where there is none")
    map_error: float = Field(description="against the golden vectors, as a share of their maximum")
    score_error: float


class BundleFacts(_Strict):
    """What was computed."""

    name: str
    version: str
    preset: str
    backbone: str
    manifest_sha256: Sha256


class Settings(_Strict):
    """As given on the command line."""

    pixel_format: str
    width_px: int
    height_px: int
    frames: int
    slots: int
    idle_s: float
    transfer: str


class MachineFacts(_Strict):
    """Where. `gpu` holds name, compute capability and driver; empty where there is none."""

    model: str = Field(description="of the board, or of the processor")
    cores: int = Field(description="that this process may use")
    kernel: str
    l4t: str | None = Field(description="release of Jetson Linux; None elsewhere")
    gpu: dict[str, str]
    load_average: float = Field(description="over the minute before")


class BenchResult(_Strict):
    """One run of `tfanet-edge bench`.

    `overlap_efficiency` is the line's throughput divided by that of its slowest stage alone: 1 / median of that stage,
    one frame at a time. At 1 the line computes without a gap and every other stage is hidden behind that one; above 1
    a clock that rises under load, or noise.
    """

    schema_version: Literal[1] = 1
    date_utc: str
    bundle: BundleFacts
    engine: EngineFacts
    settings: Settings
    machine: MachineFacts
    versions: dict[str, str]
    alone: Alone
    pipelined: Pipelined
    overlap_efficiency: float
    after_idle: AfterIdle
    memory: Memory
    power_w: dict[str, float] | None = Field(description="mean by rail, in the line under load; None: no sensor")
    clocks_mhz: dict[str, float] | None = Field(description="median, in the line under load; None: not told")


def overlap_efficiency(throughput_hz: float, stage_ms: Mapping[str, float]) -> float:
    """Throughput of the line over that of its slowest stage alone.

    Args:
        throughput_hz: with frames overlapping.
        stage_ms: what each stage takes alone; one of them above 0.
    """
    return _short(throughput_hz * max(stage_ms.values()) / 1e3)


def _percentile(ordered: Sequence[float], percent: float) -> float:
    # 99.9 % of 1000 is 999, whatever floating point makes of it.
    return ordered[max(0, math.ceil(percent * len(ordered) / 100 - 1e-9) - 1)]


def _short(value: float) -> float:
    """Five significant digits; a clock tells no more."""
    return float(f"{value:.5g}")
