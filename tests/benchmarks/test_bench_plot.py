"""Results of `bench` side by side: measured where they were measured, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.bench.result import BenchResult

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ON_CPU = BENCHMARKS / "results" / "bench_cpu.json"


@pytest.fixture
def bench_plot(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import bench_plot

    return bench_plot


@pytest.fixture
def on_orin(tmp_path):
    """A made-up result of `base` in FP16 on a Jetson."""
    result = BenchResult.model_validate_json(ON_CPU.read_text())
    path = tmp_path / "orin.json"
    changes = {
        "bundle": result.bundle.model_copy(update={"preset": "base"}),
        "engine": result.engine.model_copy(update={"kind": "tensorrt", "precision": "fp16"}),
        "machine": result.machine.model_copy(update={"model": "NVIDIA Jetson Orin NX", "gpu": {"gpu": "Orin"}}),
    }
    path.write_text(result.model_copy(update=changes).model_dump_json())
    return path


def rows(text):
    return {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1:] for line in text.splitlines()[2:]}


def test_devices_without_a_result_are_not_measured_beside_a_computed_floor(bench_plot):
    found = rows(bench_plot.markdown([bench_plot.read_case(ON_CPU)]))
    floors = {"Orin Nano Super": "9.3", "Orin NX 16 GB Super": "8.1", "AGX Orin 64 GB": "3.6", "H200": "0.2"}
    for device, floor in floors.items():
        assert found[device][2:] == ["not measured"] * 4 + [f"{floor} |"]
    # The processor has no floor: none was computed for it.
    (measured,) = found.keys() - floors.keys()
    assert found[measured][-1] == "– |"
    assert "not measured" not in found[measured]


def test_a_measured_device_takes_its_row_with_its_floor(bench_plot, on_orin):
    found = rows(bench_plot.markdown([bench_plot.read_case(on_orin)]))
    assert set(found) == {"NVIDIA Jetson Orin NX Orin", "Orin Nano Super", "AGX Orin 64 GB", "H200"}
    assert found["NVIDIA Jetson Orin NX Orin"][-1] == "8.1 |"


def test_what_the_cuda_pipeline_wrote_is_a_result_too(bench_plot, tmp_path):
    result = json.loads(ON_CPU.read_text())
    content = {
        "per_image": {},
        "gpu": {"gpu": "NVIDIA H200"},
        "preset": "base",
        "settings": "2448x2048 BayerRG8",
        "alone": result["alone"],
        "line": result["pipelined"],
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(content))
    case = bench_plot.read_case(tmp_path / "pipeline.json")
    assert case.overlap_efficiency == result["overlap_efficiency"]
    # PyTorch's network is not the one whose floor was computed for TensorRT.
    assert "H200" in [device.name for device in bench_plot.missing_devices([case])]


def test_table_and_plot(bench_plot, on_orin, capsys, tmp_path):
    out = tmp_path / "plot.png"
    assert bench_plot.main([str(ON_CPU), str(on_orin), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("| device | network and frame |")
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
