"""Results of `tfanet-edge bench` as a Markdown table and a plot.

    python benchmarks/bench_plot.py RESULT.json … [--out benchmarks/results/bench.png]

Also takes what benchmarks/cuda_pipeline.py writes. Devices that no result comes from stay in table and plot as not
measured, beside the time that the work of a frame takes at the device's peak: computed, and a limit that nothing
reaches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from edge.bench.result import Alone, BenchResult, Distribution, Pipelined, overlap_efficiency

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULT = Path(__file__).parent / "results" / "bench.png"
PERCENT = [number / 2 for number in range(201)]
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Device:
    """A device that the network is meant for.

    Attributes:
        name: as people call it.
        part: of the name that the device gives itself.
        floor_ms: 154.6 GFLOP, a frame of `base` with the template folded, at the peak of FP16.
    """

    name: str
    part: str
    floor_ms: float


DEVICES = (
    Device("Orin Nano Super", "Orin Nano", 9.3),
    Device("Orin NX 16 GB Super", "Orin NX", 8.1),
    Device("AGX Orin 64 GB", "AGX Orin", 3.6),
    Device("H200", "H200", 0.20),
)


@dataclass(frozen=True)
class Case:
    """One result."""

    device: str
    network: str
    engine: str
    alone: Distribution
    line: Pipelined
    overlap_efficiency: float
    is_base_tensorrt: bool

    @property
    def label(self) -> str:
        """For a legend."""
        return f"{self.device}: {self.network}, {self.engine}"


def read_case(path: Path) -> Case:
    """A result of either kind.

    Raises:
        pydantic.ValidationError: it is none.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if "per_image" in content:
        alone, line = Alone.model_validate(content["alone"]), Pipelined.model_validate(content["line"])
        stage_ms = {name: stage.p50_ms for name, stage in alone.stages.items()}
        efficiency = overlap_efficiency(line.throughput_hz, stage_ms)
        device, network = content["gpu"]["gpu"], f"{content['preset']}, FP16, {content['settings']}"
        return Case(device, network, "PyTorch", alone.total, line, efficiency, is_base_tensorrt=False)
    result = BenchResult.model_validate(content)
    settings, engine = result.settings, result.engine
    frame = f"{settings.width_px}x{settings.height_px} {settings.pixel_format}"
    return Case(
        device=" ".join(filter(None, (result.machine.model, result.machine.gpu.get("gpu")))),
        network=f"{result.bundle.preset}, {engine.precision.upper()}, {frame}",
        engine={"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}[engine.kind],
        alone=result.alone.total,
        line=result.pipelined,
        overlap_efficiency=result.overlap_efficiency,
        is_base_tensorrt=(result.bundle.preset, engine.precision, engine.kind) == ("base", "fp16", "tensorrt"),
    )


def floor_ms(case: Case) -> float | None:
    """What is computed for the case's device and network."""
    floors = [device.floor_ms for device in DEVICES if case.is_base_tensorrt and device.part in case.device]
    return floors[0] if floors else None


def missing_devices(cases: Sequence[Case]) -> list[Device]:
    """Those that `base` in FP16 was not measured on."""
    measured = [case.device for case in cases if case.is_base_tensorrt]
    return [device for device in DEVICES if not any(device.part in name for name in measured)]


def markdown(cases: Sequence[Case]) -> str:
    """The table."""
    lines = [
        "| device | network and frame | engine | one at a time p50 / p99, ms | in the line p50 / p99 / p99.9, ms "
        "| throughput, Hz | overlap efficiency | computed floor, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        alone, line, floor = case.alone, case.line.latency, floor_ms(case)
        lines.append(
            f"| {case.device} | {case.network} | {case.engine} | {alone.p50_ms:.3g} / {alone.p99_ms:.3g} "
            f"| {line.p50_ms:.3g} / {line.p99_ms:.3g} / {line.p99_9_ms:.3g} | {case.line.throughput_hz:.3g} "
            f"| {case.overlap_efficiency:.2f} | {'–' if floor is None else f'{floor:g}'} |"
        )
    for device in missing_devices(cases):
        cells = " | ".join([NOT_MEASURED] * 4)
        lines.append(f"| {device.name} | base, FP16 | TensorRT | {cells} | {device.floor_ms:g} |")
    return "\n".join(lines)


def plot(cases: Sequence[Case], out: Path) -> None:
    """Latencies as distributions, and throughput beside what peak arithmetic would allow."""
    figure, (latency, throughput) = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
    for index, case in enumerate(cases):
        for times, style, what in ((case.alone, "-", "one at a time"), (case.line.latency, "--", "in the line")):
            latency.plot(times.quantiles_ms, PERCENT, style, color=f"C{index}", label=f"{case.device}, {what}")
    latency.set(xscale="log", xlabel="milliseconds", ylabel="frames that took no longer, %", title="Latency")
    latency.xaxis.set_major_formatter("{x:g}")
    latency.xaxis.set_minor_formatter("{x:g}")
    latency.grid(alpha=0.3, which="both")
    latency.legend(fontsize=8)
    missing = missing_devices(cases)
    names = [case.label.replace(": ", "\n") for case in cases]
    names += [f"{device.name}\nbase, FP16: {NOT_MEASURED}" for device in missing]
    for index, case in enumerate(cases):
        throughput.barh(index, case.line.throughput_hz, color=f"C{index}")
        throughput.text(case.line.throughput_hz, index, f" {case.line.throughput_hz:.3g}", va="center", fontsize=8)
    floors = [floor_ms(case) for case in cases] + [device.floor_ms for device in missing]
    for index, floor in enumerate(floors):
        if floor is not None:
            throughput.barh(index, 1e3 / floor, facecolor="none", edgecolor="grey", hatch="///", linestyle=":")
            throughput.text(1e3 / floor, index, f" {1e3 / floor:.0f} computed", va="center", fontsize=8, color="grey")
    throughput.set_yticks(range(len(names)), names, fontsize=8)
    throughput.invert_yaxis()
    throughput.set(xscale="log", xlabel="frames per second", title="Throughput; hatched: limit computed from peak")
    lowest, highest = throughput.get_xlim()
    throughput.set_xlim(lowest / 2, highest * 10)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str]) -> int:
    """Read, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT.json")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args(argv)
    cases = [read_case(path) for path in arguments.results]
    print(markdown(cases))
    plot(cases, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
