"""The CUDA pipeline's benchmark as far as it goes without a GPU: its figures, its command line, kernel and copy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge.bench.result import STAGES, Alone, Distribution, Growth, Pipelined

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def cuda_pipeline(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import cuda_pipeline

    return cuda_pipeline


def test_figures_of_a_pipeline_known_by_construction(cuda_pipeline):
    one_ms = Distribution.of([1.0] * 10)
    stages = dict.fromkeys(STAGES, one_ms) | {"infer": Distribution.of([4.0] * 10)}
    alone = Alone(stages=stages, total=Distribution.of([8.0] * 10))
    # 240 frames per second where 250 were possible; one frame in fifty takes twice as long
    line = Pipelined(latency=Distribution.of([8.0] * 98 + [16.0] * 2), throughput_hz=240, verdicts={"OK": 100})
    growths = {"host": Growth.of([0, 99], [10**9, 10**9 + 99 * 20_000]), "GPU": Growth.of([0, 99], [10**9] * 2)}
    per_image = {cuda_pipeline.HALF: {"times_faster": 7.5}}
    found = cuda_pipeline.figures(alone, line, growths, 0.02, 0.01, per_image)
    assert [round(figure.value, 4) for figure in found] == [0.96, 2, 2, 2_000_000, pytest.approx(0, abs=1e-3), 7.5]
    assert [figure.is_met for figure in found] == [True, True, False, False, True, False]
    assert found[0].row() == "| overlap efficiency | 0.96 | ≥ 0.95 | yes |"
    assert found[2].row() == "| end to end p99 / p50, 100 frames | 2 | ≤ 1.5 | NO |"


def test_a_variant_that_cannot_be_computed_gives_no_figure(cuda_pipeline):
    ms = Distribution.of([1.0])
    alone, line = Alone(stages={"infer": ms}, total=ms), Pipelined(latency=ms, throughput_hz=1, verdicts={})
    found = cuda_pipeline.figures(alone, line, {}, 1.0, 1.0, {cuda_pipeline.HALF: {"not_measured": "no CUDA"}})
    assert len(found) == 3


def test_without_a_gpu_one_line_says_so(cuda_pipeline, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_pipeline.torch.cuda, "is_available", lambda: False)
    out = tmp_path / "result.json"
    assert cuda_pipeline.main(["--out", str(out)]) == 2
    assert capsys.readouterr() == ("", "not measured: no CUDA device\n")
    assert not out.exists()


def test_a_size_is_two_numbers(cuda_pipeline, capsys):
    assert cuda_pipeline.parse_arguments(["--size", "640x480"]).size == (640, 480)
    with pytest.raises(SystemExit):
        cuda_pipeline.parse_arguments(["--size", "640"])
    assert "'640' is not a size in pixels" in capsys.readouterr().err


def test_kernel_and_copy_are_timed_as_graphs(cuda_pipeline, fake_cuda, host_kernels_path, monkeypatch):
    from edge.cuda import Gpu
    from edge.engines.gpu_kernels import Kernels

    monkeypatch.setattr("kernel_time.COPIES", 2)
    monkeypatch.setattr("kernel_time.REPEATS", 2)
    with closing(Gpu()) as gpu, gpu.current():
        times_ms = cuda_pipeline.preprocess_and_copy_ms(Kernels(host_kernels_path.read_bytes()), (64, 48))
    assert all(np.isfinite(times_ms))


@pytest.mark.gpu
def test_on_a_gpu_every_figure_is_found(cuda_pipeline, tmp_path):
    if reason := cuda_pipeline.missing():
        pytest.skip(reason)
    out = tmp_path / "result.json"
    command = [sys.executable, BENCHMARKS / "cuda_pipeline.py", "--preset", "tiny", "--frames", "200", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    subprocess.run([*command, "--out", out], check=True, env=environment, cwd=tmp_path)
    result = json.loads(out.read_text())
    assert len(result["figures"]) == 6
    assert result["cuda_graphs"]
    assert result["map_difference_of_maximum"] < 1e-2
    assert result["line"]["verdicts"] == {"OK": 200}
