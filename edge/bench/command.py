"""The verb `bench`: how fast a bundle is on this machine, measured through the same parts that a station runs.

Exit status 1: the engine failed, or contradicts the golden vectors.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edge.arguments import whole_number_from
from edge.bench.board import BoardSampler
from edge.bench.machine import machine_facts, versions
from edge.bench.result import (
    Alone,
    BenchResult,
    BundleFacts,
    EngineFacts,
    Memory,
    Settings,
    overlap_efficiency,
)
from edge.bench.run import ReadMemory, Rig, after_idle, one_at_a_time, pipelined, resident_bytes
from edge.bench.table import table
from edge.bundle import Bundle, load_bundle
from edge.cameras.memory import MemoryCamera
from edge.config import EngineConfig, JudgeConfig
from edge.engines.choice import open_engine
from edge.engines.engine import Engine
from edge.engines.golden import bound_ring, check_golden
from edge.engines.ort import OrtEngine
from edge.errors import ConfigError
from edge.manifest import Precision
from edge.pixel_format import PixelFormat
from edge.verdict import Limits

if TYPE_CHECKING:
    from edge.engines.cuda_engine import CudaEngine

_PROGRESS_EVERY_S = 0.2


def bench(bundle: Bundle, config: EngineConfig, camera: MemoryCamera, settings: Settings) -> BenchResult:
    """Measure one variant in one engine.

    Args:
        bundle: of which.
        config: how the engine is opened.
        camera: with frames of the settings' size and format.
        settings: how much is measured.

    Raises:
        InputError: engine, variant or frames do not fit this machine or the bundle.
        EngineError: the engine failed, or contradicts the golden vectors.
    """
    load_average, before_engine_bytes = os.getloadavg()[0], resident_bytes()
    manifest = bundle.manifest
    with closing(open_engine(config, bundle)) as engine, _gpu(engine) as gpu, closing(_Progress()) as progress:
        ring = bound_ring(engine, bundle, config.slots)
        golden = check_golden(engine, bundle, config.precision, ring)
        limits = Limits(
            manifest.image_threshold.value, manifest.pixel_threshold.value, JudgeConfig().min_defect_area_px
        )
        rig = Rig(engine, ring, camera, manifest.preprocessing, limits)
        before = settings.frames // 2
        # One half before the line and one after it: a machine whose speed drifts would favour one of them.
        times_ms = one_at_a_time(rig, before, progress)
        with BoardSampler() as board:
            memories = (resident_bytes, gpu.used_bytes) if gpu else (resident_bytes,)
            line, (host, *on_gpu) = pipelined(rig, settings.frames, progress, memories)
        times_ms += one_at_a_time(rig, settings.frames - before, progress)
        alone = Alone.of(times_ms)
        pauses = after_idle(rig, settings.idle_s, alone.total.p50_ms, progress)
        return BenchResult(
            date_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            bundle=BundleFacts(
                name=manifest.name,
                version=manifest.version,
                preset=manifest.preset,
                backbone=manifest.backbone,
                manifest_sha256=bundle.manifest_sha256,
            ),
            engine=EngineFacts(
                kind="tensorrt" if gpu else "onnxruntime",
                precision=config.precision,
                artefact_sha256=engine.artefact_sha256,
                cuda_graphs=gpu.engine.has_graphs if gpu else None,
                transfer=gpu.engine.transfer.value if gpu else None,
                map_error=golden.map_error,
                score_error=golden.score_error,
            ),
            settings=settings,
            machine=machine_facts(gpu.facts if gpu else {}, load_average),
            versions=versions(),
            alone=alone,
            pipelined=line,
            overlap_efficiency=overlap_efficiency(
                line.throughput_hz, {name: stage.p50_ms for name, stage in alone.stages.items()}
            ),
            after_idle=pauses,
            memory=Memory(before_engine_bytes=before_engine_bytes, host=host, gpu=on_gpu[0] if on_gpu else None),
            power_w=board.power_w or None,
            clocks_mhz=board.clocks_mhz or None,
        )


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench BUNDLE [options]`."""
    parser = subparsers.add_parser("bench", help="measure how fast a bundle is on this machine")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle directory")
    engine = EngineConfig()
    parser.add_argument(
        "--engine", choices=("auto", "onnxruntime", "tensorrt"), default=engine.kind, help="default: %(default)s"
    )
    parser.add_argument(
        "--precision", choices=get_args(Precision), default=engine.precision, help="default: %(default)s"
    )
    parser.add_argument(
        "--pixel-format",
        type=_pixel_format,
        metavar="NAME",
        default=PixelFormat.BAYER_RG8,
        help="GenICam's name (default: BayerRG8)",
    )
    parser.add_argument(
        "--size", type=_size_wh, metavar="WxH", default=(2448, 2048), help="of a frame (default: 2448x2048)"
    )
    parser.add_argument(
        "--frames", type=whole_number_from(10), default=200, metavar="N", help="in each part (default: %(default)s)"
    )
    parser.add_argument(
        "--slots", type=_slots, metavar="N", default=engine.slots, help="frames under way (default: %(default)s)"
    )
    parser.add_argument(
        "--idle-s", type=_seconds, metavar="S", default=2.0, help="length of a pause (default: %(default)s)"
    )
    parser.add_argument(
        "--transfer",
        choices=("auto", "pinned", "mapped", "managed"),
        default=engine.transfer,
        help="how frames reach the GPU (default: %(default)s)",
    )
    parser.add_argument("--plans", type=Path, metavar="DIR", help="TensorRT's plans, where not in the usual place")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write the result to")
    parser.set_defaults(handler=_handle)


@dataclass(frozen=True, slots=True)
class _Gpu:
    facts: Mapping[str, str]
    used_bytes: ReadMemory
    engine: CudaEngine


class _Progress:
    """One line on a terminal's standard error; silent elsewhere."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._shown_s = 0.0

    def __call__(self, part: str, done: int, of: int) -> None:
        now_s = time.monotonic()
        if self._is_shown and now_s - self._shown_s >= _PROGRESS_EVERY_S:
            self._shown_s = now_s
            print(f"\r{part}: {done}/{of}\033[K", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _handle(arguments: argparse.Namespace) -> int:
    if arguments.out is not None and not arguments.out.absolute().parent.is_dir():
        raise ConfigError(f"'{arguments.out}' cannot be written", "give --out in a directory that exists")
    width_px, height_px = arguments.size
    config = EngineConfig(
        kind=arguments.engine,
        precision=arguments.precision,
        slots=arguments.slots,
        transfer=arguments.transfer,
        plans=arguments.plans,
    )
    settings = Settings(
        pixel_format=arguments.pixel_format.value,
        width_px=width_px,
        height_px=height_px,
        frames=arguments.frames,
        slots=arguments.slots,
        idle_s=arguments.idle_s,
        transfer=arguments.transfer,
    )
    camera = MemoryCamera(arguments.pixel_format, arguments.size)
    result = bench(load_bundle(arguments.bundle), config, camera, settings)
    print(table(result))
    if arguments.out is not None:
        try:
            arguments.out.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"'{arguments.out}' cannot be written ({error.strerror})", "give another --out"
            ) from error
    return 0


@contextmanager
def _gpu(engine: Engine) -> Iterator[_Gpu | None]:
    """What there is to know of an engine's GPU; None where it has none."""
    if isinstance(engine, OrtEngine):
        yield None
        return
    import pycuda.driver as cuda

    from edge.cuda import Gpu
    from edge.engines.cuda_engine import CudaEngine

    assert isinstance(engine, CudaEngine)

    def used_bytes() -> int:
        with gpu.current():
            free_bytes, total_bytes = cuda.mem_get_info()
        return int(total_bytes - free_bytes)

    with closing(Gpu()) as gpu:
        yield _Gpu(gpu.facts, used_bytes, engine)


def _pixel_format(text: str) -> PixelFormat:
    try:
        return PixelFormat(text)
    except ValueError:
        known = ", ".join(pixel_format.value for pixel_format in PixelFormat)
        raise argparse.ArgumentTypeError(f"'{text}' is not a pixel format; known are {known}") from None


def _size_wh(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size in pixels such as 2448x2048")
    return int(found[1]), int(found[2])


def _slots(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 2 to 16")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from 0 to 9999")
    return float(text)
