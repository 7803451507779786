"""The CUDA pipeline on one NVIDIA GPU, from raw camera frames to verdicts.

    python benchmarks/cuda_pipeline.py [--preset base] [--frames 10000] [--size 2448x2048] [--captured inline|child]
        [--transfer pinned|mapped] [--rounds 6] [--out benchmarks/results/cuda_pipeline.json]

The station's own engine, kernels and line, fed with BayerRG8 frames from memory; the network is PyTorch's folded
detector in half precision (benchmarks/torch_network.py), since nothing here depends on who computes it. Measured:

- overlap efficiency: throughput of the line / throughput of its slowest stage alone;
- end to end, in the line: p99 / p50, and growth of memory, over all frames;
- the fused preprocessing kernel / a copy on the GPU of the same bytes, both over more frames than its caches hold;
- time per image of the same network in PyTorch: eager float32 as the authors release it / folded, half precision.

Exits 2 where a CUDA device, PyCUDA or nvcc is missing. No part is judged NG, so that only the summary is downloaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from gpu_variants import RELEASE, image_times
from kernel_time import preprocess_and_copy_ms
from measure import BACKBONES, environment, random_backbone, relative_difference

from edge.bench.machine import versions
from edge.bench.result import Alone, Growth, Pipelined, overlap_efficiency
from edge.bench.run import Rig, one_at_a_time, pipelined, resident_bytes
from edge.cameras.memory import MemoryCamera
from edge.errors import AcceleratorError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.slots import SlotRing
from edge.verdict import Limits
from training.networks.tfanet import PRESETS

RESULT = Path(__file__).parent / "results" / "cuda_pipeline.json"
HALF = "folded, CUDA graph float16"
SIDE_PX = 256
NEVER = 1e9  # a limit that no score reaches
ALONE_FRAMES = 500
LARGEST_GROWTH_BYTES = 2**20
LARGEST_DIFFERENCE = 1e-2


@dataclass(frozen=True)
class Figure:
    """What was found, and what it should be: at least or at most so much."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the target is reached."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def row(self) -> str:
        """Of a Markdown table."""
        target = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"| {self.name} | {self.value:.4g} | {target} | {'yes' if self.is_met else 'NO'} |"


def figures(
    alone: Alone,
    line: Pipelined,
    growths: Mapping[str, Growth],
    preprocess_ms: float,
    copy_ms: float,
    per_image: Mapping[str, Mapping[str, Any]],
) -> list[Figure]:
    """The figures with a target.

    Args:
        alone: frames one at a time.
        line: frames in the line.
        growths: of host and GPU memory meanwhile.
        preprocess_ms: of the kernel.
        copy_ms: of a copy of the same frame on the GPU.
        per_image: from `gpu_variants.image_times`.
    """
    stage_ms = {name: stage.p50_ms for name, stage in alone.stages.items()}
    frames = line.latency.count
    found = [
        Figure("overlap efficiency", overlap_efficiency(line.throughput_hz, stage_ms), at_least=0.95),
        Figure("preprocessing / copy of the same bytes", preprocess_ms / copy_ms, at_most=3),
        Figure(f"end to end p99 / p50, {frames} frames", line.latency.p99_ms / line.latency.p50_ms, at_most=1.5),
    ]
    for name, growth in growths.items():
        grown = growth.bytes_per_frame * frames
        found.append(Figure(f"growth of {name} memory over them, bytes", grown, at_most=LARGEST_GROWTH_BYTES))
    half = per_image[HALF]
    if "times_faster" in half:
        found.append(Figure(f"{RELEASE} / {HALF}", half["times_faster"], at_least=8))
    return found


def print_tables(result: Mapping[str, Any], found: Sequence[Figure]) -> None:
    """As Markdown."""
    print(f"{result['preset']} with {result['backbone']}, {result['settings']}, {result['gpu']['gpu']}\n")
    print("| figure | measured | target | met |\n|---|---|---|---|")
    print("\n".join(figure.row() for figure in found))
    print("\n| ms | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|")
    times = {**result["alone"]["stages"], "one at a time": result["alone"]["total"], "line": result["line"]["latency"]}
    for name, row in times.items():
        print(f"| {name} | {row['p50_ms']:.3f} | {row['p99_ms']:.3f} | {row['p99_9_ms']:.3f} | {row['max_ms']:.3f} |")
    print(f"\nthroughput {result['line']['throughput_hz']:.1f} Hz, CUDA graphs: {result['cuda_graphs']}")
    for name, row in result["per_image"].items():
        print(f"{name}: {row['not_measured'] if 'not_measured' in row else format(row['median_ms'], '.3f') + ' ms'}")


def map_difference(rig: Rig, network: Any) -> float:
    """How far the engine's map is from the same module called by itself, as a share of its maximum."""
    slot = rig.ring.acquire()
    rig.engine.enqueue(slot, rig.camera.images[0], rig.camera.pixel_format, rig.preprocessing)
    if not rig.engine.wait(slot, 60):
        raise RuntimeError("no answer within 60 s")
    rig.engine.fetch(slot)
    with torch.inference_mode():
        expected = network.module(torch.from_numpy(slot.image).to("cuda"))[0].cpu()
    difference = relative_difference(torch.from_numpy(slot.anomaly_map), expected)
    rig.ring.release(slot)
    return difference


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Figure]]:
    """Everything, on the first GPU."""
    from torch_network import TorchNetwork

    from edge.cuda import Gpu, Transfer
    from edge.engines.cuda_engine import CudaEngine
    from edge.engines.gpu_kernels import load_kernels

    gpu, size_px = Gpu(), (SIDE_PX, SIDE_PX)
    with tempfile.TemporaryDirectory() as cache, gpu.current():
        kernels = load_kernels(gpu.compute_capability, Path(cache))
        network = TorchNetwork(arguments.preset, arguments.captured)
        preprocess_ms, copy_ms = preprocess_and_copy_ms(kernels, arguments.size)
    total_bytes = torch.cuda.get_device_properties(0).total_memory

    def gpu_bytes() -> int:
        with gpu.current():
            return int(total_bytes - gpu.free_bytes())

    with closing(CudaEngine(gpu, network, kernels, NEVER, Transfer(arguments.transfer), None)) as engine:
        ring = SlotRing(arguments.slots, size_px)
        for slot in ring.slots:
            engine.bind(slot)
        camera = MemoryCamera(PixelFormat.BAYER_RG8, arguments.size)
        rig = Rig(engine, ring, camera, Preprocessing(input_size_px=size_px), Limits(NEVER, NEVER, 4))
        difference = map_difference(rig, network)
        if not difference <= LARGEST_DIFFERENCE:
            raise RuntimeError(f"the engine's map is off by {difference:.2e} of its maximum: no time of it counts")
        times_ms = one_at_a_time(rig, ALONE_FRAMES, progress)
        line, (host, on_gpu) = pipelined(rig, arguments.frames, progress, (resident_bytes, gpu_bytes))
        alone = Alone.of(times_ms + one_at_a_time(rig, ALONE_FRAMES, progress))
        has_graphs = engine.has_graphs
    name = BACKBONES[arguments.preset]
    device = torch.device("cuda")
    rows = image_times(arguments.preset, random_backbone(name), device, arguments.rounds, 50, with_compile=False)
    found = figures(alone, line, {"host": host, "GPU": on_gpu}, preprocess_ms, copy_ms, rows)
    width_px, height_px = arguments.size
    return {
        "command": " ".join(["python", "benchmarks/cuda_pipeline.py", *sys.argv[1:]]),
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "preset": arguments.preset,
        "backbone": name,
        "weights": "random",
        "network": f"PyTorch, folded, float16, captured {arguments.captured}",
        "settings": f"{width_px}x{height_px} BayerRG8, {arguments.slots} slots, {arguments.transfer}",
        "gpu": gpu.facts,
        "machine": environment(("torch", "numpy")),
        "versions": versions(),
        "cuda_graphs": has_graphs,
        "map_difference_of_maximum": difference,
        "preprocess_ms": preprocess_ms,
        "copy_ms": copy_ms,
        "figures": {figure.name: {"value": figure.value, "is_met": figure.is_met} for figure in found},
        "alone": alone.model_dump(),
        "line": line.model_dump(),
        "memory": {"host": host.model_dump(), "gpu": on_gpu.model_dump()},
        "per_image": rows,
    }, found


def progress(part: str, done: int, of: int) -> None:
    """Every thousandth frame, and the last of a part."""
    if done % 1000 == 0 or done == of:
        print(f"{part}: {done}/{of}", file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="base")
    parser.add_argument("--frames", type=int, default=10_000, help="in the line")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--size", type=_size_wh, default=(2448, 2048), metavar="WxH")
    parser.add_argument("--captured", choices=("inline", "child"), default="inline", help="see torch_network.py")
    parser.add_argument("--transfer", choices=("pinned", "mapped"), default="pinned")
    parser.add_argument("--rounds", type=int, default=6, help="of PyTorch's variants")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args(argv)


def missing() -> str | None:
    """What there must be and is not."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    try:
        import pycuda.driver  # noqa: F401
    except ImportError as error:
        return f"PyCUDA cannot be loaded ({error})"
    return None


def main(argv: Sequence[str]) -> int:
    """Measure, print the tables, keep the figures."""
    arguments = parse_arguments(argv)
    if reason := missing():
        print(f"not measured: {reason}", file=sys.stderr)
        return 2
    try:
        result, found = measure(arguments)
    except AcceleratorError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 2
    arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print_tables(result, found)
    return 0


def _size_wh(text: str) -> tuple[int, int]:
    width_px, separator, height_px = text.partition("x")
    if not (separator and width_px.isdecimal() and height_px.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size in pixels such as 2448x2048")
    return int(width_px), int(height_px)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
