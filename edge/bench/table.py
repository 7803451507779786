"""A benchmark's result as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from edge.bench.result import BenchResult, Distribution


def table(result: BenchResult) -> str:
    """For a terminal."""
    settings, line, memory = result.settings, result.pipelined, result.memory
    size = f"{settings.width_px}x{settings.height_px} {settings.pixel_format}"
    device = result.machine.gpu.get("gpu", result.machine.model)
    rows = [
        f"{result.bundle.name} {result.bundle.version} ({result.bundle.preset}), {result.engine.precision} in "
        f"{result.engine.kind}, {size}, {settings.frames} frames, {device}",
        f"{'ms':<24}{'p50':>10}{'p99':>10}{'p99.9':>10}{'max':>10}",
        *(_row(name, stage) for name, stage in result.alone.stages.items()),
        _row("one at a time", result.alone.total),
        _row(f"in the line, {settings.slots} slots", line.latency),
        _fact("throughput", f"{line.throughput_hz:.4g} Hz ({', '.join(_counts(line.verdicts))})"),
        _fact("overlap efficiency", f"{result.overlap_efficiency:.3f}, slowest alone: {result.alone.slowest_stage}"),
        _fact(f"after {settings.idle_s:g} s without work", f"{result.after_idle.times_median:.2f} x the median"),
        _fact("host memory", _memory(memory.host.used_bytes[-1], memory.host.bytes_per_frame)),
        _fact("GPU memory", _memory(memory.gpu.used_bytes[-1], memory.gpu.bytes_per_frame) if memory.gpu else None),
        _fact("power", _readings(result.power_w, "W")),
        _fact("clocks", _readings(result.clocks_mhz, "MHz")),
        _fact("load before", f"{result.machine.load_average:.2f} on {result.machine.cores} cores"),
    ]
    return "\n".join(rows)


def _row(name: str, times: Distribution) -> str:
    cells = (times.p50_ms, times.p99_ms, times.p99_9_ms, times.max_ms)
    return f"{name:<24}" + "".join(f"{cell:>10.3f}" for cell in cells)


def _fact(name: str, text: str | None) -> str:
    return f"{name:<26}{text or 'not measured'}"


def _memory(used_bytes: int, bytes_per_frame: float) -> str:
    return f"{used_bytes / 1e6:.0f} MB, {bytes_per_frame:+.0f} bytes per frame"


def _readings(values: Mapping[str, float] | None, unit: str) -> str | None:
    return ", ".join(f"{name} {value:.4g} {unit}" for name, value in values.items()) if values else None


def _counts(verdicts: Mapping[str, int]) -> list[str]:
    return [f"{count} {verdict}" for verdict, count in sorted(verdicts.items())]
