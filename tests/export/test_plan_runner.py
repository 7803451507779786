"""The runner of plans, on stand-ins for the driver and for TensorRT."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle import Bundle, load_bundle
from edge.errors import AcceleratorError, EngineError


@pytest.fixture
def bundle(bundle_dir: Path) -> Bundle:
    return load_bundle(bundle_dir)


@pytest.fixture
def runner(fake_cuda: Any, fake_tensorrt: Any, compiled_kernels: None, tmp_path: Path) -> Callable[[], Any]:
    from export.plan_runner import GpuPlanRunner

    return lambda: GpuPlanRunner(tmp_path)


@pytest.fixture
def plan(runner: Callable[[], Any], fake_tensorrt: Any, bundle: Bundle) -> bytes:
    facts = runner().facts
    made: bytes = fake_tensorrt.make_plan((bundle.path / "model.fp32.onnx").read_bytes(), facts, facts.tensorrt)
    return made


def test_every_image_gets_its_own_answer(
    runner: Callable[[], Any], plan: bytes, bundle: Bundle, fake_cuda: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    golden, gpu = bundle.golden(), runner()
    for _ in range(2):
        maps, scores = gpu.run(plan, "fp32", golden.image)
        np.testing.assert_allclose(maps, golden.anomaly_map, rtol=1e-6)
        np.testing.assert_allclose(scores, golden.score, rtol=1e-6)
    assert maps.dtype == scores.dtype == np.float32
    assert fake_cuda.live() == {}
    assert "clean-up" not in capfd.readouterr().err


def test_the_facts_are_the_devices(runner: Callable[[], Any], fake_cuda: Any) -> None:
    fake_cuda.set_device(name="Orin", compute_capability=(8, 7), driver_version=12060)
    facts = runner().facts
    assert (facts.gpu, facts.compute_capability, facts.driver) == ("Orin", (8, 7), "12.6")
    assert facts.tensorrt == sys.modules["tensorrt"].__version__


def test_what_cannot_be_loaded_or_run_is_said(
    runner: Callable[[], Any], plan: bytes, bundle: Bundle, fake_tensorrt: Any, fake_cuda: Any
) -> None:
    images, gpu = bundle.golden().image, runner()
    with pytest.raises(EngineError, match="the plan is damaged"):
        gpu.run(b"no plan", "fp32", images)
    fake_tensorrt.fake.fail_enqueue = True
    with pytest.raises(EngineError, match="does not run the plan"):
        gpu.run(plan, "fp32", images)
    fake_tensorrt.fake.fail_enqueue = False
    fake_cuda.fail_next("cuMemAlloc", 2, every=1)
    with pytest.raises(EngineError, match="the GPU has no memory left"):
        gpu.run(plan, "fp32", images)


def test_a_machine_without_gpu_is_refused(runner: Callable[[], Any], fake_cuda: Any) -> None:
    fake_cuda.set_device(count=0)
    with pytest.raises(AcceleratorError, match="no NVIDIA GPU answers"):
        runner()
